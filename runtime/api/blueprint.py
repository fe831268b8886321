"""The blueprint of a route group: guarded, read by our parser, everything it may answer documented.

A route says with `fails` what is its own; what any route may answer besides is added here.
"""

import re
from collections.abc import Callable
from functools import wraps

import flask_smorest
import marshmallow as ma
from flask import Response, request

from runtime import i18n
from runtime.api import downloads, guards, http, problems, streams
from runtime.api.parser import Parser
from runtime.api.schemas.shapes import ID, EventSchema, InvalidParametersSchema, ProblemSchema
from runtime.api.streams import EventStream
from runtime.errors import HTTP_CODES, Failure, Fault, Unavailable

# What any route may answer besides what is its own; the route document tells them once.
COMMON_STATUSES = (400, 413, 500, 503)


class Blueprint(flask_smorest.Blueprint):
    """Routes that ask for an access token, unless they are `guards.public`."""

    ARGUMENTS_PARSER = Parser()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._undocumented: list[tuple] = []
        self.before_request(guards.authenticate)

    def fails(self, *failures: type[Failure]) -> Callable:
        """Tell the OpenAPI document how a route may fail, besides the ways every route may."""

        def decorate(function):
            function.failures = failures
            return function

        return decorate

    def arguments(
        self,
        schema: type[ma.Schema],
        *,
        location: str = "json",
        is_read: bool = True,
        max_bytes: int = http.MAX_BODY_BYTES,
    ) -> Callable:
        """What the route takes, read with one schema that is made once, and how long it may be.

        Unless it `is_read` this is for the document alone, and the route reads it, if need be.
        """
        read = super().arguments(schema(), location=location)

        def decorate(function):
            if location == "json":
                function.max_body_bytes = max_bytes
            if is_read:
                return read(function)
            function._apidoc = read(function)._apidoc
            return function

        return decorate

    def response(
        self,
        status_code: int,
        schema: type[ma.Schema] | None = None,
        *,
        may_stream: bool = False,
        example: str | None = None,
        filename: str | None = None,
    ) -> Callable:
        """What the route answers when all is well: what it returns, dumped, as JSON.

        With `may_stream` it may be an EventStream too; it has the document's own events unless
        there is an `example` of others. With a `filename` it is a file of any length to be kept.
        """
        headers = _HEADERS | _FILE_HEADERS if filename else _HEADERS
        document = super().response(status_code, schema, headers=headers)
        dump = schema().dump if schema else None

        def decorate(function):
            @wraps(document(function))
            def answer(*args, **kwargs):
                if filename and request.method == "HEAD":  # which makes no file, and costs none
                    return downloads.respond_head(filename)
                result = function(*args, **kwargs)
                if may_stream and isinstance(result, EventStream):
                    return streams.respond(result)
                if filename:
                    return downloads.respond(dump(result), filename)
                body = http.encode(dump(result)) if dump else None
                return Response(body, status_code, mimetype="application/json")

            answer.stream = _stream(example) if may_stream else None
            return answer

        return decorate

    def add_url_rule(self, rule, endpoint=None, view_func=None, *args, **kwargs):
        """Register a route; its name is its operation's too."""
        filled_in = rule.replace("<username>", "ada")
        view_func.example_path = re.sub("<uuid:[a-z_]+>", ID, self.url_prefix + filled_in)
        super().add_url_rule(rule, endpoint, view_func, *args, **kwargs)

    def _store_endpoint_docs(self, endpoint, view_func, *args, **kwargs):
        # Not at the start, when nobody has asked for the document: much is copied on its way there.
        self._undocumented.append((endpoint, view_func, args, kwargs))

    def register_views_in_doc(self, *args, **kwargs):
        """Document what has been registered."""
        for endpoint, view_func, options, named in self._undocumented:
            document = self.doc(operationId=view_func.__name__, responses=_responses(view_func))
            super()._store_endpoint_docs(endpoint, document(view_func), *options, **named)
        self._undocumented.clear()
        super().register_views_in_doc(*args, **kwargs)


