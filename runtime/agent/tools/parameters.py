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

JsonSchema = dict[str, Any]

# OpenAI refuses a longer one.
MAX_DESCRIPTION_CHARS = 1024
# As a parameter of an object or a list that a tool takes; deeper ones cost more than they tell.
MAX_DEPTH = 8
CHOICES = (str, int, float, bool)


@dataclass(frozen=True)
class ParameterType:
    """A type as a tool takes it: the schema that a model reads, the field that makes its value."""

    schema: JsonSchema
    field: fields.Field


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


def object_of(members: Sequence[Member], place: str, depth: int = 0) -> tuple[JsonSchema, type]:
    """The schema of an object with these members, and the class that loads one.

    `place` is what an error names. Raises TypeError for a type that no tool can take.
    """
    schemas, loaders = {}, {}
    for member in members:
        where = f"{place}({member.name})" if not depth else f"{place}.{member.name}"
        kind = _member(member, where, depth)
        schemas[member.name], loaders[member.name] = kind.schema, kind.field
    schema = {
        "type": "object",
        "properties": schemas,
        "required": [member.name for member in members if member.is_required],
        "additionalProperties": False,
    }
    return schema, Arguments.from_dict(loaders, name="ToolArguments")


def _member(member: Member, place: str, depth: int) -> ParameterType:
    hint, is_nullable = _without_null(member.hint)
    if member.default is None and not is_nullable:
        raise TypeError(f"{place}: the default does not fit its type")
    # Where None is the default a null is taken for it: some servers take no schema with a null.
    kind = parameter_type(hint if member.default is None else member.hint, place, depth)
    schema = dict(kind.schema)
    if member.description and not _has_own_words(member.hint):
        schema["description"] = member.description
    _demand_short(schema.get("description", ""), place)
    if not member.is_required and member.default is not None:
        schema["default"] = _default(member.default, kind, place)
    kind.field.required = member.is_required
    return ParameterType(schema, kind.field)


def _default(value: Any, kind: ParameterType, place: str) -> Any:
    """The default as a model reads it. Raises TypeError when it is none of its type."""
    told = float(value) if isinstance(value, Decimal) else plain(value)
    if isinstance(kind.field, Choice):
        told = choice_text(told)
    try:
        if kind.field.deserialize(told) != value:
            raise ValidationError("another value")
    except ValidationError as error:
        raise TypeError(f"{place}: the default does not fit its type") from error
    return told


def _demand_short(description: str, place: str) -> None:
    if len(description) > MAX_DESCRIPTION_CHARS:
        raise TypeError(
            f"{place}: the description has more than {MAX_DESCRIPTION_CHARS} characters, which"
            " models' servers refuse"
        )


def _has_own_words(hint: Any) -> bool:
    own = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return any(isinstance(word, str) for word in own)


def parameter_type(hint: Any, place: str, depth: int = 0) -> ParameterType:
    """What a tool takes for a Python type. Raises TypeError for one that it cannot take."""
    if depth > MAX_DEPTH:
        raise TypeError(f"{place}: types are nested more than {MAX_DEPTH} deep, or hold themselves")
    if isinstance(hint, type) and hint in _SCALARS:
        return _SCALARS[hint]()
    if isinstance(hint, typing.NewType):
        return parameter_type(hint.__supertype__, place, depth)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _annotated(parameter_type(arguments[0], place, depth), arguments[1:])
    if origin is Literal:
        return _choice({choice_text(value): value for value in arguments}, len(arguments), place)
    if origin in (typing.Union, types.UnionType):
        return _union(hint, place, depth)
    if origin in _COLLECTIONS and arguments[1:] in ((), (...,)):
        return _collection(_COLLECTIONS[origin], parameter_type(arguments[0], place, depth + 1))
    if origin is dict and arguments[0] is str:
        return _mapping(arguments[1], place, depth)
    if isinstance(hint, type):
        return _class(hint, place, depth)
    raise TypeError(f"{place}: {_name(hint)} is no type a tool can take")


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else repr(hint)


