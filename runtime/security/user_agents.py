"""A readable name for what a User-Agent says it is: `Chrome · Windows`, `curl`.

The header is the caller's text, and the name is shown to an account's owner, in mails too: it is
put together from words that stand here, and at most one product's name that is no sentence and
no link.
"""

import re
from functools import lru_cache

# The first whose mark is in the header: nearly all browsers say that they are Chrome or Safari too.
_BROWSERS = (
    ("MicroMessenger", "WeChat"),
    ("QQBrowser", "QQ Browser"),
    ("UCBrowser", "UC Browser"),
    ("HuaweiBrowser", "Huawei Browser"),
    ("MiuiBrowser", "Mi Browser"),
    ("SamsungBrowser", "Samsung Internet"),
    ("YaBrowser", "Yandex Browser"),
    ("Vivaldi", "Vivaldi"),
    ("OPR", "Opera"),
    ("Edg", "Edge"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrome", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Harmony", "HarmonyOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
# A product as RFC 9110 §10.1.5 writes it, and what of its name may stand in ours: a dot would make
# a link of it. Apps are called `com.example.App` and `My%20App`.
_PRODUCT = re.compile(r"(?!Mozilla\b)([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[/ ]|\Z)")
_FOREIGN = re.compile(r"(?:%[0-9A-Fa-f]{2}|[^0-9A-Za-z_])+")
_VERSION = re.compile(r"[-_ ]?v?[0-9]+(?:\.[0-9]+)+\Z")
_MOST_OF_A_PRODUCT = 40
# Longer than any browser's; what is behind it names nothing.
_MOST = 400


def name_of(user_agent: str) -> str | None:
    """The device's name, without a version, so that an update makes no other device of it.

    None when the header says nothing. Names have at most 64 characters.
    """
    return _name_of(user_agent[:_MOST])


@lru_cache(1024)
def _name_of(user_agent: str) -> str | None:
    program = _product(user_agent) or _first(_BROWSERS, user_agent)
    parts = [program, _first(_SYSTEMS, user_agent)]
    return " · ".join(part for part in parts if part) or None


def _product(user_agent: str) -> str | None:
    """The name of the product that the header begins with, if there is a letter in it."""
    found = _PRODUCT.match(user_agent)
    name = _FOREIGN.sub("-", _VERSION.sub("", found[1])).strip("-") if found else ""
    return name[:_MOST_OF_A_PRODUCT] if re.search("[A-Za-z]", name) else None


def _first(marks: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for mark, name in marks if mark in user_agent), None)
