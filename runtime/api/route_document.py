"""The route document, written from the OpenAPI document so that the two cannot differ.

Its form is the user's own: a part for each tag, a section for each route, shapes as JSON with a
word on each field.
"""

from collections.abc import Iterable
from pathlib import Path

from flask import current_app
from werkzeug.http import HTTP_STATUS_CODES

from runtime import i18n
from runtime.api import streams
from runtime.api.openapi import PREFIX
from runtime.api.responses import COMMON_STATUSES
from runtime.api.route_document_words import HEADS, TAILS
from runtime.config.settings import ROOT
from runtime.errors import FAILURES, REFUSALS
from runtime.problem_details import MEDIA_TYPE

PLACES = {"path": "Path Parameters", "query": "Query Parameters", "header": "Headers"}


# A language without words of its own has no route document.
PATHS = {"zh": ROOT / "runtime" / "ROUTES.md", "en": ROOT / "runtime" / "ROUTES.en.md"}


def render(language: str) -> str:
    """The route document in this language as it should be now."""
    spec = current_app.extensions["api"].document(language).value
    statuses = (f"{status} {HTTP_STATUS_CODES[status]}" for status in COMMON_STATUSES)
    common = ("、" if language == "zh" else ", ").join(statuses)
    parts = [HEADS[language].format(prefix=PREFIX, common=common)]
    for tag in spec["tags"]:
        parts.append(f"## {tag['name']}\n")
        for method, path, operation in _operations(spec):
            if tag["name"] in operation["tags"]:
                parts.append(_route(spec, method, path.removeprefix(PREFIX), operation))
    return "\n".join([*parts, _tail(language)])


def _tail(language: str) -> str:
    codes = (f"| `{code}` | {status} | {words} |" for code, status, words in codes_in(language))
    return TAILS[language].format(
        codes="\n".join(codes),
        faults=_meanings(i18n.FAULTS, language),
        run_errors=_meanings(i18n.RUN_ERRORS, language),
    )


def codes_in(language: str) -> list[tuple[str, int, str]]:
    """Every `code` that a problem may have, with its status and its sentence."""
    kinds = (*FAILURES, *REFUSALS.values())
    found = sorted({(kind.status, kind.code, i18n.told(kind, language)) for kind in kinds})
    return [(code, status, sentence) for status, code, sentence in found]


def _meanings(codes: Iterable[str], language: str) -> str:
    column = i18n.LANGUAGES.index(language)
    told = ((code.removeprefix("run_"), i18n.SENTENCES[code][column]) for code in codes)
    return "\n".join(f"| `{code}` | {sentence} |" for code, sentence in told)


def is_current() -> bool:
    """Whether the files say what the routes do."""
    return all(
        path.exists() and path.read_text("utf-8") == render(language)
        for language, path in PATHS.items()
    )


def write() -> list[Path]:
    """Write the files; returns where."""
    for language, path in PATHS.items():
        path.write_text(render(language), "utf-8")
    return [*PATHS.values()]


