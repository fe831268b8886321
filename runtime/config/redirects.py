"""Where links in mails may lead: what REDIRECT_ALLOWLIST allows, and what no link may have.

An entry of the list is one of three:

- an origin (`https://app.example.org`) allows every path there;
- a URL with a path (`https://example.org/app`) allows that path and those below it, segment by
  segment: `/app` and `/app/verify`, not `/apple`. With a slash at its end it allows those below;
- a URL with a query or a fragment allows that URL alone, as it is written.

Paths are compared as they are written (RFC 9700 §2.1). One with `.`, `..`, or an encoded slash or
backslash in it may lead elsewhere than it says, and is below no path. Nor is one with `..;`, which
Java's servers read as `..`, or with bytes that are no UTF-8. An encoded control character is
allowed nowhere: readers in C end a name or a path at it, others leave it out.
"""

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit, urlunsplit

from runtime.config.origins import DEFAULT_PORTS

# What we add to the query ourselves: another of that name before it would be read instead.
_OWN_NAME = re.compile(
    r"(?:^|[?&;#])\s*(?:email|token|restoration)\s*(?:\[[^\]]*\])*\s*(?:[=&;#]|$)"
    r"|(?<![a-z0-9_.-])(?:email|token|restoration)\s*(?:\[[^\]]*\])*\s*="
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Text that was encoded more often than that means nothing to any reader of URLs.
_MOST_DECODINGS = 5


def parse_allowlist(value: str) -> list[str]:
    """The entries in a setting's text, separated by commas or spaces.

    Raises ValueError, which says what they must be.
    """
    return [_entry(word) for word in value.replace(",", " ").split()]


def is_allowed(url: str, allowlist: Sequence[str]) -> bool:
    """Whether an entry of the allowlist allows a link to lead to this http or https URL."""
    if any(_CONTROL.search(form) for form in _decodings(url)):
        return False
    return any(_allows(urlsplit(entry), urlsplit(url)) for entry in allowlist)


def has_own_name(url: str) -> bool:
    """Whether the URL's query or fragment has a parameter of a name that mailed links have.

    Percent-encoded as often as it may be, in any case, between `&` or `;`.
    """
    parts = urlsplit(url)
    texts = [f"?{parts.query}", f"#{parts.fragment}"]
    return any(_OWN_NAME.search(form) for text in texts for form in _decodings(text))


def _decodings(text: str) -> list[str]:
    """The text in lower case, as it is and decoded, again and again."""
    forms = [text.lower()]
    for _ in range(_MOST_DECODINGS):
        decoded = unquote_plus(forms[-1]).lower()
        if decoded == forms[-1]:
            break
        forms.append(decoded)
    return forms


def _entry(word: str) -> str:
    """One entry, as it was written but for a bare slash behind an origin."""
    if (url := _split_page(word)) is None:
        raise ValueError(
            "must be http or https URLs such as https://app.example.org or"
            " https://example.org/app, in ASCII and without `..`"
        )
    if url.path == "/" and not (url.query or url.fragment):
        url = url._replace(path="")
    return urlunsplit(url)


def _split_page(word: str) -> SplitResult | None:
    """The parts of an http or https URL of plain ASCII; None when it is none."""
    try:
        url = urlsplit(word)
        has_host = url.scheme in DEFAULT_PORTS and url.hostname and url.port != 0
    except ValueError:
        return None
    is_plain = "@" not in url.netloc and word.isascii() and "\\" not in word
    return url if has_host and is_plain and not _wanders(url.path) else None


def _allows(entry: SplitResult, url: SplitResult) -> bool:
    if _origin(entry) != _origin(url) or "@" in url.netloc:
        return False
    if entry.query or entry.fragment:
        return (entry.path, entry.query, entry.fragment) == (url.path, url.query, url.fragment)
    return not entry.path or _is_below(url.path, entry.path)


def _origin(url: SplitResult) -> tuple:
    return url.scheme, url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)


def _is_below(path: str, top: str) -> bool:
    if _wanders(path):
        return False
    return path == top or path.startswith(top if top.endswith("/") else f"{top}/")


def _wanders(path: str) -> bool:
    """Whether a reader of the path may arrive somewhere else."""
    for _ in range(_MOST_DECODINGS):
        names = {segment.partition(";")[0] for segment in path.split("/")}
        if "\\" in path or "\ufffd" in path or names & {".", ".."}:
            return True
        decoded = unquote(path)
        if decoded.count("/") > path.count("/"):
            return True
        if decoded == path:
            return False
        path = decoded
    return True
