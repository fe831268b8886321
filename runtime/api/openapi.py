"""The OpenAPI document: when it is written, and how it is served."""

import gzip
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

import apispec
import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_cls, resolve_schema_instance
from flask import Flask, Response, request
from werkzeug.routing import Rule

from runtime import __version__, i18n
from runtime.api import shared_parts
from runtime.api.application import encode
from runtime.api.document_texts import Texts, name_of, names_of
from runtime.api.guards import SCHEME
from runtime.api.responses import Responses
from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.problems import ProblemSchema
from runtime.api.schemas.unions import Union

PREFIX = "/api/v1"

DESCRIPTION = """\
请求与响应均为 UTF-8 的 JSON，未列出的字段一律拒绝，AG-UI 与 AI SDK 的请求除外。

所有错误都是 `application/problem+json` (RFC 9457)，其中的 `detail` 可以直接显示给用户：默认为中文，
`Accept-Language` 偏好英文时为英文，见 `Content-Language`。不成其为 HTTP、迟迟没有发完或请求头过大的
请求，在找到路由之前就会被拒绝：400、408、413、414、417、431、501 或 503。

请求体最长 16 KiB，对话的为 1 MiB。

每个响应都带 `X-Request-ID`：请求自带的，或是新的；日志中与该请求有关的每一行都有它。
"""


class Api(flask_smorest.Api):
    """flask-smorest's, but the document is written when it is first asked for, in each language: it
    takes longer than all else that an application does when it is made. gunicorn's master asks, for
    all workers.
    """

    DEFAULT_ERROR_RESPONSE_NAME = None
    ERROR_SCHEMA = ProblemSchema

    def __init__(self, app: Flask):
        self._blueprints: list[flask_smorest.Blueprint] = []
        self._documents: dict[str, Document] = {}
        self._one_at_a_time = threading.Lock()
        self._served = app
        title, version = app.config["APP_NAME"], __version__
        super().__init__(
            app, spec_kwargs={"title": title, "version": version, "openapi_version": "3.1.0"}
        )

    def register_blueprint(self, blp: flask_smorest.Blueprint) -> None:
        """Serve its routes, and document them later."""
        self._served.register_blueprint(blp)
        self._blueprints.append(blp)

    def document(self, language: str) -> "Document":
        """The document in one of `i18n.LANGUAGES`, as it is sent."""
        with self._one_at_a_time:
            if language not in self._documents:
                self._documents[language] = Document.of(self._written(Texts(language)), language)
            return self._documents[language]

    def write(self) -> None:
        """Make it in every language."""
        for language in i18n.LANGUAGES:
            self.document(language)

    def _written(self, texts: Texts) -> dict:
        plugin = _Plugin(self._served.view_functions, texts)
        self._init_spec(
            title=self._served.config["APP_NAME"],
            version=__version__,
            openapi_version="3.1.0",
            info={"description": texts.say("document", "description", DESCRIPTION), **self._info()},
            servers=[{"url": "/"}],
            security=[{"bearer": []}],
            components={"securitySchemes": SCHEME},
            marshmallow_plugin=plugin,
        )
        plugin.responses.register_headers()
        for blp in self._blueprints:
            blp.register_views_in_doc(self, self._served, self.spec, name=blp.name, parameters=None)
            self.spec.tag(
                {"name": blp.name, "description": texts.say("tags", blp.name, blp.description)}
            )
        return shared_parts.share(self.spec.to_dict(), texts)

    def _info(self) -> dict:
        """Whom to ask about it: the app that this is the backend of, if that has an address."""
        config = self._served.config
        url = config["APP_URL"]
        return {"contact": {"name": config["APP_NAME"], "url": url}} if url else {}

    def _register_pagination_header(self) -> None:
        """No shape of flask-smorest's pages: no answer here has it."""


@dataclass(frozen=True)
class Document:
    """A JSON document that stays the same: encoded, compressed and hashed once."""

    value: dict
    language: str
    plain: bytes
    zipped: bytes
    etag: str

    @classmethod
    def of(cls, value: dict, language: str) -> "Document":
        plain = encode(value)
        etag = f"{sha256(plain).hexdigest()[:32]}-{language}"
        return cls(value, language, plain, gzip.compress(plain, mtime=0), etag)

    def respond(self) -> Response:
        """The answer to a GET; 304 to a reader that has it (RFC 9110 §13.1.2)."""
        is_zipped = request.accept_encodings.quality("gzip") > 0
        response = Response(self.zipped if is_zipped else self.plain, mimetype="application/json")
        if is_zipped:
            response.headers["Content-Encoding"] = "gzip"
        # Another one for each encoding (RFC 9110 §8.8.3.3).
        response.set_etag(f"{self.etag}-gzip" if is_zipped else self.etag)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Language"] = self.language
        response.vary.update(("Accept-Encoding", "Accept-Language"))
        return response.make_conditional(request)


class _Plugin(MarshmallowPlugin):
    """apispec's, with each shape and field in words, and for each route what it may answer."""

    def __init__(self, views: Mapping[str, Callable], texts: Texts):
        super().__init__(schema_name_resolver=lambda schema: name_of(resolve_schema_cls(schema)))
        self._views = views
        self._texts = texts

    def init_spec(self, spec: apispec.APISpec) -> None:
        """Called by apispec before all else."""
        super().init_spec(spec)
        self.responses = Responses(spec, self._texts)

    def schema_helper(self, name, definition, schema=None, **kwargs) -> dict | None:
        """A shape of the document; a request has an example."""
        shape = super().schema_helper(name, definition, schema, **kwargs)
        if not shape:
            return shape
        made = resolve_schema_instance(schema)
        is_answer = isinstance(made, AnswerSchema)
        if union := vars(type(made)).get("union"):
            shape = self._union(union)
        else:
            self._tell_fields(shape, names_of(type(made)), is_answer)
        told = {"description": self._texts.shape(name), **shape}
        example = getattr(made, "example", None) or (None if is_answer else _example(made))
        return {**told, "examples": [self._texts.example(example)]} if example else told

    def operation_helper(self, path=None, operations=None, *, rule: Rule, **kwargs) -> None:
        """Complete the operations of a path, while their schemas are marshmallow's."""
        for operation in operations.values():
            self.responses.complete(operation, self._views[rule.endpoint], path)
            self._texts.operation(operation)
        super().operation_helper(path, operations, **kwargs)

    def _union(self, union: Union) -> dict:
        for kind, name, shape in union.shapes():
            self._tell_fields(shape, [name])
            self.spec.components.schema(name, {"description": self._texts.kind(kind), **shape})
        return union.schema()

    def _tell_fields(self, shape: dict, names: list[str], is_answer: bool = True) -> None:
        """Say of each field what it is.

        No defaults: generators make what has one required. Of an answer no patterns, and examples
        of its numbers alone: the document is long.
        """
        for name, field in shape["properties"].items():
            field.pop("default", None)
            if is_answer:
                field.pop("pattern", None)
            if not is_answer or "integer" not in field.get("type", ()):
                field.pop("examples", None)
            if "const" not in field:
                field["description"] = self._texts.field(names, name, field.get("description"))


def _example(schema: ma.Schema) -> dict:
    """An example of a request, made of its fields'."""
    return {field.data_key or name: _value(field) for name, field in schema.fields.items()}


def _value(field: ma.fields.Field) -> object:
    return (field.metadata.get("examples") or field.metadata["enum"])[0]
