"""Addresses as people type them, made into addresses as mail servers take them."""

import contextlib
import re

_ADDRESS = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@[a-z0-9-]+(\.[a-z0-9-]+)*", re.I | re.A)

# What a Chinese keyboard types for `@` and for a dot, whichever of its widths is on; IDNA takes
# these dots too (RFC 3490 §3.1). Letters and digits stay as they are: those that only look like
# ASCII's are refused, in every script.
_MARKS = {ord("＠"): "@", ord("．"): ".", ord("。"): ".", ord("｡"): "."}


def tidy(text: str) -> str:
    """`text` without ASCII spaces around it, and with a Chinese keyboard's `@` and dots as ASCII.

    It need not be an address, and what is wrong with it otherwise stays.
    """
    return text.translate(_MARKS).strip(" ")


def mailable(address: str) -> str:
    """`address` as SMTP takes it: one bare ASCII address, an international domain as IDNA.

    Raises ValueError for anything else: names, lists, quoted local parts, control characters,
    and `=?`, since CPython decodes such a word and may write its line break into the header
    (CVE-2024-6923).
    """
    local, at, domain = address.rpartition("@")
    with contextlib.suppress(UnicodeError):
        address = local + at + domain.encode("idna").decode()
    if len(address) > 254 or "=?" in address or not _ADDRESS.fullmatch(address):
        raise ValueError("not an address that mail can be sent to")
    return address


def masked(address: str) -> str:
    """What a log may have of an address: `a***@example.org`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"
