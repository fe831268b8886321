"""Reads bodies, queries and paths, stricter than webargs: every fault is a 422 of ours."""

from urllib.parse import quote

import marshmallow as ma
from flask import Request
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from runtime.api.json_body import FEW_OBJECTS_BYTES, InvalidJSON, decode
from runtime.api.schemas.base import MAX_FAULTS
from runtime.database.base import release
from runtime.errors import Fault, InvalidParameters

# Of one body: each name that is unknown costs 5 microseconds.
MAX_FIELDS = 1000


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
        except InvalidJSON as error:
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
        raise InvalidParameters(*faults_of(messages, location)[:MAX_FAULTS]) from error


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


def faults_of(messages, location: str, where: str = "") -> list[Fault]:
    """marshmallow's tree of messages as a flat list."""
    if isinstance(messages, dict):
        return [
            fault
            for name, inner in messages.items()
            for fault in faults_of(inner, location, where + _step(name, location))
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
