"""Pages of other origins, as far as CORS_ORIGINS says (Fetch standard, CORS protocol)."""

import re

from flask import Response, current_app, request
from flask.globals import request_ctx

from runtime.config import origins

PREFLIGHT_SECONDS = 7200
METHODS = "GET, POST, PUT, PATCH, DELETE"
# What is read here; a page that asks for others is allowed those (tracing adds its own).
HEADERS = (
    "Authorization, Content-Type, Accept-Language, Idempotency-Key, If-Running, Last-Event-ID,"
    " X-Request-ID"
)
MAX_HEADERS_CHARS = 1024

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_NAMES = re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*")


def answer_options() -> Response | None:
    """Say what a path takes, to a browser that asks before a request from another origin too."""
    asked = request_ctx.request  # not the proxy, for what every request passes
    if asked.method != "OPTIONS" or asked.url_rule is None:
        return None
    response = current_app.make_default_options_response()
    response.status_code = 204
    if not origins.allowed(_origin(), current_app.config["CORS_ORIGINS"]):
        return response
    response.headers["Access-Control-Allow-Methods"] = METHODS
    response.headers["Access-Control-Allow-Headers"] = _allowed_headers()
    response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


def add(response: Response) -> Response:
    """Let pages of allowed origins read the answer; bearer tokens need no credentials mode."""
    for name, value in origins.headers(_origin(), current_app.config["CORS_ORIGINS"]).items():
        response.headers[name] = value
    response.vary.add("Origin")
    return response


def _origin() -> str | None:
    return request.headers.get("Origin")


def _allowed_headers() -> str:
    """All headers that the page asks for, if they are names; ours if it asks for none.

    No header gives a page rights: only the token in Authorization does, and the page has it.
    """
    asked = request.headers.get("Access-Control-Request-Headers", "").strip()
    is_sane = len(asked) <= MAX_HEADERS_CHARS and _NAMES.fullmatch(asked)
    return asked if is_sane else HEADERS
