"""Every setting: its name, what it must look like, its default, one sentence.

The environment is the only source. `load` turns it into a mapping of typed values, or raises
`ConfigError` with one line that names the variable at fault.
"""

import contextlib
import ipaddress
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import redis
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from runtime.config import origins
from runtime.config.redirects import has_own_name, parse_allowlist

# What a request to the model has from the service itself.
TAKEN_OPTIONS = {"model", "messages", "input", "instructions", "tools", "stream"}

ROOT = Path(__file__).resolve().parents[2]
MAX_APP_NAME = 60
# Shorter ones can be guessed by who has one token and a few graphics cards.
SECRET_KEY_CHARS = 32
OPENAI_BASE_URL = "https://api.openai.com/v1"


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
    return _long_enough(value)


def _keys(value: str) -> list[str]:
    return [_long_enough(word) for word in _words(value)]


def _long_enough(key: str) -> str:
    if len(key) < SECRET_KEY_CHARS:
        raise ValueError(
            f"must have {SECRET_KEY_CHARS} characters or more a key: openssl rand -hex 32 makes one"
        )
    return key


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch("[0-9]{1,20}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return value.lower()

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
        # Drivers know their schemes in lower case alone.
        return url.scheme + value[len(url.scheme) :]

    return parse


def _redis_url(value: str) -> str:
    value = _url("redis", "rediss", "unix")(value)
    url = urlsplit(value)
    if url.scheme == "unix" and len(url.path) < 2:
        raise ValueError("must name a socket, as in unix:///run/redis.sock")
    if url.scheme != "unix" and not re.fullmatch(r"/?|/[0-9]+", url.path):
        raise ValueError("must name a database by its number, as in redis://host:6379/0")
    try:
        # Connects to nothing, but looks at every option.
        redis.ConnectionPool.from_url(value).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        # Their own words may quote the password.
        raise ValueError("must have no options but those that redis-py takes") from None
    return value


def _database_url(value: str) -> str:
    value = _url("postgres", "postgresql", "sqlite", host=False)(value)
    url = urlsplit(value)
    if len(url.path) < 2:
        raise ValueError("must name a database, as in postgres://host/name or sqlite:///path")
    if url.scheme != "sqlite":
        _demand_connectable(value)
    elif url.netloc:
        raise ValueError("must have three slashes, as in sqlite:///path")
    elif url.query or url.path == "/:memory:":
        raise ValueError("must name a file, as in sqlite:///path, and takes no options")
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


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address can be no other machine's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _app_name(value: str) -> str:
    # It stands in subjects and in From: see `mail.mailable` for `=?`.
    if len(value) > MAX_APP_NAME or not value.isprintable() or "=?" in value:
        raise ValueError(f"must be at most {MAX_APP_NAME} printable characters, without =?")
    return value


def _app_url(value: str) -> str:
    wanted = "must be a URL of ASCII characters, as in https://app.example.org/"
    try:
        url = _split_url(value)
    except ValueError as error:
        raise ValueError(wanted) from error
    is_plain = re.fullmatch(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]{1,2048}", value)
    if not is_plain or url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise ValueError(wanted)
    if has_own_name(value):
        raise ValueError(
            "must not have email, token or restoration in its query, which links in mails add"
        )
    return value


def _words(value: str) -> list[str]:
    return value.replace(",", " ").split()


def _redirects(value: str) -> list[str]:
    try:
        return parse_allowlist(value)
    except ValueError as error:
        raise ValueError(
            "must be http or https URLs such as https://app.example.org or"
            " https://example.org/app, in ASCII and without `..`"
        ) from error


def _origins_or_any(value: str) -> list[str]:
    return ["*"] if value.strip() == "*" else [_named(word) for word in _words(value)]


def _named(origin: str) -> str:
    """The origin as browsers send it. Raises ValueError when it is none."""
    try:
        return origins.normalized(origin)
    except ValueError as error:
        raise ValueError(f"{origins.WANTED}: {origin!r} is none, {error}") from error


def _tool_names(value: str) -> list[str]:
    return [] if value.strip().lower() == "none" else _words(value)


def _options(value: str) -> dict[str, object]:
    try:
        options = json.loads(value)
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise ValueError('must be a JSON object, as in {"temperature": 0.2}')
    if taken := sorted(options.keys() & TAKEN_OPTIONS):
        raise ValueError(f"must leave {taken[0]!r} to the service")
    return options


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
        _redis_url,
        None,
        "`redis://`, `rediss://` or `unix://`. Unset: an embedded store, for one process on one"
        " machine.",
    ),
    Setting(
        "SECRET_KEY",
        _key,
        None,
        "Signs every token and code; 32 characters or more. Unset: made once and kept under"
        " `instance/`; demanded when `DATABASE_URL` is set.",
    ),
    Setting(
        "SECRET_KEY_FALLBACKS",
        _keys,
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
    Setting(
        "MAIL_FROM",
        _address,
        None,
        "Whom mail is from, as in `Name <name@example.org>`; without a name it is `APP_NAME`."
        " Unset: `noreply@localhost`; demanded when `SMTP_URL` is another machine.",
    ),
    Setting("APP_NAME", _app_name, "Runtime API", "The name that mails and pages carry."),
    Setting(
        "APP_URL",
        _app_url,
        None,
        "Where buttons in notices lead, as in `https://app.example.org/`. Unset: they have none.",
    ),
    Setting(
        "MAIL_WORDS",
        _text,
        None,
        "A folder with `zh.toml` or `en.toml`, whose sentences replace those of the mails. Unset:"
        " all are those in `runtime/mail/texts/`.",
    ),
    Setting(
        "OPENAI_BASE_URL",
        _url("http", "https"),
        None,
        "A model's server, as in `http://localhost:11434/v1`; an address that was copied whole, and"
        " Azure's, will do. Unset: OpenAI's own when there is a key, else the embedded model.",
    ),
    Setting("OPENAI_API_KEY", _text, None, "The key sent to that server."),
    Setting("AGENT_MODEL", _text, None, "The model's name on that server, which has no default."),
    Setting("HTTP_PROXY", _url("http", "https"), None, "A proxy before servers of `http://`."),
    Setting("HTTPS_PROXY", _url("http", "https"), None, "A proxy before servers of `https://`."),
    Setting(
        "NO_PROXY",
        _text,
        "",
        "Hosts that are asked directly, separated by commas; those below them too.",
    ),
    Setting(
        "AGENT_DIALECT",
        _one_of("completions", "responses"),
        None,
        "What that server speaks: `completions` or `responses`. Unset: chat completions, until it"
        " asks for OpenAI's Responses.",
    ),
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
        "`package.module` whose tools are offered besides the built-in ones; one of the same name"
        " replaces a built-in one.",
    ),
    Setting(
        "AGENT_BUILTIN_TOOLS",
        _tool_names,
        None,
        "Which built-in tools are offered: some of `current_time, calculate, my_profile`, or"
        " `none`. Unset: all.",
    ),
    Setting(
        "AGENT_OPTIONS",
        _options,
        {},
        'A JSON object that is merged into every request to the model: `{"temperature": 0.2,'
        ' "reasoning_effort": "low"}`. `null` leaves a member out.',
    ),
    Setting("AGENT_MAX_STEPS", _whole(1, 100), 10, "Calls to the model in one run."),
    Setting("AGENT_MAX_SECONDS", _whole(1, 3600), 600, "Wall time of one run."),
    Setting(
        "AGENT_SILENCE_SECONDS",
        _whole(1, 600),
        300,
        "How long the model's server may send nothing; models that think are silent for minutes.",
    ),
    Setting("AGENT_TOOL_SECONDS", _whole(1, 600), 30, "How long one call of a tool may take."),
    Setting(
        "AGENT_TOOLS_AT_ONCE",
        _whole(1, 32),
        4,
        "Calls of one step of the model that run side by side; 1 for tools that must not.",
    ),
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
        _redirects,
        [],
        "Where `redirect_to` may lead, separated by commas or spaces: origins, or URLs with a path,"
        " which allow it and what is below.",
    ),
    Setting(
        "CORS_ORIGINS",
        _origins_or_any,
        [],
        "Origins whose pages may call the API, separated by commas or spaces, or `*` for all."
        " Pages of apps have some too: `capacitor://localhost`.",
    ),
    Setting(
        "TRUSTED_PROXIES",
        _whole(0, 10),
        0,
        "How many proxies stand in front, each of which adds to `X-Forwarded-For`; 0 ignores it.",
    ),
    Setting(
        "RATE_LIMITS",
        _on_off,
        True,
        "`off` lifts limits and cool-downs for load tests, not the bound on wrong codes; see"
        " Limits.",
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
        "What Prometheus shows at `/metrics`. Unset: no such path.",
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
    settings = {setting.name: _read(setting, _said(setting, environ)) for setting in SETTINGS}
    if model_server(settings) and not settings["AGENT_MODEL"]:
        raise ConfigError("AGENT_MODEL must name the model when a model's server is configured")
    if settings["DATABASE_URL"] and not settings["SECRET_KEY"]:
        raise ConfigError("SECRET_KEY must be set when DATABASE_URL is")
    if not settings["MAIL_FROM"]:
        if settings["SMTP_URL"] and not is_this_machine(urlsplit(settings["SMTP_URL"]).hostname):
            # Nobody takes mail from an address at localhost, and everything else would look well.
            raise ConfigError("MAIL_FROM must be set when SMTP_URL is another machine")
        settings["MAIL_FROM"] = "noreply@localhost"
    return settings


def model_server(settings: Mapping) -> str | None:
    """The base URL of the model's server; None where the embedded model answers."""
    return settings["OPENAI_BASE_URL"] or (OPENAI_BASE_URL if settings["OPENAI_API_KEY"] else None)


def _said(setting: Setting, environ: Mapping[str, str]) -> str:
    # Proxies are the one setting that is as usual in small letters.
    is_proxy = setting.name.endswith("_PROXY")
    return environ.get(setting.name) or (is_proxy and environ.get(setting.name.lower())) or ""


def _read(setting: Setting, value: str) -> object:
    if not value.strip():
        return setting.default
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ConfigError(f"{setting.name} must be UTF-8")
    try:
        return setting.parse(value.strip())
    except ValueError as error:
        raise ConfigError(f"{setting.name} {error}") from error


def keeps_files(settings: Mapping[str, object]) -> bool:
    """Whether anything is kept under INSTANCE_PATH, for want of a setting."""
    return not all(settings[name] for name in ("DATABASE_URL", "SECRET_KEY", "SMTP_URL"))


# What a release before this one may have left for others to read, and an operator by `cp`.
PRIVATE_FILES = ("runtime.sqlite3*", "secret_key*")


def make_instance_folder(path: str) -> Path:
    """The folder for what is kept, made when it is not there: its owner's alone, as is what we
    keep in it.

    Raises ConfigError when it cannot be, or nothing can be written there.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.stat().st_mode & stat.S_ISVTX:  # The system's own folder for all.
            _make_private(folder, 0o700)
        _make_private(folder / "outbox", 0o700)
        for pattern in PRIVATE_FILES:
            for file in folder.glob(pattern):
                _make_private(file, 0o600)
    except OSError as error:
        raise ConfigError(f"INSTANCE_PATH cannot be used: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"INSTANCE_PATH cannot be used: {folder} cannot be written to")
    return folder


def _make_private(path: Path, mode: int) -> None:
    """Take from others what they may do with it. What is not ours stays as it is, and so does
    what is not there.
    """
    with contextlib.suppress(PermissionError, FileNotFoundError):
        if path.stat().st_mode & 0o077:
            path.chmod(mode)


def keep_secret_keys(folder: Path) -> list[str]:
    """The signing keys kept in `folder`, the newest first; one is made when there is none.

    The newest has a file of its own, mode 0600 as all of them. Workers that start together agree
    on one: whoever links its file first wins. Raises ConfigError when a file has no key, or a
    short one: a new one in its place would sign everybody out.
    """
    path = folder / "secret_key"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = _draft(path, make_secret_key())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    older = folder / "secret_key_fallbacks"
    return [_read_key(path), *(_read_keys(older) if older.exists() else ())]


def _read_key(path: Path) -> str:
    keys = _read_keys(path)
    if len(keys) != 1:
        raise ConfigError(f"SECRET_KEY in {path} must be one key, and not {len(keys)}")
    return keys[0]


def _read_keys(path: Path) -> list[str]:
    try:
        return _keys(path.read_text())
    except (OSError, ValueError) as error:
        what = "cannot be read" if isinstance(error, OSError | UnicodeError) else error
        raise ConfigError(f"SECRET_KEY in {path} {what}") from error


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