def _responses(function: Callable) -> dict[int, dict]:
    """An OpenAPI responses object; that of success is already there, unless it is a stream."""
    responses = {
        status: _response(status, codes, function.example_path, _fault(function))
        for status, codes in _codes(function).items()
    }
    if stream := getattr(function, "stream", None):
        responses[200] = stream
    return responses


def _codes(function: Callable) -> dict[int, list[str]]:
    """The sentences' codes for each status that a route may fail with.

    Any route that may fail in a way of its own asks the database, which may be away.
    """
    codes: dict[int, list[str]] = {}
    failures = getattr(function, "failures", ())
    for failure in (*failures, *([Unavailable] if failures else [])):
        codes.setdefault(problems.STATUS[failure], []).append(failure.code)
    if any(parameter["in"] == "json" for parameter in _parameters(function)):
        codes[413] = ["http_413"]
    return codes | {400: ["http_400"], 500: ["http_500"]}


def _fault(function: Callable) -> Fault | None:
    """What may be wrong with the first parameter of a route that has some."""
    for parameter in _parameters(function):
        name = next(iter(parameter["schema"].fields))
        is_in_body = parameter["in"] == "json"
        return Fault(f"#/{name}" if is_in_body else name, "invalid_character", is_in_body)
    return None


def _parameters(function: Callable) -> list[dict]:
    return getattr(function, "_apidoc", {}).get("arguments", {}).get("parameters", [])


def _response(status: int, codes: list[str], path: str, fault: Fault | None) -> dict:
    """An OpenAPI response object, with an example for each sentence."""
    sentences = {code: i18n.sentence(code, "zh") for code in codes}
    examples = {
        name: {"value": problems.example(name, status, sentence, path, fault)}
        for code, sentence in sentences.items()
        for name in [_public(code, status)]
    }
    schema = InvalidParametersSchema if status == 422 else ProblemSchema
    return {
        "description": "；".join(dict.fromkeys(sentences.values())),
        "headers": _HEADERS | _PROBLEM_HEADERS | _HEADERS_OF.get(status, {}),
        "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _public(code: str, status: int) -> str:
    """The `code` of a problem with this sentence."""
    return HTTP_CODES[status] if code in i18n.HTTP_REFUSALS else code


def _stream(example: str | None) -> dict:
    """An OpenAPI response object for a stream; only the document's own can be resumed by GET."""
    return {
        "headers": _HEADERS | ({} if example else _STREAM_HEADERS),
        "content": {streams.MEDIA_TYPE: {"example": example or _EVENT}},
    }


def _header(description: str, **schema: object) -> dict:
    return {"required": True, "description": description, "schema": schema}


_HEADERS = {
    "X-Request-ID": _header(
        "请求自带的或新的编号；日志中与该请求有关的每一行都有它。",
        type="string",
        pattern="^[A-Za-z0-9._:-]{1,128}$",
    )
}
_PROBLEM_HEADERS = {
    "Content-Language": _header("`detail` 的语言", type="string", enum=list(i18n.LANGUAGES))
}
_EVENT = streams.frame(3, http.encode(EventSchema.example).decode().strip())
_STREAM_HEADERS = {
    "Content-Location": {
        "description": "流可以从这里续读，带上 `Last-Event-ID`。",
        "schema": {"type": "string"},
    }
}
_FILE_HEADERS = {
    "Content-Disposition": _header("文件名", type="string", pattern='^attachment; filename=".+"$')
}
_CHALLENGE = _header("RFC 6750 §3.", type="string", pattern="^Bearer")
_RETRY = _header("需要等待的秒数", type="integer", minimum=1)
_HEADERS_OF = {
    401: {"WWW-Authenticate": _CHALLENGE},
    403: {"WWW-Authenticate": _CHALLENGE},
    429: {"Retry-After": _RETRY},
    503: {"Retry-After": _RETRY},
}