def _class(hint: type, place: str, depth: int) -> ParameterType:
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


def _annotated(kind: ParameterType, notes: Sequence[Any]) -> ParameterType:
    words = next((note for note in notes if isinstance(note, str)), None)
    return ParameterType({**kind.schema, "description": words}, kind.field) if words else kind


def _without_null(hint: Any) -> tuple[Any, bool]:
    """The type without None, its words kept, and whether None was one of its values."""
    if typing.get_origin(hint) is Annotated:
        inner, is_nullable = _without_null(hint.__origin__)
        return Annotated[(inner, *hint.__metadata__)], is_nullable
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        return typing.Union[tuple(kinds)], len(kinds) < len(typing.get_args(hint))  # noqa: UP007
    return hint, False


def _union(hint: Any, place: str, depth: int) -> ParameterType:
    without, is_nullable = _without_null(hint)
    if typing.get_origin(without) not in (typing.Union, types.UnionType):
        kinds = [parameter_type(without, place, depth)]
    else:
        kinds = [parameter_type(each, place, depth) for each in typing.get_args(without)]
    schemas = [kind.schema for kind in kinds] + [{"type": "null"}] * is_nullable
    field = Union([kind.field for kind in kinds], allow_none=is_nullable, error_messages=MESSAGES)
    return ParameterType({"anyOf": schemas}, field)


def _choice(choices: dict[str, Any], count: int, place: str) -> ParameterType:
    if len(choices) < count or not all(type(plain(v)) in CHOICES for v in choices.values()):
        raise TypeError(f"{place}: the choices must be different texts, numbers or booleans")
    field = Choice(choices, error_messages=MESSAGES)
    # Some servers take no other choices than texts, and none without its type.
    return ParameterType({"type": "string", "enum": list(choices)}, field)


def _collection(make: Callable[[list], Any], item: ParameterType) -> ParameterType:
    field = List(item.field, make, error_messages=invalid("array"))
    return ParameterType({"type": "array", "items": item.schema}, field)


def _mapping(hint: Any, place: str, depth: int) -> ParameterType:
    if hint is Any:
        return _SCALARS[dict]()
    values = parameter_type(hint, place, depth + 1)
    field = Dict(values=values.field, error_messages=invalid("object"))
    return ParameterType({"type": "object", "additionalProperties": values.schema}, field)


def _nested(
    members: Sequence[Member], make: Callable[..., Any] | None, place: str, depth: int
) -> ParameterType:
    schema, loader = object_of(members, place, depth + 1)
    loader.make = make
    return ParameterType(schema, fields.Nested(loader, error_messages=MESSAGES))


def _dataclass_members(hint: type) -> list[Member]:
    hints = typing.get_type_hints(hint, include_extras=True)
    return [
        Member(field.name, hints[field.name], _default_of(field))
        for field in dataclasses.fields(hint)
        if field.init
    ]


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _typed_dict_members(hint: Any) -> list[Member]:
    hints = typing.get_type_hints(hint, include_extras=True)
    required, optional = inspect.Parameter.empty, None
    return [
        Member(name, _marked(kind, name in hint.__required_keys__), default)
        for name, kind in hints.items()
        for default in [required if name in hint.__required_keys__ else optional]
    ]


def _marked(hint: Any, is_required: bool) -> Any:
    """The type of a TypedDict's key, one that may be left out taken as one that may be null."""
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        hint = typing.get_args(hint)[0]
    return hint if is_required else typing.Optional[hint]  # noqa: UP045


def _scalar(
    field: type[fields.Field], kind: str, words: str | None = None, **options: Any
) -> Callable[[], ParameterType]:
    schema = {"type": kind, **({"description": words} if words else {})}
    messages = invalid(kind) if words is None else invalid(f"{kind}, {words}")
    return lambda: ParameterType(dict(schema), field(error_messages=messages, **options))


_SCALARS: dict[type, Callable[[], ParameterType]] = {
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
