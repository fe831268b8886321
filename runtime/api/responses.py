"""What a route may answer, for the OpenAPI document: each failure with its sentence, an example and
its headers. A route says with `fails` what is its own; what any route may answer is added here.
"""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus

import apispec
import marshmallow as ma

from runtime import i18n
from runtime.api.document_texts import Texts
from runtime.api.parser import faults_of
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


class Responses:
    """The answers of all routes in one language; those that several have are components."""

    def __init__(self, spec: apispec.APISpec, texts: Texts) -> None:
        self._spec = spec
        self._texts = texts
        self._known: set[str] = set()

    def register_headers(self) -> None:
        """Make the headers components."""
        for name, header in _HEADERS.items():
            self._spec.components.header(name, self._told({name: header})[name])

    def complete(self, operation: dict, view: Callable, path: str) -> None:
        """Add to an OpenAPI operation its name, how it may fail, and what every answer has."""
        operation["operationId"] = view.__name__
        operation["responses"] = {
            status: self._told_response(response)
            for status, response in operation["responses"].items()
            if int(status) < 400
        }
        by_status: dict[int, list[Kind]] = {}
        for kind in failures_of(view, operation):
            by_status.setdefault(kind.status, []).append(kind)
        uri = re.sub("{[a-z_]+_id}", ID, path.replace("{username}", "ada"))
        for status, kinds in by_status.items():
            if status == InvalidParameters.status:
                operation["responses"][status] = self._invalid(kinds, uri, operation)
            else:
                operation["responses"][status] = self._failed(kinds, uri)

    def _told_response(self, response: dict) -> dict:
        """An answer that is no failure, in this language."""
        if "headers" in response:
            response["headers"] = self._told(response["headers"])
        for media in response.get("content", {}).values():
            if "example" in media:
                media["example"] = self._texts.example(media["example"])
        is_empty = response["description"] == HTTPStatus.NO_CONTENT.phrase
        return self._shared("responses", "NoContent", response) if is_empty else response

    def _failed(self, kinds: list[Kind], uri: str) -> dict:
        """The response for these failures of one status: one for all routes that have them."""
        examples = {}
        for kind in kinds:
            example = {"value": self._problem(kind, uri)}
            examples[kind.code] = self._shared("examples", _name_of([kind]), example)
        response = self._response(kinds, ProblemSchema, examples)
        return self._shared("responses", _name_of(kinds), response)

    def _invalid(self, kinds: list[Kind], uri: str, operation: dict) -> dict:
        """What a route answers to wrong parameters: to none at all, or to wrong ones."""
        examples = {}
        location, faults = _example_faults(operation)
        for kind in kinds:
            value = self._problem(kind, uri)
            its_faults = faults if kind is InvalidParameters else kind.example_faults()
            value["errors"] = [fault_member(fault, self._texts.language) for fault in its_faults]
            if kind is InvalidParameters:
                examples[kind.code] = {"value": value}
            else:
                examples[kind.code] = self._shared("examples", kind.__name__, {"value": value})
        response = self._response(kinds, InvalidParametersSchema, examples)
        if kinds != [InvalidParameters] or location != "query":
            return response
        return self._shared("responses", f"Invalid{faults[0].where.title()}", response)

    def _shared(self, section: str, name: str, value: dict) -> dict:
        """A reference to what several routes have; the first one's is taken."""
        ref = f"#/components/{section}/{name}"
        if ref not in self._known:
            self._known.add(ref)
            components = self._spec.components
            add = components.response if section == "responses" else components.example
            add(name, value)
        return {"$ref": ref}

    def _problem(self, kind: Kind, uri: str) -> dict:
        return problem(kind, i18n.told(kind, self._texts.language), uri)

    def _response(self, kinds: Iterable[Kind], schema: type[ma.Schema], examples: dict) -> dict:
        sentences = dict.fromkeys(i18n.told(kind, self._texts.language) for kind in kinds)
        named = [name for kind in kinds for name in _HEADERS_OF.get(kind.status, ())]
        return {
            "description": _BETWEEN.get(self._texts.language, " ").join(sentences),
            **({"headers": {name: _ref(name) for name in named}} if named else {}),
            "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }

    def _told(self, headers: dict) -> dict:
        """Headers in this language."""
        return {
            name: {
                **header,
                "description": self._texts.say("headers", name, header.get("description", name)),
            }
            for name, header in headers.items()
        }


def _name_of(kinds: Iterable[Kind]) -> str:
    """What failures of one status are called together, `Unauthorized` if every route has them."""
    if list(kinds) == [NotAuthenticated, InvalidAccessToken]:
        return "Unauthorized"
    return "Or".join(
        kind.code.title().replace("_", "") if isinstance(kind, Refusal) else kind.__name__
        for kind in kinds
    )


def _schemas(operation: dict) -> list[tuple[str, ma.Schema]]:
    """Where parameters of a route stand, and their schema; the body's first, as they are read."""
    found = []
    for media in operation.get("requestBody", {}).get("content", {}).values():
        found.append(("json", media["schema"]))
    return found + [(each["in"], each["schema"]) for each in operation.get("parameters", ())]


def _example_faults(operation: dict) -> tuple[str, list[Fault]]:
    """Where and what the route finds wrong with a request without parameters; if it needs none,
    with a `?` in one.
    """
    for location, schema in _schemas(operation):
        tries = [{field.data_key or name: "?"} for name, field in schema.fields.items()]
        if location != "path":
            tries.insert(0, {})
        messages = next(filter(None, map(schema.validate, tries)), None)
        if messages:
            return location, faults_of(messages, location)
    raise ValueError(f"{operation['operationId']} has parameters that are never wrong")


def header(description: str, **schema: object) -> dict:
    """An OpenAPI header object for a header that is always there."""
    return {"required": True, "description": description, "schema": schema}


# What every answer has, and every error, is told once, in the document's description.
_HEADERS = {
    "WWW-Authenticate": header("RFC 6750 §3.", type="string", pattern="^Bearer"),
    "Retry-After": header("需要等待的秒数。", type="integer", minimum=1),
}
_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_BETWEEN = {"zh": "；"}


def _ref(name: str) -> dict:
    return {"$ref": f"#/components/headers/{name}"}
