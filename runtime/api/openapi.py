"""The OpenAPI document: what flask-smorest adds of its own is left out, what it omits is added."""

import gzip
import threading
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import apispec
import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin, OpenAPIConverter
from flask import Response, request

from runtime.api import http, problems

DESCRIPTION = """\
请求与响应均为 UTF-8 的 JSON，未列出的字段一律拒绝，AG-UI 的请求除外。

所有错误都是 `application/problem+json` (RFC 9457)，其中的 `detail` 可以直接显示给用户：默认为中文，
`Accept-Language` 偏好英文时为英文。不成其为 HTTP、迟迟没有发完或请求头过大的请求，在找到路由之前
就会被拒绝：400、408、413、414、417、431、501 或 503。

请求体最长 16 KiB，对话的为 1 MiB。

每个响应都带 `X-Request-ID`：请求自带的，或是新的。
"""


class Api(flask_smorest.Api):
    """flask-smorest without its own rendering of errors: that drops `Allow` and `Retry-After`.

    The document is written when it is first asked for: it takes longer than all else that an
    application does when it is made. gunicorn's master asks, for all workers.
    """

    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app):
        self._undocumented: list[flask_smorest.Blueprint] = []
        self._one_at_a_time = threading.Lock()
        super().__init__(app, spec_kwargs={"marshmallow_plugin": _Plugin()})

    def register_blueprint(self, blp: flask_smorest.Blueprint) -> None:
        """Serve its routes, and document them when somebody asks."""
        self._app.register_blueprint(blp)
        self._undocumented.append(blp)

    @property
    def spec(self) -> apispec.APISpec:
        """The document, whole."""
        with self._one_at_a_time:
            while self._undocumented:
                blp = self._undocumented.pop(0)
                blp.register_views_in_doc(
                    self, self._app, self._spec, name=blp.name, parameters=None
                )
                self._spec.tag({"name": blp.name, "description": blp.description})
            return self._spec

    @spec.setter
    def spec(self, spec: apispec.APISpec) -> None:
        self._spec = spec

    @cached_property
    def document(self) -> "Document":
        """The document as it is sent."""
        return Document.of(self.spec.to_dict())

    def _openapi_json(self) -> Response:
        return self.document.respond()

    def _register_error_handlers(self):
        problems.init_app(self._app)

    def _register_nothing(self):
        """None of flask-smorest's own errors, pages and tags: no answer here has their shape."""

    _register_responses = _register_pagination_header = _register_etag_headers = _register_nothing


@dataclass(frozen=True)
class Document:
    """A JSON document that stays the same: encoded, compressed and hashed once."""

    plain: bytes
    zipped: bytes
    etag: str

    @classmethod
    def of(cls, value: dict) -> "Document":
        plain = http.encode(value)
        return cls(plain, gzip.compress(plain, mtime=0), sha256(plain).hexdigest()[:32])

    def respond(self) -> Response:
        """The answer to a GET; 304 to a reader that has it (RFC 9110 §13.1.2)."""
        is_zipped = request.accept_encodings.quality("gzip") > 0
        response = Response(self.zipped if is_zipped else self.plain, mimetype="application/json")
        if is_zipped:
            response.headers["Content-Encoding"] = "gzip"
        # Another one for each encoding (RFC 9110 §8.8.3.3).
        response.set_etag(f"{self.etag}-gzip" if is_zipped else self.etag)
        response.headers["Cache-Control"] = "no-cache"
        response.vary.add("Accept-Encoding")
        return response.make_conditional(request)


class _Converter(OpenAPIConverter):
    def schema2jsonschema(self, schema: ma.Schema) -> dict:
        return {**super().schema2jsonschema(schema), "examples": [_example(schema)]}

    def field2nullable(self, field: ma.fields.Field, ret: dict) -> dict:
        """`null` last in the type, and once: a field may have said so itself."""
        kinds = super().field2nullable(field, ret)
        return {**kinds, "type": list(dict.fromkeys(kinds["type"]))} if "type" in kinds else kinds


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _example(schema: ma.Schema) -> dict:
    """The schema's own example, or one made of its fields'."""
    given = getattr(schema, "example", None)
    return given or {name: _value(field) for name, field in schema.fields.items()}


def _value(field: ma.fields.Field) -> object:
    if isinstance(field, ma.fields.Nested):
        return _example(field.schema)
    if isinstance(field, ma.fields.List):
        return [_value(field.inner)]
    return (field.metadata.get("examples") or field.metadata["enum"])[0]
