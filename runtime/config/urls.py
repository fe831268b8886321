"""Readers of the URLs among the settings; each raises ValueError with what the URL should be."""

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, urlsplit

import redis
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from runtime.config.redirects import has_own_name

_PLAIN_URL = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]{1,2048}")


def url(*schemes: str, needs_host: bool = True) -> Callable[[str], str]:
    """A reader of URLs with one of these schemes, which it puts in lower case, as drivers need."""

    def read(value: str) -> str:
        found = _split(value)
        if not found or found.scheme not in schemes or (needs_host and not found.hostname):
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must be a URL that begins with {wanted}")
        return found.scheme + value[len(found.scheme) :]

    return read


def _split(value: str) -> SplitResult | None:
    """The URL's parts; None when it is none, or has a port that is none."""
    try:
        found = urlsplit(value)
        return None if found.port == 0 else found
    except ValueError:
        return None


def database_url(value: str) -> str:
    """A connection URI of libpq, or one of an SQLite file."""
    value = url("postgres", "postgresql", "sqlite", needs_host=False)(value)
    found = urlsplit(value)
    if len(found.path) < 2:
        raise ValueError("must name a database, as in postgres://host/name or sqlite:///path")
    if found.scheme != "sqlite":
        _demand_connectable(value)
    elif found.netloc:
        raise ValueError("must have three slashes, as in sqlite:///path")
    elif found.query or found.path == "/:memory:":
        raise ValueError("must name a file, as in sqlite:///path, and takes no options")
    return value


def _demand_connectable(value: str) -> None:
    try:
        conninfo_to_dict("postgresql://" + value.partition("://")[2])
    except ProgrammingError:
        # Its own words quote the password.
        raise ValueError(
            "must be a connection URI that libpq takes: known options, and what is special in a"
            " name or a password percent-encoded"
        ) from None


def redis_url(value: str) -> str:
    """A URL that redis-py takes, options included."""
    is_socket = value.lower().startswith("unix:")
    value = url("redis", "rediss", "unix", needs_host=not is_socket)(value)
    path = urlsplit(value).path
    if is_socket and len(path) < 2:
        raise ValueError("must name a socket, as in unix:///run/redis.sock")
    if not is_socket and not re.fullmatch(r"/?|/[0-9]+", path):
        raise ValueError("must name a database by its number, as in redis://host:6379/0")
    try:
        # Connects to nothing, but looks at every option.
        redis.ConnectionPool.from_url(value).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        # Their own words may quote the password.
        raise ValueError("must have no options but those that redis-py takes") from None
    return value


def smtp_url(value: str) -> str:
    """A mail server's URL."""
    url("smtp", "smtps")(value)
    options = parse_qs(urlsplit(value).query)
    if set(options) - {"starttls"} or options.get("starttls", ["1"]) not in (["0"], ["1"]):
        raise ValueError("takes no option but starttls=1 or starttls=0")
    return value


def app_url(value: str) -> str:
    """A URL that may stand in a mail, and whose query has no parameter of a mailed link."""
    found = _split(value)
    is_page = found and found.scheme in ("http", "https") and found.hostname
    if not is_page or "@" in urlsplit(value).netloc or not _PLAIN_URL.fullmatch(value):
        raise ValueError("must be a URL of ASCII characters, as in https://app.example.org/")
    if has_own_name(value):
        raise ValueError(
            "must not have email, token or restoration in its query, which links in mails add"
        )
    return value


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address can be no other machine's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
