"""Every setting: its name, what it must look like, its default, one sentence.

The environment is the only source. `load` turns it into a mapping of typed values, or raises
`ConfigError` with one line that names the variable at fault.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).resolve().parent.parent


class ConfigError(Exception):
    """A setting makes no sense; the text is one line that begins with the variable's name."""


@dataclass(frozen=True)
class Setting:
    """One variable: `parse` takes its text and raises ValueError with what it should be."""

    name: str
    parse: Callable[[str], object]
    default: object
    sentence: str


def _text(value: str) -> str:
    return value


def _key(value: str) -> str:
    if _words(value) != [value]:
        raise ValueError("must have no spaces and no commas, which separate SECRET_KEY_FALLBACKS")
    return value


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def _on_off(value: str) -> bool:
    if value.lower() not in ("on", "off"):
        raise ValueError("must be on or off")
    return value.lower() == "on"


def _split_url(value: str):
    """urlsplit, its port checked too."""
    url = urlsplit(value)
    if url.port == 0:
        raise ValueError
    return url


def _url(*schemes: str, host: bool = True) -> Callable[[str], str]:
    def parse(value: str) -> str:
        wanted = "must be a URL that begins with " + " or ".join(f"{s}://" for s in schemes)
        try:
            url = _split_url(value)
        except ValueError as error:
            raise ValueError(wanted) from error
        if url.scheme not in schemes or (host and url.scheme != "unix" and not url.hostname):
            raise ValueError(wanted)
        return value

    return parse


def _database_url(value: str) -> str:
    _url("postgres", "postgresql", "sqlite", host=False)(value)
    url = urlsplit(value)
    if len(url.path) < 2:
        raise ValueError("must name a database, as in postgres://host/name or sqlite:///path")
    if url.scheme == "sqlite" and url.netloc:
        raise ValueError("must have three slashes, as in sqlite:///path")
    if url.scheme != "sqlite":
        _demand_connectable(value)
    return value


def _demand_connectable(url: str) -> None:
    try:
        conninfo_to_dict("postgresql://" + url.partition("://")[2])
    except ProgrammingError:
        # Its own words quote the password.
        raise ValueError(
            "must be a connection URI that libpq takes: known options, and what is special in a"
            " name or a password percent-encoded"
        ) from None


