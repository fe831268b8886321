"""Failures become answers here, as `application/problem+json` (RFC 9457)."""

import logging
from urllib.parse import quote

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError

from runtime import i18n, logs
from runtime.api import http
from runtime.api.application import encode
from runtime.database.base import discard
from runtime.database.outages import is_outage, outage_reason, unavailable
from runtime.errors import (
    BAD_REQUEST,
    REFUSALS,
    SERVER_ERROR,
    Failure,
    Fault,
    Forbidden,
    InvalidAccessToken,
    InvalidParameters,
    InvalidRefreshToken,
    RecentSignInNeeded,
    TooManyRequests,
    Unavailable,
)
from runtime.problem_details import MEDIA_TYPE, brief, problem
from runtime.services.accounts.administrators import RECENT_SECONDS

# With a 403 instead of its 401, at which clients refresh their token: that is no sign-in.
_STEP_UP = f'Bearer error="insufficient_user_authentication", max_age="{RECENT_SECONDS}"'


def init_app(app: Flask) -> None:
    """Answer all that is raised, in debug mode too: a handler for Exception is asked first."""
    app.register_error_handler(Failure, _render_failure)
    app.register_error_handler(HTTPException, _render_http_exception)
    app.register_error_handler(Exception, _render_exception)


def fault_member(fault: Fault, language: str) -> dict[str, str]:
    """One of the `errors` of a 422: where it is, its code and its sentence."""
    place = "pointer" if fault.is_in_body else "parameter"
    detail = i18n.message(fault.message, language)
    return {place: brief(fault.where), "code": fault.code, "detail": detail}


def _render_failure(failure: Failure) -> Response:
    members = problem(failure, i18n.told(failure, http.language()), _uri())
    if isinstance(failure, InvalidParameters):
        members["errors"] = [fault_member(fault, http.language()) for fault in failure.faults]
    return _respond(members, _headers_of(failure))


def _headers_of(failure: Failure) -> dict[str, str]:
    """The challenge of RFC 6750 §3.1, or of RFC 9470 §3, or when to come back.

    A request without a token is told no error code: clients that see one refresh theirs and repeat
    the request, which spends a try at a code.
    """
    match failure:
        case InvalidAccessToken() | InvalidRefreshToken():
            return {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        case Forbidden():
            return {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
        case RecentSignInNeeded():
            return {"WWW-Authenticate": _STEP_UP}
        case TooManyRequests() | Unavailable():
            return {"Retry-After": str(failure.seconds_to_wait)}
    return {"WWW-Authenticate": "Bearer"} if failure.status == 401 else {}


def _render_http_exception(error: HTTPException) -> Response:
    """What Flask and werkzeug raise, with the headers they set: `Allow`, `Retry-After`."""
    if error.code is None or error.code < 400:
        return error.get_response()
    refusal = REFUSALS.get(error.code, SERVER_ERROR if error.code >= 500 else BAD_REQUEST)
    members = problem(refusal, i18n.told(refusal, http.language()), _uri(), error.code)
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return _respond(members, headers)


def _render_exception(error: Exception) -> Response:
    """An outage of the database is 503; anything else is a fault of ours, told in the log."""
    if is_outage(error):
        # No traceback: while it lasts, every request has the same.
        logs.event("outage", level=logging.ERROR, reason=outage_reason(error))
        discard()
        return _render_failure(unavailable(error))
    logs.event("unhandled_exception", level=logging.ERROR, exc_info=True)
    return _render_http_exception(InternalServerError())


def _uri() -> str:
    """The path as a URI reference (RFC 9457 §3.1.5), which as it was decoded it may not be."""
    return quote(request.path, safe="/!$&'()*+,;=:@", errors="replace")


def _respond(members: dict[str, object], headers: dict[str, str]) -> Response:
    response = Response(encode(members), members["status"], headers)
    response.headers["Content-Type"] = MEDIA_TYPE
    response.headers["Content-Language"] = http.language()
    response.vary.add("Accept-Language")
    return response
