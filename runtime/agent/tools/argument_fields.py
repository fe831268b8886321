"""What a model sends for a tool's parameters, made into values by marshmallow fields.

They take what models write: 12.0 for an integer, a number as a text, JSON as a text, null for a
default. The errors are sentences for the model, each to stand behind the place of its value.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load

JsonSchema = dict[str, Any]

# What the model reads of a value that is not there.
MESSAGES = {"required": "is missing", "null": "must not be null"}


def invalid(kind: str) -> dict[str, str]:
    """The words for a value that is not of a kind, under each name that marshmallow has for it."""
    names = ("invalid", "special", "too_large", "format", "invalid_uuid", "invalid_utf8")
    return {**MESSAGES, **dict.fromkeys(names, f"must be of type {kind}")}


class Arguments(Schema):
    """An object that a model sends; a null where there is a default means the default."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "is unknown", "type": "must be of type object"}
    make: Callable[..., Any] | None = None
    json_schema: JsonSchema

    @pre_load
    def _read(self, data: Any, **_options: Any) -> Any:
        data = unpacked(data, dict)
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if not self._is_default(name, value)}

    def _is_default(self, name: str, value: Any) -> bool:
        field = self.fields.get(name)
        return value is None and field is not None and not (field.required or field.allow_none)

    @post_load
    def _make(self, data: dict[str, Any], **_options: Any) -> Any:
        if self.make is None:
            return data
        try:
            return type(self).make(**data)
        except (ValueError, TypeError) as error:
            raise ValidationError("is not valid") from error


class Integer(fields.Integer):
    """Takes 12.0 and "12" for 12, as models write it, but not 12.5."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> int:
        is_text = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value)
        if is_text or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        return super()._deserialize(value, *arguments, **options)


class List(fields.List):
    def __init__(self, inner: fields.Field, make: Callable[[list], Any], **options: Any):
        super().__init__(inner, **options)
        self._make = make

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        return self._make(super()._deserialize(unpacked(value, list), *arguments, **options))


class Dict(fields.Dict):
    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return super()._deserialize(unpacked(value, dict), *arguments, **options)
        except ValidationError as error:
            if isinstance(error.messages, list):
                raise
            # A member's key or value, which an object may have members by the name of.
            messages = {name: next(iter(each.values())) for name, each in error.messages.items()}
            raise ValidationError(messages) from error


class Choice(fields.Field):
    """One of some values, which the model reads and writes as texts."""

    def __init__(self, choices: dict[str, Any], **options: Any):
        super().__init__(**options)
        self._choices = choices

    def _deserialize(self, value: Any, *_arguments: Any, **_options: Any) -> Any:
        is_scalar = isinstance(value, str | int | float)
        if not is_scalar or choice_text(value) not in self._choices:
            raise ValidationError(
                f"must be one of {json.dumps([*self._choices], ensure_ascii=False)}"
            )
        return self._choices[choice_text(value)]


class Union(fields.Field):
    """One of some types: the first that takes the value as it is, else the first that takes it."""

    def __init__(self, kinds: list[fields.Field], **options: Any):
        super().__init__(**options)
        self._kinds = kinds

    def _deserialize(self, value: Any, *_arguments: Any, **_options: Any) -> Any:
        taken, errors = [], []
        for kind in self._kinds:
            try:
                taken.append(kind.deserialize(value))
            except ValidationError as error:
                errors.append(error)
        if not taken:
            raise errors[0] if len(errors) == 1 else ValidationError("is of none of its types")
        return next((each for each in taken if type(each) is type(value)), taken[0])


def unpacked(value: Any, wanted: type) -> Any:
    """The value, read once more where it is the JSON text of what is wanted."""
    if not isinstance(value, str):
        return value
    try:
        inner = json.loads(value, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return value
    return inner if isinstance(inner, wanted) else value


def refuse_constant(constant: str) -> None:
    """For `json.loads(parse_constant=)`: NaN and the infinities are no JSON. Raises ValueError."""
    raise ValueError(f"{constant} is not JSON")


def choice_text(value: Any) -> str:
    """A choice as the model writes it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)
