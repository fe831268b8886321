"""The route document, written from the OpenAPI document so that the two cannot differ.

Its form is the user's own: a part for each tag, a section for each route, shapes as JSON with a
word on each field.
"""

from collections.abc import Mapping
from pathlib import Path

from flask import current_app
from werkzeug.http import HTTP_STATUS_CODES

from runtime import i18n
from runtime.api import problems, streams
from runtime.api.openapi import PREFIX
from runtime.api.responses import COMMON_STATUSES
from runtime.config.settings import ROOT
from runtime.problem_details import MEDIA_TYPE

PATH = ROOT / "runtime" / "ROUTES.md"

HEAD = """\
# Runtime API Routes

本文档记录所有 HTTP API 端点。修改路由时必须同步更新此文档：它由 `flask routes-document` 写成，
与实际路由不一致时测试失败。

## 格式说明

- Request/Response 使用 JSON 格式，UTF-8；未列出的字段一律拒绝，AG-UI 与 AI SDK 的请求除外
- 错误响应使用 RFC 9457（取代 RFC 7807）`application/problem+json`
- 所有端点前缀: `{prefix}`
- `?` 表示可省略，响应中表示可为 null；时间为 UTC 的 ISO 8601，以 `Z` 结尾
- 「需要认证」的端点须带 `Authorization: Bearer <access_token>`
- 除各端点列出的错误外，任何端点都可能返回：{common}
"""

TAIL = """\
## Error Response Format (RFC 9457)

所有错误响应使用 `application/problem+json` 格式:

```json
{{ "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "invalid_code", \
"detail": "验证码无效或已过期", "instance": "/api/v1/auth/verifications/verify" }}
```

422 另有 `errors`，逐项指出问题所在：请求体为 `pointer`（RFC 6901），查询与路径参数为 `parameter`:

```json
{{ "errors": [ {{ "pointer": "#/email", "code": "not_an_email", "detail": "邮箱格式不正确" }} ] }}
```

401 带 `WWW-Authenticate`，429 与 503 带 `Retry-After`（秒），每个响应都带 `X-Request-ID`。
`detail` 默认为中文，`Accept-Language` 偏好英文时为英文；429 的 `detail` 还会说明需要等待多久。
前端应优先读取 `detail` 字段显示给用户，程序则应根据 `code` 判断：它固定不变，将来可能增加新的代码。

| `code` | 状态 | 含义 |
| --- | --- | --- |
{codes}

`errors` 各项的 `code`，除上表中状态为 422 的之外还有下列这些，`{{}}` 处为具体的值:

| `code` | 含义 |
| --- | --- |
{faults}

AG-UI 的 `RUN_ERROR` 事件也带 `code`，即运行失败的原因，与 `error`、`message` 中的句子对应:

| `code` | 含义 |
| --- | --- |
{run_errors}
"""

PLACES = {"path": "Path Parameters", "query": "Query Parameters", "header": "Headers"}


def render() -> str:
    """ROUTES.md as it should be now."""
    spec = current_app.extensions["api"].spec.to_dict()
    common = "、".join(f"{status} {HTTP_STATUS_CODES[status]}" for status in COMMON_STATUSES)
    parts = [HEAD.format(prefix=PREFIX, common=common)]
    for tag in spec["tags"]:
        parts.append(f"## {tag['name']}\n")
        for method, path, operation in _operations(spec):
            if tag["name"] in operation["tags"]:
                parts.append(_route(spec, method, path.removeprefix(PREFIX), operation))
    return "\n".join([*parts, _tail()])


def _tail() -> str:
    codes = (f"| `{code}` | {status} | {words} |" for code, status, words in problems.codes())
    runs = {code.removeprefix("run_"): words for code, words in i18n.RUN_ERRORS.items()}
    return TAIL.format(
        codes="\n".join(codes), faults=_meanings(i18n.FAULTS), run_errors=_meanings(runs)
    )


def _meanings(sentences: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(f"| `{code}` | {chinese} |" for code, (chinese, _english) in sentences.items())


def is_current() -> bool:
    """Whether the file says what the routes do."""
    return PATH.exists() and PATH.read_text() == render()


def write() -> Path:
    """Write the file; returns where."""
    PATH.write_text(render())
    return PATH


def _operations(spec: dict) -> list[tuple[str, str, dict]]:
    """Method, path and operation of each route, in the order the routes are written in."""
    written = [endpoint.rpartition(".")[2] for endpoint in current_app.view_functions]
    found = [
        (method, path, operation | {"parameters": _both(item, operation)})
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    return sorted(found, key=lambda each: written.index(each[2]["operationId"]))


def _both(item: dict, operation: dict) -> list[dict]:
    """The parameters of all of a path's operations, overridden by those of one."""
    found = [*item.get("parameters", ()), *operation.get("parameters", ())]
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
        lines = [f"- `{p['name']}`: {_words(p['schema'])}{_required(p)}" for p in given]
        if lines:
            found.append("\n".join([f"**{title}:**", *lines]))
    return found


def _required(parameter: dict) -> str:
    return " (required)" if parameter["in"] != "path" and parameter.get("required") else ""


def _responses(spec: dict, responses: dict) -> list[str]:
    found, failures = [], []
    for status, response in sorted(responses.items()):
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
        named = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return _shape(spec, named, brief)
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
