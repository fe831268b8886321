"""JSON as RFC 8259 has it and no more: UTF-8, no NaN, no name twice in an object.

Numbers beyond 64 bits and values nested deeper than anything this API takes are refused too, not
something to crash on.
"""

import json
import math
import threading
from contextlib import nullcontext
from itertools import count

MAX_DEPTH = 32
MAX_DIGITS = 18
# Of one body: each object takes 300 bytes.
MAX_OBJECTS = 20_000
# A body up to here has no room for so many.
FEW_OBJECTS_BYTES = 2 * MAX_OBJECTS

# One may take thirty times its length in memory before it is refused. All at once are no faster.
_one_long_body = threading.Lock()


class InvalidJSON(ValueError):
    """The body is not JSON as this API takes it; the argument is its sentence's code."""


def decode(body: bytes) -> dict:
    """The JSON object in `body`. Raises InvalidJSON."""
    with _one_long_body if len(body) > FEW_OBJECTS_BYTES else nullcontext():
        try:
            value = json.loads(
                body.decode(),
                object_pairs_hook=_Objects().make,
                parse_int=_whole,
                parse_float=_finite,
                parse_constant=_no_constant,
            )
        except InvalidJSON:
            raise
        except (ValueError, RecursionError) as error:
            raise InvalidJSON("not_json") from error
        if not isinstance(value, dict):
            raise InvalidJSON("not_an_object")
        _demand_sane(value)
    return value


class _Objects:
    """The objects of one body, of which there may be MAX_OBJECTS."""

    def __init__(self):
        self._numbers = count(1)

    def make(self, pairs: list[tuple]) -> dict:
        """An object of these members. Raises InvalidJSON when a name stands in it twice."""
        if next(self._numbers) > MAX_OBJECTS:
            raise InvalidJSON("too_many_values")
        value = dict(pairs)
        if len(value) != len(pairs):
            raise InvalidJSON("repeated_field")
        return value


def _whole(digits: str) -> int:
    # int() itself refuses more than 4,300 digits, with another error.
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise InvalidJSON("not_json")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise InvalidJSON("not_json")
    return number


def _no_constant(name: str) -> None:
    raise InvalidJSON("not_json")


def _demand_sane(value: object) -> None:
    """Refuse deep nesting, too many lists, and lone surrogates, which no encoder takes."""
    level = [value]
    lists = 0
    for _depth in range(MAX_DEPTH):
        inside = []
        for item in level:
            if isinstance(item, str) and not _is_text(item):
                raise InvalidJSON("not_json")
            if isinstance(item, dict):
                inside += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inside += item
                lists += 1
        if lists > MAX_OBJECTS:
            raise InvalidJSON("too_many_values")
        if not inside:
            return
        level = inside
    raise InvalidJSON("not_json")


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
