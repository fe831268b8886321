"""Origins as browsers send them (RFC 6454, WHATWG URL §4.7), from what an operator writes."""

import ipaddress
import re
import unicodedata
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

# Headers that a page may read besides the few that it always may.
EXPOSED = "Content-Disposition, Content-Location, Retry-After, X-Request-ID"
DEFAULT_PORTS = {"http": 80, "https": 443}
# Nothing that has one of these is a page with an origin of its own.
NO_PAGES = {"about", "blob", "data", "ftp", "javascript", "mailto", "null", "ws", "wss"}

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
# What a host has once it is ASCII. Some of it is no hostname's (RFC 1123), and is served.
_LABEL = re.compile(r"[a-z0-9_-]+")
_OPAQUE_HOST = re.compile(r"[A-Za-z0-9._~-]*")
# The full stops of scripts that have their own (UTS #46 §4).
_DOTS = re.compile("[.\u3002\uff0e\uff61]")


def parse_list(value: str) -> list[str]:
    """The origins in a setting's text, separated by commas or spaces, or ["*"] for all.

    Raises ValueError, which says what they must be and why one is none.
    """
    if value == "*":
        return ["*"]
    return [_named(word) for word in value.replace(",", " ").split()]


def _named(origin: str) -> str:
    try:
        return normalized(origin)
    except ValueError as error:
        wanted = "must be origins such as https://app.example.org or capacitor://localhost"
        raise ValueError(f"{wanted}: {origin!r} is none, {error}") from error


def normalized(origin: str) -> str:
    """An origin as browsers send it.

    Scheme and host are in lower case, IDN is punycode, and a default port is left out. Pages of
    apps have schemes of their own, whose host may be missing: `capacitor://localhost`, `app://`.
    Raises ValueError, which says why, when no browser would send it.
    """
    if "*" in origin:
        raise ValueError("`*` stands alone, for all origins, and in no other one")
    parts = _split(origin)
    if parts.scheme not in DEFAULT_PORTS:
        return _of_app(parts)
    host = host_to_ascii(parts.hostname or "")
    if parts.port in (None, DEFAULT_PORTS[parts.scheme]):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{parts.port}"


def _split(origin: str) -> SplitResult:
    """Raises ValueError when it has not the shape of an origin, or a port that is none."""
    parts = urlsplit(origin)
    is_shaped = _SCHEME.fullmatch(parts.scheme) and "://" in origin and parts.port != 0
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    if not is_shaped or has_more or parts.scheme in NO_PAGES:
        raise ValueError("it is no origin")
    return parts


def _of_app(parts: SplitResult) -> str:
    host, colon, port = parts.netloc.partition(":")
    if not _OPAQUE_HOST.fullmatch(host) or (colon and not port):
        raise ValueError("it is no origin")
    return f"{parts.scheme}://{parts.netloc}"


def host_to_ascii(host: str) -> str:
    """A host of the web as browsers send it: in lower case, IDN as punycode, IPv6 in brackets.

    Unlike the standard library's codec, which is of 2003, it leaves letters that browsers keep
    (ß) as they are. Raises ValueError when it is no host.
    """
    if ":" in host and "%" not in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    labels = [_label(label) for label in _DOTS.split(host.removesuffix("."))]
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        return str(ipaddress.IPv4Address(host))  # the only form that browsers do not rewrite
    name = ".".join(labels) + "." * host.endswith(".")
    if len(name) > 254:
        raise ValueError("its host is too long")
    return name


def _label(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    label = text if text.isascii() else f"xn--{_checked(text).encode('punycode').decode()}"
    if len(label) > 63 or not _LABEL.fullmatch(label):
        raise ValueError("its host is none")
    return label


def _checked(text: str) -> str:
    """A label that is not ASCII. Raises ValueError when it has what no name has."""
    if any(not _is_of_a_name(character) for character in text):
        raise ValueError("its host is none")
    return text


def _is_of_a_name(character: str) -> bool:
    """Letters, digits, marks, and symbols (emoji)."""
    return unicodedata.category(character)[0] in "LNMS" or character in "-_"


def allowed(origin: str | None, among: Collection[str]) -> str | None:
    """The origin that a page is told may read answers; None when this page's may not.

    `among` are origins as browsers send them, or has "*" for all.
    """
    if origin and "*" in among:
        return "*"
    return origin if origin in among else None


def headers(origin: str | None, among: Collection[str]) -> dict[str, str]:
    """The headers of an answer that a page of an allowed origin may read (Fetch standard).

    Bearer tokens need no credentials mode.
    """
    told = allowed(origin, among)
    if told is None:
        return {}
    return {"Access-Control-Allow-Origin": told, "Access-Control-Expose-Headers": EXPOSED}
