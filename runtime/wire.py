"""What every answer has in common, whether the application gives it or the server before it."""

import json
import random
import re

# An answer is data: nothing in it may run, be framed, or tell another site where it was found.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
NO_STORE = "no-store"
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
# A page loads its own parts. It holds an access token, so it trusts no other host.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# So much of what a caller sent is repeated in an answer: enough to recognise it.
ECHO_CHARS = 300

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Where other readers than JSON's end a line: JavaScript's `.` and `str.splitlines()` among them.
_LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode(value: object) -> str:
    """JSON as it goes out everywhere: compact, on one line for every reader."""
    return escape(_encode(value))


def escape(text: str) -> str:
    """JSON text with U+0085, U+2028 and U+2029 escaped; they can only stand in its strings."""
    if text.isascii():
        return text
    for character, escaped in _LINE_ENDS.items():
        if character in text:
            text = text.replace(character, escaped)
    return text


def request_id(given: str) -> str:
    """The caller's id for the request if it is sane, or a new one."""
    return given if _SANE_REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def brief(text: str) -> str:
    """The beginning of what a caller sent, with "..." if cut; no percent-encoded byte is halved.

    In ASCII, since it may stand in a URI.
    """
    if len(text) <= ECHO_CHARS:
        return text
    return re.sub("%[0-9A-Fa-f]?$", "", text[:ECHO_CHARS]) + "..."
