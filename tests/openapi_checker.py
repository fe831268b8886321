"""Holds every answer against the OpenAPI document: its status, headers, media type and shape."""

import json
import re
from functools import cache

from flask import Flask
from werkzeug.test import TestResponse

try:
    import jsonschema_rs
except ImportError:  # it comes with schemathesis, which is not needed to run the tests
    jsonschema_rs = None

PROBLEM = "application/problem+json"


def check(app: Flask, answer: TestResponse) -> None:
    """Raises AssertionError when the document does not say that there may be such an answer."""
    spec = document(app)
    operation = find(spec, answer.request.method, answer.request.path)
    if operation is None:
        return
    documented = meant(spec, operation["responses"].get(str(answer.status_code)))
    assert documented, f"{operation['operationId']}: {answer.status_code} is not documented"
    # What the document says once, of all of them.
    assert answer.headers["X-Request-ID"]
    assert answer.status_code < 400 or answer.headers["Content-Language"]
    for name, reference in documented.get("headers", {}).items():
        header = meant(spec, reference)
        if name not in answer.headers and not header.get("required"):
            continue
        assert is_valid(spec, header["schema"], _value(header, answer.headers[name])), name
    content = documented.get("content", {})
    if not content:
        assert answer.data == b""
        assert "Content-Type" not in answer.headers
        return
    assert answer.mimetype in content
    if answer.request.method != "HEAD" and answer.is_json:
        demand_valid(spec, content[answer.mimetype]["schema"], answer.json)


# By what of an application it is made from: to write it takes longer than most tests do.
_documents: dict[tuple, dict] = {}


def document(app: Flask) -> dict:
    """The OpenAPI document, as a reader gets it. All tests share it: leave it as it is."""
    if "openapi" not in app.extensions:
        source = (app.config["APP_NAME"], *map(repr, app.url_map.iter_rules()))
        if source not in _documents:
            _documents[source] = json.loads(app.extensions["api"].document("zh").plain)
        app.extensions["openapi"] = _documents[source]
    return app.extensions["openapi"]


def meant(spec: dict, node: dict | None) -> dict | None:
    """What a reference to a component leads to, or the node itself."""
    if node is None or "$ref" not in node:
        return node
    _, _components, section, name = node["$ref"].split("/")
    return spec["components"][section][name]


def find(spec: dict, method: str, path: str) -> dict | None:
    """The operation behind a request; a path without a parameter goes first."""
    for template in sorted(spec["paths"], key=lambda template: "{" in template):
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            return spec["paths"][template].get(method.lower().replace("head", "get"))
    return None


def is_valid(spec: dict, schema: dict, value: object) -> bool:
    """Whether a value has the shape, which may refer to the document's components."""
    return not jsonschema_rs or _validator(spec, schema).is_valid(value)


def demand_valid(spec: dict, schema: dict, value: object) -> None:
    """Raises AssertionError with everything that is wrong with a value's shape."""
    if jsonschema_rs:
        faults = [str(error) for error in _validator(spec, schema).iter_errors(value)]
        assert not faults, "\n".join(faults)


def _validator(spec: dict, schema: dict):
    return _compiled(json.dumps(schema), _shapes(spec))


# A document's own, by its id; the document is kept, so that no other one gets that.
_shapes_of: dict[int, tuple[dict, str]] = {}


def _shapes(spec: dict) -> str:
    """Its components as JSON, written once: they are as long as a hundred answers."""
    if id(spec) not in _shapes_of:
        _shapes_of[id(spec)] = spec, json.dumps(spec["components"]["schemas"])
    return _shapes_of[id(spec)][1]


@cache
def _compiled(schema: str, shapes: str):
    """Closed shapes: an answer may have more one day, but then the document says what."""
    closed = {
        name: {"additionalProperties": False, **shape} if "properties" in shape else shape
        for name, shape in json.loads(shapes).items()
    }
    return jsonschema_rs.Draft202012Validator(
        {**json.loads(schema), "components": {"schemas": closed}}, validate_formats=True
    )


def _value(header: dict, text: str) -> object:
    return int(text) if header["schema"]["type"] == "integer" else text
