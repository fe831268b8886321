"""Problem details (RFC 9457): the body of every answer that refuses, the server's own too."""

import re

from werkzeug.http import HTTP_STATUS_CODES

from runtime.errors import Failure, Refusal

MEDIA_TYPE = "application/problem+json"
# So much of what a caller sent is repeated in an answer: enough to recognise it.
ECHO_CHARS = 300


def problem(
    failure: Failure | type[Failure] | Refusal, detail: str, uri: str, status: int | None = None
) -> dict[str, object]:
    """The members that every problem has; `uri` is the request's path, percent-encoded.

    The `status` is the failure's own unless another one is given. werkzeug's phrases are the same
    on every Python.
    """
    status = status or failure.status
    return {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "code": failure.code,
        "detail": detail,
        "instance": brief(uri),
    }


def brief(text: str) -> str:
    """The beginning of what a caller sent, with "..." if cut; no percent-encoded byte is halved.

    In ASCII, since it may stand in a URI.
    """
    if len(text) <= ECHO_CHARS:
        return text
    return re.sub("%[0-9A-Fa-f]?$", "", text[:ECHO_CHARS]) + "..."