def _bearer_token(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", value):
        raise ValueError("must be a token of letters, digits and -._~+/ (RFC 6750)")
    return value


def _smtp_url(value: str) -> str:
    _url("smtp", "smtps")(value)
    options = parse_qs(urlsplit(value).query)
    if set(options) - {"starttls"} or options.get("starttls", ["1"]) not in (["0"], ["1"]):
        raise ValueError("takes no option but starttls=1 or starttls=0")
    return value


def _address(value: str) -> str:
    _name, address = parseaddr(value)
    if "@" not in address or any(ord(c) < 32 for c in value) or "=?" in value:
        raise ValueError("must be an address, as in Name <name@example.org>")
    return value


def _origin(value: str) -> str:
    url = _split_url(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError
    if url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError
    return origin_of(value)


def origin_of(url: str) -> str:
    """A URL's origin (RFC 6454): scheme and host in lower case, no default port.

    Raises ValueError when the port is no port.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{parts.port}"


def _words(value: str) -> list[str]:
    return value.replace(",", " ").split()


def _origins(value: str) -> list[str]:
    try:
        return [_origin(word) for word in _words(value)]
    except ValueError as error:
        raise ValueError("must be origins such as https://app.example.org") from error


def _origins_or_any(value: str) -> list[str]:
    return ["*"] if value.strip() == "*" else _origins(value)


SETTINGS = (
    Setting(
        "DATABASE_URL",
        _database_url,
        None,
        "`postgres://`, `postgresql://` or `sqlite:///path`. Unset: SQLite under `instance/`,"
        " migrated at start.",
    ),
    Setting(
        "REDIS_URL",
        _url("redis", "rediss", "unix"),
        None,
        "`redis://`, `rediss://` or `unix://`. Unset: an embedded store, for one process on one"
        " machine.",
    ),
    Setting(
        "SECRET_KEY",
        _key,
        None,
        "Signs every token and code. Unset: made once and kept under `instance/`; demanded when"
        " `DATABASE_URL` is set.",
    ),
    Setting(
        "SECRET_KEY_FALLBACKS",
        _words,
        [],
        "Earlier keys that still verify, separated by commas or spaces.",
    ),
    Setting(
        "SMTP_URL",
        _smtp_url,
        None,
        "`smtp://user:pass@host:587?starttls=1` or `smtps://user:pass@host`. Unset: mail is"
        " written under `instance/outbox/`.",
    ),
    Setting("MAIL_FROM", _address, "Runtime API <noreply@localhost>", "Whom mail is from."),
    Setting(
        "OPENAI_BASE_URL",
        _url("http", "https"),
        None,
        "A server that speaks chat completions, as in `http://localhost:11434/v1`. Unset:"
        " OpenAI's own when there is a key, else the embedded model.",
    ),
    Setting("OPENAI_API_KEY", _text, None, "The key sent to that server."),
    Setting("AGENT_MODEL", _text, "gpt-4o-mini", "The model's name on that server."),
    Setting(
        "AGENT_INSTRUCTIONS",
        _text,
        "You are a helpful assistant. Answer in the language of the user.",
        "What the model is told before every conversation.",
    ),
    Setting(
        "AGENT_TOOLS",
        _text,
        None,
        "`package.module` whose tools are offered besides the built-in ones.",
    ),
    Setting("AGENT_MAX_STEPS", _whole(1, 100), 10, "Calls to the model in one run."),
    Setting("AGENT_MAX_SECONDS", _whole(1, 3600), 300, "Wall time of one run."),
    Setting("AGENT_SILENCE_SECONDS", _whole(1, 600), 60, "How long the provider may send nothing."),
    Setting("AGENT_TOOL_SECONDS", _whole(1, 600), 30, "How long one call of a tool may take."),
    Setting(
        "AGENT_MAX_OUTPUT_CHARS",
        _whole(100, 10_000_000),
        100_000,
        "Characters that a run may write, arguments of tools included.",
    ),
    Setting(
        "AGENT_MAX_OUTPUT_TOKENS",
        _whole(1, 10_000_000),
        None,
        "Tokens that the model may write in one step. Unset: 4096 with a budget, else as many as it"
        " likes.",
    ),
    Setting(
        "AGENT_DAILY_TOKENS",
        _whole(1, 10**12),
        None,
        "The budget: tokens, input and output together, that each user may use in a UTC day.",
    ),
    Setting(
        "AGENT_DAILY_CHARS",
        _whole(10_000, 10**12),
        5_000_000,
        "Characters that each user may write to the agent in a UTC day, results of a front end's"
        " tools included; a message counts as 500 at the least.",
    ),
    Setting(
        "AGENT_MAX_CHATS",
        _whole(1, 10**9),
        10_000,
        "Chats that an account may have.",
    ),
    Setting(
        "AGENT_HISTORY_CHARS",
        _whole(1000, 10_000_000),
        60_000,
        "Characters that are sent to the model at once, instructions included: the conversation's"
        " end.",
    ),
    Setting(
        "REDIRECT_ALLOWLIST",
        _origins,
        [],
        "Origins that `redirect_to` may lead to, separated by commas or spaces.",
    ),
    Setting(
        "CORS_ORIGINS",
        _origins_or_any,
        [],
        "Origins whose pages may call the API, or `*`.",
    ),
    Setting(
        "TRUSTED_PROXIES",
        _whole(0, 10),
        0,
        "How many proxies stand in front; 0 ignores `X-Forwarded-*`.",
    ),
    Setting(
        "RATE_LIMITS",
        _on_off,
        True,
        "`off` lifts limits and cool-downs for load tests, not the bound on wrong codes.",
    ),
    Setting(
        "PASSWORD_MIN_LENGTH",
        _whole(6, 128),
        6,
        "Characters that a new password must have.",
    ),
    Setting(
        "MAX_SESSIONS",
        _whole(1, 1000),
        200,
        "Live sessions that an account may have: a sign-in beyond ends the one unused for longest.",
    ),
    Setting(
        "METRICS_TOKEN",
        _bearer_token,
        None,
        "What Prometheus shows at `/metrics`. Unset: no such path, and nothing is counted.",
    ),
    Setting(
        "EVENTS_DAYS",
        _whole(1, 3650),
        90,
        "Days that the security events of an account are kept for its owner to read.",
    ),
    Setting("PORT", _whole(1, 65535), 8000, "The port to listen on, on every address."),
    Setting("WEB_CONCURRENCY", _whole(1, 256), 1, "Worker processes."),
    Setting("WEB_THREADS", _whole(1, 1024), 64, "Threads of each worker."),
    Setting(
        "INSTANCE_PATH",
        lambda value: str(Path(value).resolve()),
        str(ROOT / "instance"),
        "The folder for what is kept when a setting above is unset.",
    ),
)


def load(environ: Mapping[str, str]) -> dict:
    """Read every setting from `environ`; an empty variable counts as unset.

    Raises ConfigError when one makes no sense, alone or beside the others.
    """
    settings = {setting.name: _read(setting, environ.get(setting.name, "")) for setting in SETTINGS}
    if settings["DATABASE_URL"] and not settings["SECRET_KEY"]:
        raise ConfigError("SECRET_KEY must be set when DATABASE_URL is")
    return settings


def _read(setting: Setting, value: str) -> object:
    if not value.strip():
        return setting.default
    try:
        return setting.parse(value.strip())
    except ValueError as error:
        raise ConfigError(f"{setting.name} {error}") from error


def make_instance_folder(path: str) -> Path:
    """The folder for what is kept, made when it is not there: its owner's alone.

    Raises ConfigError when it cannot be.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"INSTANCE_PATH cannot be used: {error}") from error
    return folder


def keep_secret_keys(folder: Path) -> list[str]:
    """The signing keys kept in `folder`, the newest first; one is made when there is none.

    The newest has a file of its own, mode 0600 as all of them. Workers that start together agree
    on one: whoever links its file first wins.
    """
    path = folder / "secret_key"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = _draft(path, make_secret_key())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    older = folder / "secret_key_fallbacks"
    return [path.read_text().strip(), *(older.read_text().split() if older.exists() else ())]


def write_secret_keys(folder: Path, newest: str, *older: str) -> None:
    """Keep these keys in `folder` in place of what is there.

    The older ones first: a crash between the two leaves a key twice, and loses none.
    """
    for name, keys in (("secret_key_fallbacks", older), ("secret_key", (newest,))):
        path = folder / name
        _draft(path, "\n".join(keys)).replace(path)


def make_secret_key() -> str:
    return secrets.token_urlsafe(48)


def _draft(path: Path, text: str) -> Path:
    """A file beside `path`, its owner's alone, to become it as a whole."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return draft
