"""The headers that every answer has, whether the application gives it or the server before it."""

import random
import re

# An answer is data: nothing in it may run, be framed, or tell another site where it was found.
COMMON = {
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

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(given: str) -> str:
    """The caller's id for the request if it is sane, or a new one."""
    return given if _SANE_REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
