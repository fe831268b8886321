"""The OpenAPI document: what flask-smorest adds of its own is left out, what it omits is added."""

import threading

import apispec
import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin, OpenAPIConverter

from . import problems

DESCRIPTION = """\
请求与响应均为 UTF-8 的 JSON，未列出的字段一律拒绝，AG-UI 的请求除外。

所有错误都是 `application/problem+json` (RFC 9457)，其中的 `detail` 可以直接显示给用户：默认为中文，
`Accept-Language` 偏好英文时为英文。不成其为 HTTP、迟迟没有发完或请求头过大的请求，在找到路由之前
就会被拒绝：400、408、414、417、431 或 501。

每个响应都带 `X-Request-ID`：请求自带的，或是新的。
"""


class Api(flask_smorest.Api):
    """flask-smorest without its own rendering of errors: that drops `Allow` and `Retry-After`.

    The document is written when it is first asked for: it takes longer than all else that an
    application does when it is made.
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

    def _register_error_handlers(self):
        problems.init_app(self._app)

    def _register_nothing(self):
        """None of flask-smorest's own errors, pages and tags: no answer here has their shape."""

    _register_responses = _register_pagination_header = _register_etag_headers = _register_nothing


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
