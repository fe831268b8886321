"""What the server refuses before the application sees it, as problem+json (RFC 9457)."""

import logging
import re
import socket
from contextlib import suppress
from urllib.parse import quote

from gunicorn import util
from gunicorn.http import errors
from werkzeug.http import HTTP_STATUS_CODES

from runtime import i18n, json_text, logs, metrics, response_headers
from runtime.config import origins
from runtime.errors import REFUSALS, Unavailable
from runtime.gunicorn.request_buffer import BodyTooLong
from runtime.problem_details import MEDIA_TYPE, problem

# Whose pages may read a refusal: those of CORS_ORIGINS, which `runtime.server` puts here.
readers: list[str] = []

# When the memory for requests is used up.
RETRY_SECONDS = 1

# The first that fits. ParseException is the parent of the rest, the two InvalidResponse… are the
# application's fault though they descend from the client's.
STATUS_OF = (
    ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), 500),
    (errors.ConfigurationProblem, 500),
    (errors.LimitRequestLine, 414),
    (errors.ExpectationFailed, 417),
    (errors.LimitRequestHeaders, 431),
    (errors.UnsupportedTransferCoding, 501),
    (BodyTooLong, 413),
    (errors.ParseException, 400),
    (Exception, 500),
)


def status_of(error: Exception) -> int:
    """What to answer when gunicorn's parser, or something below it, raises this."""
    return next(status for kind, status in STATUS_OF if isinstance(error, kind))


def refuse(
    sock: socket.socket,
    status: int,
    addr: tuple,
    cause: str | Exception,
    head: bytes = b"",
    path: str = "/",
) -> None:
    """Answer with a problem, in the language and with the id that the `head` asks for, and log it.

    Never waits: what the client does not take at once it does not get. An exception as the cause
    is a fault of ours, told with its traceback; any other would quote the request.
    """
    metrics.requests_refused.labels(status).inc()
    language = i18n.choose(i18n.accepted_in(_field(head, b"accept-language")))
    request_id = response_headers.request_id(_field(head, b"x-request-id"))
    body = _problem(status, language, path)
    lines = {
        "Date": util.http_date(),
        "Connection": "close",
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Content-Language": language,
        "Vary": "Accept-Language, Origin" if readers else "Accept-Language",
        "Cache-Control": response_headers.NO_STORE,
        "Content-Security-Policy": response_headers.DATA_POLICY,
        "X-Request-ID": request_id,
        **response_headers.COMMON,
        **origins.headers(_field(head, b"origin") or None, readers),
        **({"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}),
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    answer = f"HTTP/1.1 {status} {HTTP_STATUS_CODES[status]}\r\n{fields}\r\n".encode() + body
    with suppress(OSError):
        sock.send(answer, socket.MSG_DONTWAIT)
    _log(status, addr, cause, request_id)


def _problem(status: int, language: str, path: str) -> bytes:
    failure = Unavailable if status == Unavailable.status else REFUSALS[status]
    uri = quote(path, safe="/!$&'()*+,;=:@%", errors="replace")
    body = problem(failure, i18n.told(failure, language), uri)
    return f"{json_text.encode(body)}\n".encode()


def _field(head: bytes, name: bytes) -> str:
    """A field of a head, which may be cut off or malformed; "" when there is none to be read."""
    found = re.search(rb"\r\n%b:([^\r\n]*)\r\n" % re.escape(name), head, re.IGNORECASE)
    return found[1].decode("latin-1").strip() if found else ""


def _log(status: int, addr: tuple, cause: str | Exception, request_id: str) -> None:
    fault = cause if isinstance(cause, Exception) else None
    logs.event(
        "request_refused",
        level=logging.ERROR if fault else logging.INFO,
        exc_info=fault,
        request_id=request_id,
        status=status,
        peer=addr and addr[0],
        cause=type(fault).__name__ if fault else cause,
    )
