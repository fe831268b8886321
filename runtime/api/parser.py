"""Reads bodies, queries and paths, stricter than the libraries: every fault is a 422 of ours.

JSON here is RFC 8259's: UTF-8, no NaN, no name twice in an object. Numbers beyond 64 bits and
values nested deeper than anything this API takes are faults too, not something to crash on.
"""

import json
import math
import threading
from collections.abc import Callable
from itertools import count
from urllib.parse import quote

import marshmallow as ma
from flask import Request
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from runtime.api.schemas.base import MAX_FAULTS
from runtime.database.base import release
from runtime.errors import Fault, InvalidParameters

MAX_DEPTH = 32
MAX_DIGITS = 18
# Of one body: each name that is unknown costs 5 microseconds, each object 300 bytes.
MAX_FIELDS = 1000
MAX_OBJECTS = 20_000
# A body up to here has no room for so many.
FEW_OBJECTS_BYTES = 2 * MAX_OBJECTS


class _InvalidJSON(ValueError):
    """The body is not JSON as this API takes it; the argument is its sentence's code."""


class Parser(FlaskParser):
    """webargs, with our own reading of JSON, no unknown parameters and no repeated ones.

    A body's schema says itself what becomes of unknown fields; unless it does, they are refused.
    """

    DEFAULT_UNKNOWN_BY_LOCATION = {
        "query": ma.RAISE,
        "path": ma.RAISE,
        "headers": ma.EXCLUDE,
    }

    def load_json(self, req: Request, schema: ma.Schema):
        """The body. Raises InvalidParameters when it is not a JSON object."""
        if req.content_length is None or req.content_length > FEW_OBJECTS_BYTES:
            release()  # Such wait for each other: meanwhile the database is others' to ask.
        body = _read(req)
        if req.mimetype != "application/json" or not _is_utf8(req):
            raise InvalidParameters(Fault("#", "wrong_content_type"))
        try:
            value = decode(body)
        except _InvalidJSON as error:
            raise InvalidParameters(Fault("#", str(error))) from error
        if len(value) > MAX_FIELDS:
            raise InvalidParameters(Fault("#", f"too_many {MAX_FIELDS}"))
        return value

    def load_querystring(self, req: Request, schema: ma.Schema) -> MultiDictProxy:
        """The query. Raises InvalidParameters when a name stands in it twice."""
        repeated = [name for name, values in req.args.lists() if len(values) > 1]
        if repeated:
            faults = [Fault(name, "repeated_field", is_in_body=False) for name in repeated]
            raise InvalidParameters(*faults[:MAX_FAULTS])
        return super().load_querystring(req, schema)

    def handle_error(self, error: ma.ValidationError, req, schema, **_status):
        """Raises InvalidParameters with a fault for each parameter that marshmallow refused."""
        (location, messages), *_ = error.messages.items()
        # marshmallow keeps the error in a frame that the error keeps: with them the body, whole,
        # would wait for the collector.
        error.with_traceback(None)
        # Not all of a body's 100,000 unknown fields: the answer would outgrow the question.
        raise InvalidParameters(*_faults(messages, location)[:MAX_FAULTS]) from error


def decode(body: bytes) -> dict:
    """The JSON object in `body`. Raises ValueError with the code of a sentence."""
    if len(body) <= FEW_OBJECTS_BYTES:
        return _decode(body, _decoder)
    with _one_long_body:
        return _decode(body, _decoder_of(_few_and_unique()))


def _decode(body: bytes, decoder: json.JSONDecoder) -> dict:
    try:
        value = decoder.decode(body.decode())
    except _InvalidJSON:
        raise
    except (ValueError, RecursionError) as error:
        raise _InvalidJSON("not_json") from error
    if not isinstance(value, dict):
        raise _InvalidJSON("not_an_object")
    _demand_sane(value)
    return value


def _read(req: Request) -> bytes:
    try:
        body = req.get_data()
        # Of a body in chunks werkzeug reads what is allowed and drops the rest in silence.
        may_be_more = req.content_length is None and len(body) == req.max_content_length
        if may_be_more and req.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge
    except HTTPException:
        raise
    except Exception as error:
        # A body that breaks off, or whose chunks are malformed: the server raises errors of its
        # own from within the read, and gunicorn's have no parent but Exception.
        raise BadRequest from error
    if len(body) < (req.content_length or 0):
        raise BadRequest  # cut off (RFC 9112 §8), which gunicorn says nothing about
    return body


def _is_utf8(req: Request) -> bool:
    return req.mimetype_params.get("charset", "utf-8").lower() in ("utf-8", "utf8")


def _unique(pairs: list[tuple]) -> dict:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _InvalidJSON("repeated_field")
    return value


def _whole(digits: str) -> int:
    # int() itself refuses more than 4,300 digits, with another error.
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise _InvalidJSON("not_json")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _InvalidJSON("not_json")
    return number


def _no_constant(name: str):
    raise _InvalidJSON("not_json")


def _few_and_unique() -> Callable[[list[tuple]], dict]:
    """`_unique` for the objects of one body, of which there may be MAX_OBJECTS."""
    number = count(1)

    def unique(pairs: list[tuple]) -> dict:
        if next(number) > MAX_OBJECTS:
            raise _InvalidJSON("too_many_values")
        return _unique(pairs)

    return unique


def _decoder_of(make_object: Callable[[list[tuple]], dict]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=make_object,
        parse_int=_whole,
        parse_float=_finite,
        parse_constant=_no_constant,
    )


_decoder = _decoder_of(_unique)
# One may take thirty times its length in memory before it is refused. All at once are no faster.
_one_long_body = threading.Lock()


def _demand_sane(value: object) -> None:
    """Refuse deep nesting, too many lists, and lone surrogates, which no encoder takes."""
    level = [value]
    lists = 0
    for _depth in range(MAX_DEPTH):
        inside = []
        for item in level:
            if isinstance(item, str) and not _is_text(item):
                raise _InvalidJSON("not_json")
            if isinstance(item, dict):
                inside += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inside += item
                lists += 1
        if lists > MAX_OBJECTS:
            raise _InvalidJSON("too_many_values")
        if not inside:
            return
        level = inside
    raise _InvalidJSON("not_json")


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _faults(messages, location: str, where: str = "") -> list[Fault]:
    """marshmallow's tree of messages as a flat list."""
    if isinstance(messages, dict):
        return [
            fault
            for name, inner in messages.items()
            for fault in _faults(inner, location, where + _step(name, location))
        ]
    is_in_body = location == "json"
    where = f"#{where}" if is_in_body else where
    return [Fault(where, str(message), is_in_body) for message in messages]


def _step(name, location: str) -> str:
    """One step of a JSON pointer as a URI fragment (RFC 6901 §6), or a parameter's plain name."""
    if name == "_schema":
        return ""
    name = str(name)
    if location != "json":
        return name
    return "/" + quote(name.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")
