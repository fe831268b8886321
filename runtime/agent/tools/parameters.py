"""The parameters of a tool: a JSON schema for the model, marshmallow fields for what it sends.

Both are made from Python types. Models' servers differ in what schemas they take, so these are
plain: each has a `type`, a choice is one of texts, and no `format` says what a sentence can.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

from marshmallow import ValidationError, fields

from runtime.agent.tools.argument_fields import (
    MESSAGES,
    Arguments,
    Choice,
    Dict,
    Integer,
    List,
    Union,
    choice_text,
    invalid,
)
from runtime.agent.tools.result_text import plain

# OpenAI refuses a longer one.
MAX_DESCRIPTION_CHARS = 1024
# As a parameter of an object or a list that a tool takes; deeper ones cost more than they tell.
MAX_DEPTH = 8
CHOICES = (str, int, float, bool)


@dataclass(frozen=True)
class Member:
    """A parameter of a function, a field of a dataclass, or a key of a TypedDict."""

    name: str
    hint: Any
    default: Any = inspect.Parameter.empty
    description: str | None = None

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty


def object_of(members: Sequence[Member], place: str, depth: int = 0) -> type[Arguments]:
    """The class that loads an object with these members; its `json_schema` is what a model reads.

    `place` is what an error names. Raises TypeError for a type that no tool can take.
    """
    loaders = {}
    for member in members:
        where = f"{place}({member.name})" if not depth else f"{place}.{member.name}"
        loaders[member.name] = _member(member, where, depth)
    made = Arguments.from_dict(loaders, name="ToolArguments")
    made.json_schema = {
        "type": "object",
        "properties": {name: field.metadata for name, field in loaders.items()},
        "required": [member.name for member in members if member.is_required],
        "additionalProperties": False,
    }
    return made


def _member(member: Member, place: str, depth: int) -> fields.Field:
    hint, is_nullable = _without_null(member.hint)
    if member.default is None and not is_nullable:
        raise TypeError(f"{place}: the default does not fit its type")
    # Where None is the default a null is taken for it: some servers take no schema with a null.
    field = field_of(hint if member.default is None else member.hint, place, depth)
    if member.description and not _words_in(member.hint):
        field.metadata["description"] = member.description
    demand_short(f"{place}: the description", field.metadata.get("description", ""))
    if not member.is_required and member.default is not None:
        field.metadata["default"] = _default(member.default, field, place)
    field.required = member.is_required
    return field


def demand_short(what: str, text: str) -> None:
    """Raise TypeError if a text for a model is too long; it says `what` is."""
    if len(text) > MAX_DESCRIPTION_CHARS:
        most = f"more than {MAX_DESCRIPTION_CHARS} characters"
        raise TypeError(f"{what} has {most}, which models' servers refuse")


def _default(value: Any, field: fields.Field, place: str) -> Any:
    """The default as a model reads it. Raises TypeError when it is none of its type."""
    told = float(value) if isinstance(value, Decimal) else plain(value)
    if isinstance(field, Choice):
        told = choice_text(told)
    try:
        fits = field.deserialize(told) == value
    except ValidationError:
        fits = False
    if not fits:
        raise TypeError(f"{place}: the default does not fit its type")
    return told


def _words_in(hint: Any) -> str | None:
    """What an Annotated type says of itself."""
    notes = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return next((note for note in notes if isinstance(note, str)), None)


def field_of(hint: Any, place: str, depth: int = 0) -> fields.Field:
    """What a tool takes for a Python type: the field's `metadata` is the schema for a model.

    Raises TypeError for a type that it cannot take.
    """
    if depth > MAX_DEPTH:
        raise TypeError(f"{place}: types are nested more than {MAX_DEPTH} deep, or hold themselves")
    if isinstance(hint, type) and hint in _SCALARS:
        return _SCALARS[hint]()
    if isinstance(hint, typing.NewType):
        return field_of(hint.__supertype__, place, depth)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        field = field_of(arguments[0], place, depth)
        if words := _words_in(hint):
            field.metadata["description"] = words
        return field
    if origin is Literal:
        return _choice({choice_text(value): value for value in arguments}, len(arguments), place)
    if origin in (typing.Union, types.UnionType):
        return _union(hint, place, depth)
    if origin in _COLLECTIONS and arguments[1:] in ((), (...,)):
        item = field_of(arguments[0], place, depth + 1)
        schema = {"type": "array", "items": item.metadata}
        make = _COLLECTIONS[origin]
        return List(item, make, metadata=schema, error_messages=invalid("array"))
    if origin is dict and arguments[0] is str:
        return _mapping(arguments[1], place, depth)
    if isinstance(hint, type):
        return _class(hint, place, depth)
    raise TypeError(f"{place}: {hint!r} is no type a tool can take")


def _class(hint: type, place: str, depth: int) -> fields.Field:
    if issubclass(hint, Enum):
        choices = {choice_text(plain(member)): member for member in hint}
        return _choice(choices, len(choices), place)
    if dataclasses.is_dataclass(hint):
        return _nested(_dataclass_members(hint), hint, place, depth)
    if typing.is_typeddict(hint):
        return _nested(_typed_dict_members(hint), None, place, depth)
    if hint in _COLLECTIONS:
        raise TypeError(f"{place}: {hint.__name__} of what? Write for example list[str]")
    raise TypeError(f"{place}: {hint.__name__} is no type a tool can take")


def _without_null(hint: Any) -> tuple[Any, bool]:
    """The type without None, its words kept, and whether None was one of its values."""
    if typing.get_origin(hint) is Annotated:
        inner, is_nullable = _without_null(hint.__origin__)
        return Annotated[(inner, *hint.__metadata__)], is_nullable
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        return typing.Union[tuple(kinds)], len(kinds) < len(typing.get_args(hint))  # noqa: UP007
    return hint, False


def _union(hint: Any, place: str, depth: int) -> fields.Field:
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    is_nullable = len(kinds) < len(typing.get_args(hint))
    taken = [field_of(kind, place, depth) for kind in kinds]
    schema = {"anyOf": [field.metadata for field in taken] + [{"type": "null"}] * is_nullable}
    return Union(taken, allow_none=is_nullable, metadata=schema, error_messages=MESSAGES)


def _choice(choices: dict[str, Any], count: int, place: str) -> fields.Field:
    if len(choices) < count or not all(type(plain(v)) in CHOICES for v in choices.values()):
        raise TypeError(f"{place}: the choices must be different texts, numbers or booleans")
    # Some servers take no other choices than texts, and none without its type.
    schema = {"type": "string", "enum": list(choices)}
    return Choice(choices, metadata=schema, error_messages=MESSAGES)


def _mapping(hint: Any, place: str, depth: int) -> fields.Field:
    if hint is Any:
        return _SCALARS[dict]()
    values = field_of(hint, place, depth + 1)
    schema = {"type": "object", "additionalProperties": values.metadata}
    return Dict(values=values, metadata=schema, error_messages=invalid("object"))


def _nested(
    members: Sequence[Member], make: Callable[..., Any] | None, place: str, depth: int
) -> fields.Field:
    loader = object_of(members, place, depth + 1)
    loader.make = make
    return fields.Nested(loader, metadata=loader.json_schema, error_messages=MESSAGES)


def _dataclass_members(hint: type) -> list[Member]:
    hints = typing.get_type_hints(hint, include_extras=True)
    members = []
    for field in dataclasses.fields(hint):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if field.init:
            members.append(Member(field.name, hints[field.name], default))
    return members


def _typed_dict_members(hint: Any) -> list[Member]:
    """The keys. A key that may be left out may be null too."""
    members = []
    for name, kind in typing.get_type_hints(hint, include_extras=True).items():
        if typing.get_origin(kind) in (typing.Required, typing.NotRequired):
            kind = typing.get_args(kind)[0]
        if name in hint.__required_keys__:
            members.append(Member(name, kind))
        else:
            members.append(Member(name, typing.Optional[kind], None))  # noqa: UP045
    return members


def _scalar(
    field: type[fields.Field], kind: str, words: str | None = None, **options: Any
) -> Callable[[], fields.Field]:
    schema = {"type": kind, **({"description": words} if words else {})}
    messages = invalid(kind) if words is None else invalid(f"{kind}, {words}")
    return lambda: field(metadata=dict(schema), error_messages=messages, **options)


_SCALARS: dict[type, Callable[[], fields.Field]] = {
    str: _scalar(fields.String, "string"),
    int: _scalar(Integer, "integer", strict=True),
    float: _scalar(fields.Float, "number", allow_nan=False),
    bool: _scalar(
        fields.Boolean, "boolean", truthy={True, "true", "True"}, falsy={False, "false", "False"}
    ),
    Decimal: _scalar(fields.Decimal, "number", allow_nan=False),
    datetime: _scalar(fields.DateTime, "string", "an ISO 8601 date and time", format="iso"),
    date: _scalar(fields.Date, "string", "an ISO 8601 date", format="iso"),
    time: _scalar(fields.Time, "string", "an ISO 8601 time", format="iso"),
    UUID: _scalar(fields.UUID, "string", "a UUID"),
    dict: _scalar(Dict, "object"),
}
_COLLECTIONS: dict[Any, Callable[[list], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    Sequence: list,
}
