"""Fields: what a value in a request or an answer may be, and how the OpenAPI document says so.

A field's messages are codes of `runtime.i18n`, with the numbers for their places behind them.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import marshmallow as ma
from marshmallow import validate

from runtime.database.pagination import CURSOR

ID = "3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11"
MESSAGE_ID = "7d0e6f0a-6df5-4f4f-9a7c-6f7b0b6b0f7e"

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Documented:
    """A field with an example and a word about it in the OpenAPI document."""

    def __init__(self, *args, example=None, description=None, metadata=None, **kwargs):
        metadata = dict(metadata or {})
        if example is not None:
            metadata["examples"] = [example]
        if description is not None:
            metadata["description"] = description
        super().__init__(*args, metadata=metadata, **kwargs)


class Fits(validate.Validator):
    """Text of a length (apispec reads `min` and `max`) that matches a pattern, as a whole.

    `check` gives the code of what is still wrong with a text, or None. One fault is told, the
    first.
    """

    equal = None

    def __init__(
        self,
        low: int | None,
        high: int | None,
        pattern: str | None,
        mismatch: str,
        check: Callable[[str], str | None] | None,
    ):
        self.min, self.max = low, high
        # Compiled at its first use, and kept by `re`: a URL's takes 5 ms of every start.
        self._pattern = pattern
        self._mismatch = mismatch
        self._check = check

    def __call__(self, value: str) -> str:
        if fault := self._fault_of(value):
            raise ma.ValidationError(fault)
        return value

    def _fault_of(self, value: str) -> str | None:
        if self.min is not None and len(value) < self.min:
            return f"too_short {self.min}"
        if self.max is not None and len(value) > self.max:
            return f"too_long {self.max}"
        if self._pattern and not re.fullmatch(self._pattern, value):
            return self._mismatch
        return self._check(value) if self._check else None


class String(Documented, ma.fields.String):
    """Text as `Fits` has it; the pattern is one for Python and ECMA-262 alike."""

    default_error_messages = {
        "required": "required",
        "null": "not_null",
        "invalid": "not_a_string",
    }

    def __init__(
        self, *, low=None, high=None, pattern=None, mismatch="", metadata=None, check=None, **kwargs
    ):
        metadata = ({"pattern": f"^{pattern}$"} if pattern else {}) | (metadata or {})
        fits = Fits(low, high, pattern, mismatch, check)
        super().__init__(metadata=metadata, validate=fits, **kwargs)


class PlainText(String):
    """Text that Postgres can keep: all but NUL."""

    def __init__(self, **kwargs):
        super().__init__(pattern=r"[^\u0000]*", mismatch="invalid_character", **kwargs)


class Word(String):
    """One of a few words, in an answer."""

    def __init__(self, *words: str, **kwargs):
        super().__init__(metadata={"enum": [str(word) for word in words]}, **kwargs)


class Choice(Word):
    """One of a few words, in a request."""

    def __init__(self, *words: str, **kwargs):
        super().__init__(*words, **kwargs)
        self.validators = [validate.OneOf(words, error=f"not_one_of {'/'.join(words)}")]


class Device(String):
    """The name of the device that a request came from; null if it did not say."""

    def __init__(self, **kwargs):
        super().__init__(required=True, allow_none=True, example="Chrome · Windows", **kwargs)


class Network(String):
    """The network that a request came from."""

    def __init__(self, **kwargs):
        super().__init__(required=True, example="198.51.100.7", **kwargs)


class Cursor(String):
    """Where a page begins; an earlier page of the same list names it."""

    def __init__(self, **kwargs):
        super().__init__(
            pattern=CURSOR,
            mismatch="not_a_cursor",
            example="0654b5c1a2f80b74c1d0e8f3a4e5b9c6d7e8f90a1b2c3d",
            **kwargs,
        )


class Whole(ma.fields.Integer):
    """A whole number in a query, in ASCII digits: int() would take `3_0` and `٣` too."""

    def __init__(self, low: int, high: int, **kwargs):
        self._error = f"not_between {low} {high}"
        super().__init__(validate=validate.Range(low, high, error=self._error), **kwargs)

    def _deserialize(self, value, attr, data, **kwargs) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise ma.ValidationError(self._error)
        return int(value)


class Count(Documented, ma.fields.Integer):
    """A whole number in an answer."""

    def __init__(self, example: int, *, low: int = 0, high: int | None = None, **kwargs):
        limits = {"minimum": low} | ({"maximum": high} if high else {})
        super().__init__(required=True, example=example, metadata=limits, **kwargs)


class Boolean(Documented, ma.fields.Boolean):
    """True or false, in an answer."""


class Flag(Boolean):
    """True or false, in a request: marshmallow would take `"yes"` and 1 too."""

    default_error_messages = {"null": "not_null", "invalid": "not_a_boolean"}

    def _deserialize(self, value, attr, data, **kwargs) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Id(Documented, ma.fields.UUID):
    """A UUID in its usual form (RFC 9562 §4)."""

    default_error_messages = {"null": "not_null", "invalid_uuid": "not_a_uuid"}

    def __init__(self, **kwargs):
        super().__init__(example=ID, **kwargs)

    def _deserialize(self, value, attr, data, **kwargs) -> uuid.UUID:
        # uuid.UUID() would take braces, a URN prefix and misplaced hyphens too.
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise self.make_error("invalid_uuid")
        return uuid.UUID(value)


class Instant(Documented, ma.fields.Field):
    """An instant in UTC, ISO 8601 with `Z`."""

    def __init__(self, **kwargs):
        shape = {"type": "string", "format": "date-time"}
        super().__init__(metadata=shape, example="2026-11-22T10:15:00.000Z", **kwargs)

    def _serialize(self, value: datetime | None, attr, obj, **kwargs) -> str | None:
        return value and value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Objects(Documented, ma.fields.List):
    """Objects of one shape, at most `high` in a request."""

    default_error_messages = {
        "required": "required",
        "null": "not_null",
        "invalid": "not_a_list",
    }

    def __init__(self, schema: type[ma.Schema], *, high: int | None = None, **kwargs):
        nested = ma.fields.Nested(schema, error_messages={"null": "not_an_object"})
        limit = validate.Length(max=high) if high else None
        super().__init__(nested, validate=limit, **kwargs)
        self._high = high

    def _deserialize(self, value, *args, **kwargs) -> list[dict]:
        # Before they are read, which takes marshmallow 50 microseconds for each.
        if self._high and isinstance(value, list) and len(value) > self._high:
            raise ma.ValidationError(f"too_many {self._high}")
        return super()._deserialize(value, *args, **kwargs)


class Rows(Objects):
    """The rows of a page."""

    def __init__(self, schema: type[ma.Schema]):
        super().__init__(schema, required=True, attribute="rows")


class Lazy(Objects):
    """A list of any length: what is made of its members comes one by one, when it is asked for."""

    def __init__(self, schema: type[ma.Schema]):
        super().__init__(schema, required=True)

    def _serialize(self, value: Iterable, attr, obj, **kwargs) -> Iterator[dict]:
        return (self.inner._serialize(each, attr, obj, **kwargs) for each in value)
