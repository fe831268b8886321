"""Readers of settings' values: each takes a text, and raises ValueError with what it should be."""

import json
import re
from collections.abc import Callable
from email.utils import parseaddr

MAX_APP_NAME = 60
# Shorter ones can be guessed with one token and a few graphics cards.
SECRET_KEY_CHARS = 32
# What a request to the model has from the service itself.
TAKEN_OPTIONS = {"model", "messages", "input", "instructions", "tools", "stream"}


def text(value: str) -> str:
    """Any text."""
    return value


def words(value: str) -> list[str]:
    """Words separated by commas or spaces."""
    return value.replace(",", " ").split()


def tool_names(value: str) -> list[str]:
    """Words, or `none`."""
    return [] if value.lower() == "none" else words(value)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(value: str) -> int:
        if not re.fullmatch("[0-9]{1,20}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """A reader of one of these words, in any case."""

    def read(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return value.lower()

    return read


def on_off(value: str) -> bool:
    """Whether it is on."""
    return one_of("on", "off")(value) == "on"


def key(value: str) -> str:
    """One signing key."""
    if words(value) != [value]:
        raise ValueError("must have no spaces and no commas, which separate SECRET_KEY_FALLBACKS")
    return _long_enough(value)


def keys(value: str) -> list[str]:
    """Signing keys separated by commas or spaces."""
    return [_long_enough(word) for word in words(value)]


def _long_enough(key: str) -> str:
    if len(key) < SECRET_KEY_CHARS:
        raise ValueError(
            f"must have {SECRET_KEY_CHARS} characters or more a key: openssl rand -hex 32 makes one"
        )
    return key


def bearer_token(value: str) -> str:
    """A token as it stands in a header (RFC 6750 §2.1)."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", value):
        raise ValueError("must be a token of letters, digits and -._~+/ (RFC 6750)")
    return value


def address(value: str) -> str:
    """A mail address, with a name or without."""
    _name, found = parseaddr(value)
    if "@" not in found or any(ord(c) < 32 for c in value) or "=?" in value:
        raise ValueError("must be an address, as in Name <name@example.org>")
    return value


def app_name(value: str) -> str:
    """A name that may stand in a mail's subject and in its From: see `mailable` for `=?`."""
    if len(value) > MAX_APP_NAME or not value.isprintable() or "=?" in value:
        raise ValueError(f"must be at most {MAX_APP_NAME} printable characters, without =?")
    return value


def model_options(value: str) -> dict[str, object]:
    """A JSON object without the members that the service sets itself."""
    try:
        options = json.loads(value)
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise ValueError('must be a JSON object, as in {"temperature": 0.2}')
    if taken := sorted(options.keys() & TAKEN_OPTIONS):
        raise ValueError(f"must leave {taken[0]!r} to the service")
    return options
