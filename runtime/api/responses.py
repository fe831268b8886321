"""What a route may answer, for the OpenAPI document: each failure with its sentence, an example and
its headers. A route says with `fails` what is its own; what any route may answer is added here.
"""

import re
from collections.abc import Callable, Iterable

import marshmallow as ma

from runtime import i18n
from runtime.api.problems import fault_member
from runtime.api.schemas.fields import ID
from runtime.api.schemas.problems import InvalidParametersSchema, ProblemSchema
from runtime.errors import (
    BAD_REQUEST,
    CONTENT_TOO_LARGE,
    SERVER_ERROR,
    Failure,
    Fault,
    InvalidAccessToken,
    InvalidParameters,
    NotAuthenticated,
    Refusal,
    Unavailable,
)
from runtime.problem_details import MEDIA_TYPE, problem

Kind = type[Failure] | Refusal

# What any route may answer; the route document tells them once.
COMMON_STATUSES = tuple(
    kind.status for kind in (BAD_REQUEST, CONTENT_TOO_LARGE, SERVER_ERROR, Unavailable)
)


def failures_of(view: Callable, operation: dict) -> list[Kind]:
    """How a route may fail: for what every such route may, and for reasons of its own.

    A route that may fail otherwise than for its syntax asks the database, which may be away.
    """
    found: list[Kind] = []
    if not getattr(view, "is_public", False):
        found += [NotAuthenticated, InvalidAccessToken]
    if _schemas(operation):
        found.append(InvalidParameters)
    found += getattr(view, "failures", ())
    if found:
        found.append(Unavailable)
    if "requestBody" in operation:
        found.append(CONTENT_TOO_LARGE)
    return [*found, BAD_REQUEST, SERVER_ERROR]


def complete(operation: dict, view: Callable, path: str) -> None:
    """Add to an OpenAPI operation its name, how it may fail, and the headers of every answer."""
    operation["operationId"] = view.__name__
    by_status: dict[int, list[Kind]] = {}
    for kind in failures_of(view, operation):
        by_status.setdefault(kind.status, []).append(kind)
    uri = re.sub("{[a-z_]+_id}", ID, path.replace("{username}", "ada"))
    fault = _example_fault(operation)
    for status, kinds in by_status.items():
        operation["responses"][status] = _response(kinds, uri, fault)
    for response in operation["responses"].values():
        response["headers"] = _HEADERS | response.get("headers", {})


def _response(kinds: Iterable[Kind], uri: str, fault: Fault | None) -> dict:
    """An OpenAPI response object for failures of one status."""
    sentences, examples = [], {}
    for kind in kinds:
        sentences.append(i18n.told(kind, "zh"))
        value = problem(kind, sentences[-1], uri)
        if kind.status == InvalidParameters.status:
            value["errors"] = [fault_member(fault, "zh")]
        examples[kind.code] = {"value": value}
    schema = InvalidParametersSchema if kind.status == InvalidParameters.status else ProblemSchema
    return {
        "description": "；".join(dict.fromkeys(sentences)),
        "headers": _PROBLEM_HEADERS | _HEADERS_OF.get(kind.status, {}),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _schemas(operation: dict) -> list[tuple[str, ma.Schema]]:
    """Where parameters of a route stand, and their schema."""
    found = [(each["in"], each["schema"]) for each in operation.get("parameters", ())]
    for media in operation.get("requestBody", {}).get("content", {}).values():
        found.append(("json", media["schema"]))
    return found


def _example_fault(operation: dict) -> Fault | None:
    """What may be wrong with the first parameter of a route that has some."""
    for location, schema in _schemas(operation):
        name, is_in_body = next(iter(schema.fields)), location == "json"
        return Fault(f"#/{name}" if is_in_body else name, "invalid_character", is_in_body)
    return None


def header(description: str, **schema: object) -> dict:
    """An OpenAPI header object for a header that is always there."""
    return {"required": True, "description": description, "schema": schema}


_HEADERS = {
    "X-Request-ID": header(
        "请求自带的或新的编号；日志中与该请求有关的每一行都有它。",
        type="string",
        pattern="^[A-Za-z0-9._:-]{1,128}$",
    )
}
_PROBLEM_HEADERS = {
    "Content-Language": header("`detail` 的语言", type="string", enum=list(i18n.LANGUAGES))
}
_CHALLENGE = {"WWW-Authenticate": header("RFC 6750 §3.", type="string", pattern="^Bearer")}
_RETRY = {"Retry-After": header("需要等待的秒数", type="integer", minimum=1)}
_HEADERS_OF = {401: _CHALLENGE, 403: _CHALLENGE, 429: _RETRY, 503: _RETRY}