def _operations(spec: dict) -> list[tuple[str, str, dict]]:
    """Method, path and operation of each route, in the order the routes are written in."""
    written = [endpoint.rpartition(".")[2] for endpoint in current_app.view_functions]
    found = [
        (method, path, operation | {"parameters": _both(spec, item, operation)})
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    return sorted(found, key=lambda each: written.index(each[2]["operationId"]))


def _meant(spec: dict, node: dict) -> dict:
    """What a reference to a component leads to, or the node itself."""
    if "$ref" not in node:
        return node
    _, _components, section, name = node["$ref"].split("/")
    return spec["components"][section][name]


def _both(spec: dict, item: dict, operation: dict) -> list[dict]:
    """The parameters of all of a path's operations, overridden by those of one."""
    both = [*item.get("parameters", ()), *operation.get("parameters", ())]
    found = [_meant(spec, each) for each in both]
    return list({(each["in"], each["name"]): each for each in found}.values())


def _route(spec: dict, method: str, path: str, operation: dict) -> str:
    paragraphs = [f"### {method.upper()} {path}", operation["summary"]]
    if operation.get("description"):
        paragraphs.append(operation["description"])
    paragraphs += _parameters(operation)
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        paragraphs.append(f"**Request:**\n\n```json\n{_shape(spec, schema)}\n```")
    paragraphs += _responses(spec, operation["responses"])
    return "\n\n".join([*paragraphs, "---\n"])


def _parameters(operation: dict) -> list[str]:
    found = []
    for place, title in PLACES.items():
        given = [p for p in operation["parameters"] if p["in"] == place]
        lines = [f"- `{p['name']}`: {_words(_given(p))}{_required(p)}" for p in given]
        if lines:
            found.append("\n".join([f"**{title}:**", *lines]))
    return found


def _given(parameter: dict) -> dict:
    """The schema of a parameter that may be missing."""
    return parameter["schema"] if parameter.get("required") else _optional(parameter["schema"])


def _required(parameter: dict) -> str:
    return " (required)" if parameter["in"] != "path" and parameter.get("required") else ""


def _responses(spec: dict, responses: dict) -> list[str]:
    found, failures = [], []
    for status, response in sorted(responses.items()):
        response = _meant(spec, response)
        content = response.get("content", {})
        if MEDIA_TYPE in content:
            if int(status) not in COMMON_STATUSES:
                failures.append(f"- {status}: {response['description']}")
            continue
        text = f"**Response:** {status} {HTTP_STATUS_CODES[int(status)]}"
        for name, media in content.items():
            if name == streams.MEDIA_TYPE:
                text += f"\n\n`{name}`:\n\n```\n{media['example'].strip()}\n```"
            else:
                text += f"\n\n```json\n{_shape(spec, media['schema'], brief=True)}\n```"
        found.append(text)
    if failures:
        found.append("\n".join(["**Errors:**", *failures]))
    return found


def _shape(spec: dict, schema: dict, brief: bool = False) -> str:
    """A schema as JSON on one line, a word on each value; `brief` leaves lengths out."""
    if "$ref" in schema:
        return _shape(spec, _meant(spec, schema), brief)
    if "oneOf" in schema:
        return _shape(spec, _merged(spec, schema), brief)
    if "items" in schema:
        return f"[ {_shape(spec, schema['items'], brief)} ]"
    if "properties" in schema:
        required = schema.get("required", ())
        fields = [
            f'"{name}": {_shape(spec, inner if name in required else _optional(inner), brief)}'
            for name, inner in schema["properties"].items()
        ]
        return f"{{ {', '.join(fields)} }}"
    if "enum" in schema and len(schema["enum"]) <= 4:
        if isinstance(schema["type"], list):
            return f'"string? ({", ".join(schema["enum"])})"'
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if schema.get("type") == "boolean":
        return "true | false"
    if schema.get("type") == ["object", "null"]:
        return "{}"
    if schema.get("type") in ("integer", "number"):
        return str(schema.get("examples", [0])[0])
    if schema.get("type") == ["integer", "null"]:
        return f"{schema['examples'][0]} | null"
    return f'"{_words(schema, brief)}"'


def _merged(spec: dict, schema: dict) -> dict:
    """One of several shapes, as a shape with what all of them have."""
    shapes = [_meant(spec, each) for each in schema["oneOf"]]
    properties = {name: {**each} for shape in shapes for name, each in shape["properties"].items()}
    properties["type"].pop("const")
    required = set.intersection(*(set(shape["required"]) for shape in shapes))
    return {"properties": properties, "required": required}


def _optional(schema: dict) -> dict:
    """The schema of a field that may be missing, written like one that may be null."""
    if schema.get("type", "string") == "string":
        return {**schema, "type": ["string", "null"]}
    return schema


def _words(schema: dict, brief: bool = False) -> str:
    """A schema in words: `string? (3-30 chars)`, `integer (1-100, default 20)`."""
    if schema.get("type") == "integer":
        return "integer ({minimum}-{maximum}, default {default})".format(**schema)
    optional = "?" if isinstance(schema.get("type"), list) else ""
    notes = [note for note in ("" if brief else _length(schema), _kind(schema)) if note]
    return f"string{optional}" + (f" ({', '.join(notes)})" if notes else "")


def _kind(schema: dict) -> str:
    kinds = {"email": "email", "uuid": "UUID", "date-time": "ISO 8601", "uri": "URL"}
    pattern = schema.get("pattern", "")
    if pattern == "^[0-9]{6}$":
        return "6 digits"
    if pattern == "^[A-Za-z0-9_]+$":
        return "alphanumeric and underscore"
    if pattern.startswith("^[Hh][Tt][Tt][Pp]"):
        return "URL"
    return kinds.get(schema.get("format", ""), "")


def _length(schema: dict) -> str:
    low, high = schema.get("minLength"), schema.get("maxLength")
    if low and high:
        return f"{low}-{high} chars"
    return f"max {high} chars" if high else f"min {low} chars" if low else ""
