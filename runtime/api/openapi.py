"""The OpenAPI document: when it is written, and how it is served."""

import gzip
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import apispec
import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_instance
from flask import Flask, Response, request
from werkzeug.routing import Rule

from runtime import __version__
from runtime.api import responses
from runtime.api.application import encode
from runtime.api.guards import SCHEME
from runtime.api.schemas.problems import ProblemSchema

PREFIX = "/api/v1"

DESCRIPTION = """\
请求与响应均为 UTF-8 的 JSON，未列出的字段一律拒绝，AG-UI 与 AI SDK 的请求除外。

所有错误都是 `application/problem+json` (RFC 9457)，其中的 `detail` 可以直接显示给用户：默认为中文，
`Accept-Language` 偏好英文时为英文。不成其为 HTTP、迟迟没有发完或请求头过大的请求，在找到路由之前
就会被拒绝：400、408、413、414、417、431、501 或 503。

请求体最长 16 KiB，对话的为 1 MiB。

每个响应都带 `X-Request-ID`：请求自带的，或是新的。
"""


class Api(flask_smorest.Api):
    """flask-smorest's, but the document is written when it is first asked for: it takes longer than
    all else that an application does when it is made. gunicorn's master asks, for all workers.
    """

    DEFAULT_ERROR_RESPONSE_NAME = None
    ERROR_SCHEMA = ProblemSchema

    def __init__(self, app: Flask):
        self._undocumented: list[flask_smorest.Blueprint] = []
        self._one_at_a_time = threading.Lock()
        self._served = app
        super().__init__(
            app,
            spec_kwargs={
                "title": app.config["APP_NAME"],
                "version": __version__,
                "openapi_version": "3.1.0",
                "info": {"description": DESCRIPTION},
                "servers": [{"url": "/"}],
                "security": [{"bearer": []}],
                "components": {"securitySchemes": SCHEME},
                "marshmallow_plugin": _Plugin(app.view_functions),
            },
        )

    def register_blueprint(self, blp: flask_smorest.Blueprint) -> None:
        """Serve its routes, and document them later."""
        self._served.register_blueprint(blp)
        self._undocumented.append(blp)

    @property
    def spec(self) -> apispec.APISpec:
        """The document, whole."""
        with self._one_at_a_time:
            while self._undocumented:
                blp = self._undocumented.pop(0)
                blp.register_views_in_doc(
                    self, self._served, self._written, name=blp.name, parameters=None
                )
                self._written.tag({"name": blp.name, "description": blp.description})
            return self._written

    @spec.setter
    def spec(self, spec: apispec.APISpec) -> None:
        self._written = spec

    @cached_property
    def document(self) -> "Document":
        """The document as it is sent."""
        return Document.of(self.spec.to_dict())

    def _register_pagination_header(self) -> None:
        """No shape of flask-smorest's pages: no answer here has it."""


@dataclass(frozen=True)
class Document:
    """A JSON document that stays the same: encoded, compressed and hashed once."""

    plain: bytes
    zipped: bytes
    etag: str

    @classmethod
    def of(cls, value: dict) -> "Document":
        plain = encode(value)
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


class _Plugin(MarshmallowPlugin):
    """apispec's, with an example for each shape, and for each route what it may answer."""

    def __init__(self, views: Mapping[str, Callable]):
        super().__init__()
        self._views = views

    def schema_helper(self, name, definition, schema=None, **kwargs) -> dict | None:
        """A shape of the document, with an example."""
        shape = super().schema_helper(name, definition, schema, **kwargs)
        return shape and {**shape, "examples": [_example(resolve_schema_instance(schema))]}

    def operation_helper(self, path=None, operations=None, *, rule: Rule, **kwargs) -> None:
        """Complete the operations of a path, while their schemas are marshmallow's."""
        for operation in operations.values():
            responses.complete(operation, self._views[rule.endpoint], path)
        super().operation_helper(path, operations, **kwargs)


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
