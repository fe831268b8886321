"""URLs of avatars: what a browser takes for an absolute URL of the web, kept as typed.

Nothing here is fetched. More is taken than RFC 3986 and RFC 3987 allow, as browsers do: IDN, hosts
with underscores, any letters, signs and emoji in the path.
"""

import re

from runtime.config.origins import host_to_ascii

MAX_PORT = 65535
# No browser needs these in a URL as they are: white space, what is not seen, what turns the
# direction of text round, and what ends an attribute of HTML or is a slash to some and not others.
UNFIT = (
    r"\u0000-\u0020\u0022<>\\`\u007f-\u00a0\u061c\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f"
    r"\u2060\u2066-\u2069\u3000\ufeff"
)
PATTERN = rf"[Hh][Tt][Tt][Pp][Ss]?://[^{UNFIT}]+"

_UNFIT = re.compile(f"[{UNFIT}]")
_URL = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[^]]*\]|[^:]*)(?::([0-9]{0,5}))?")


def fault_of(url: str) -> str | None:
    """The code of the sentence that says what is wrong with a URL; None when nothing is."""
    if _UNFIT.search(url):
        return "invalid_character"
    absolute = _URL.match(url)
    if absolute is None:
        return "not_a_url"
    authority = absolute[1]
    if "@" in authority:
        return "url_with_user"
    return None if _is_served(authority) else "not_a_host"


def _is_served(authority: str) -> bool:
    """Whether there may be a host and a port of this form."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None or int(match[2] or 0) > MAX_PORT:
        return False
    is_literal = match[1].startswith("[")
    if is_literal and ":" not in match[1]:
        return False
    try:
        host_to_ascii(match[1][1:-1] if is_literal else match[1])
    except ValueError:
        return False
    return True
