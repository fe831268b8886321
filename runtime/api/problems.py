"""Failures as `application/problem+json` (RFC 9457): the one place that knows their status."""

import logging
from urllib.parse import quote

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.http import HTTP_STATUS_CODES

from runtime import errors, i18n, logs, wire
from runtime.api import http
from runtime.database.base import discard
from runtime.database.outages import is_outage, outage_reason, unavailable
from runtime.errors import Failure, Fault, InvalidParameters

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[Failure], int] = {
    errors.InvalidParameters: 422,
    errors.UsernameTaken: 422,
    errors.UsernameTakenMeanwhile: 422,
    errors.IdempotencyKeyReused: 422,
    errors.NothingNew: 422,
    errors.TooManyChats: 422,
    errors.WrongPassword: 422,
    errors.CommonPassword: 422,
    errors.OwnNameAsPassword: 422,
    errors.InvalidEmailCode: 422,
    errors.EmailCodeUsedUp: 422,
    errors.NothingToResend: 422,
    errors.NoPassword: 422,
    errors.NotAuthenticated: 401,
    errors.InvalidAccessToken: 401,
    errors.WrongCredentials: 401,
    errors.InvalidCode: 401,
    errors.CodeUsedUp: 401,
    errors.InvalidRefreshToken: 401,
    errors.Forbidden: 403,
    errors.SessionNotFound: 404,
    errors.UserNotFound: 404,
    errors.ChatNotFound: 404,
    errors.RunNotFound: 404,
    errors.ChatBusy: 409,
    errors.TooManyRequests: 429,
    errors.OutOfTokens: 429,
    errors.DayFull: 429,
    errors.Overloaded: 429,
    errors.Unavailable: 503,
}


def init_app(app: Flask) -> None:
    """Answer whatever is raised, in debug mode too: a handler for Exception is asked first."""
    app.register_error_handler(Failure, _render_failure)
    app.register_error_handler(HTTPException, _render_http_exception)
    app.register_error_handler(Exception, _render_exception)


def example(code: str, status: int, detail: str, path: str, fault: Fault | None) -> dict:
    """A problem as the OpenAPI document shows it."""
    problem = _members(code, status, detail, path)
    if status == 422:
        problem["errors"] = [_fault(fault, i18n.LANGUAGES[0])]
    return problem


def codes() -> list[tuple[str, int, str]]:
    """Every `code` that a problem may have, with its status and its sentence in Chinese."""
    failures = [(failure.code, status, failure.code) for failure, status in STATUS.items()]
    refusals = [(code, status, f"http_{status}") for status, code in errors.HTTP_CODES.items()]
    found = sorted({*failures, *refusals}, key=lambda each: (each[1], each[0]))
    return [(code, status, i18n.sentence(name, "zh")) for code, status, name in found]


def _members(code: str, status: int, detail: str, path: str) -> dict:
    """What every problem has. werkzeug's phrases are the same on every Python."""
    return {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "code": code,
        "detail": detail,
        # A URI reference (RFC 9457 §3.1.5), which the path as it was decoded may not be.
        "instance": wire.brief(quote(path, safe="/!$&'()*+,;=:@", errors="replace")),
    }


def _respond(code: str, status: int, detail: str, headers: dict[str, str], **more) -> Response:
    problem = _members(code, status, detail, request.path) | more
    response = Response(http.encode(problem), status)
    response.headers.update(headers)
    response.headers["Content-Type"] = MEDIA_TYPE
    response.headers["Content-Language"] = http.language()
    response.vary.add("Accept-Language")
    return response


def _render_failure(failure: Failure) -> Response:
    members, headers = {}, {}
    status = STATUS[type(failure)]
    if isinstance(failure, InvalidParameters):
        members["errors"] = [_fault(fault, http.language()) for fault in failure.faults]
    if status == 401:
        headers["WWW-Authenticate"] = _challenge(failure)
    if status == 403:
        headers["WWW-Authenticate"] = 'Bearer error="insufficient_scope"'
    if isinstance(failure, errors.TooManyRequests | errors.Unavailable):
        headers["Retry-After"] = str(failure.seconds_to_wait)
    detail = i18n.told(failure, http.language())
    return _respond(failure.code, status, detail, headers, **members)


def _challenge(failure: Failure) -> str:
    """RFC 6750 §3.1: no error code for who presented no token.

    Clients that see one refresh theirs and repeat the request, which spends a try at a code.
    """
    if isinstance(failure, errors.InvalidAccessToken | errors.InvalidRefreshToken):
        return 'Bearer error="invalid_token"'
    return "Bearer"


def _fault(fault: Fault, language: str) -> dict:
    place = "pointer" if fault.is_in_body else "parameter"
    where = wire.brief(fault.where)
    return {place: where, "code": fault.code, "detail": i18n.message(fault.message, language)}


def _render_http_exception(error: HTTPException) -> Response:
    """What Flask and werkzeug raise, with the headers they set: `Allow`, `Retry-After`."""
    if error.code is None or error.code < 400:
        return error.get_response()
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    kind = error.code if error.code in errors.HTTP_CODES else 500 if error.code >= 500 else 400
    detail = i18n.sentence(f"http_{kind}", http.language())
    return _respond(errors.HTTP_CODES[kind], error.code, detail, headers)


def _render_exception(error: Exception) -> Response:
    """An outage of the database is 503; anything else is a fault of ours, told in the log."""
    if is_outage(error):
        # No traceback: while it lasts, every request has the same.
        logs.event("outage", level=logging.ERROR, reason=outage_reason(error))
        discard()
        return _render_failure(unavailable(error))
    logs.event("unhandled_exception", level=logging.ERROR, exc_info=True)
    return _render_http_exception(InternalServerError())
