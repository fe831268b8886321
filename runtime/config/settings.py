"""Every setting: how its value is read, one sentence, and its default.

The environment is the only source: see `runtime.config.load`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.config import origins
from runtime.config.readers import (
    address,
    app_name,
    bearer_token,
    key,
    keys,
    model_options,
    on_off,
    one_of,
    text,
    tool_names,
    whole,
)
from runtime.config.redirects import parse_allowlist
from runtime.config.urls import app_url, database_url, redis_url, smtp_url, url

ROOT = Path(__file__).resolve().parents[2]


class ConfigError(Exception):
    """A setting makes no sense; the text is one line that begins with the variable's name."""


@dataclass(frozen=True)
class Setting:
    """One variable: `read` takes its text, and raises ValueError with what it should be."""

    read: Callable[[str], object]
    sentence: str
    default: object = None


SETTINGS = {
    "DATABASE_URL": Setting(
        database_url,
        "`postgres://`, `postgresql://` or `sqlite:///path`. Unset: SQLite under `instance/`,"
        " migrated at start.",
    ),
    "REDIS_URL": Setting(
        redis_url,
        "`redis://`, `rediss://` or `unix://`. Unset: an embedded store, for one process on one"
        " machine.",
    ),
    "SECRET_KEY": Setting(
        key,
        "Signs every token and code; 32 characters or more. Unset: made once and kept under"
        " `instance/`; demanded when `DATABASE_URL` is set.",
    ),
    "SECRET_KEY_FALLBACKS": Setting(
        keys, "Earlier keys that still verify, separated by commas or spaces.", default=[]
    ),
    "SMTP_URL": Setting(
        smtp_url,
        "`smtp://user:pass@host:587?starttls=1` or `smtps://user:pass@host`. Unset: mail is"
        " written under `instance/outbox/`.",
    ),
    "MAIL_FROM": Setting(
        address,
        "The sender of all mail, as in `Name <name@example.org>`; without a name it is `APP_NAME`."
        " Unset: `noreply@localhost`; demanded when `SMTP_URL` is another machine.",
    ),
    "APP_NAME": Setting(app_name, "The name that mails and pages carry.", default="Runtime API"),
    "APP_URL": Setting(
        app_url,
        "Where buttons in notices lead, as in `https://app.example.org/`. Unset: they have none.",
    ),
    "MAIL_WORDS": Setting(
        text,
        "A folder with `zh.toml` or `en.toml`, whose sentences replace those of the mails. Unset:"
        " all are those in `runtime/mail/texts/`.",
    ),
    "OPENAI_BASE_URL": Setting(
        url("http", "https"),
        "A model's server, as in `http://localhost:11434/v1`; an address that was copied whole,"
        " and Azure's, will do. Unset: OpenAI's own when there is a key, else the embedded model.",
    ),
    "OPENAI_API_KEY": Setting(text, "The key sent to that server."),
    "AGENT_MODEL": Setting(text, "The model's name on that server, which has no default."),
    "HTTP_PROXY": Setting(url("http", "https"), "The proxy for `http://` servers."),
    "HTTPS_PROXY": Setting(url("http", "https"), "The proxy for `https://` servers."),
    "NO_PROXY": Setting(
        text,
        "Hosts that are asked directly, separated by commas; those below them too.",
        default="",
    ),
    "AGENT_DIALECT": Setting(
        one_of("completions", "responses"),
        "What that server speaks: `completions` or `responses`. Unset: chat completions, until it"
        " asks for OpenAI's Responses.",
    ),
    "AGENT_INSTRUCTIONS": Setting(
        text,
        "What the model is told before every conversation.",
        default="You are a helpful assistant. Answer in the language of the user.",
    ),
    "AGENT_TOOLS": Setting(
        text,
        "`package.module` whose tools are offered besides the built-in ones; one of the same name"
        " replaces a built-in one.",
    ),
    "AGENT_BUILTIN_TOOLS": Setting(
        tool_names,
        "Which built-in tools are offered: some of `current_time, calculate, my_profile`, or"
        " `none`. Unset: all.",
    ),
    "AGENT_OPTIONS": Setting(
        model_options,
        'A JSON object that is merged into every request to the model: `{"temperature": 0.2,'
        ' "reasoning_effort": "low"}`. `null` leaves a member out.',
        default={},
    ),
    "AGENT_MAX_STEPS": Setting(whole(1, 100), "Calls to the model in one run.", default=10),
    "AGENT_MAX_SECONDS": Setting(whole(1, 3600), "Wall time of one run.", default=600),
    "AGENT_SILENCE_SECONDS": Setting(
        whole(1, 600),
        "How long the model's server may send nothing; models that think are silent for minutes.",
        default=300,
    ),
    "AGENT_TOOL_SECONDS": Setting(
        whole(1, 600), "How long one call of a tool may take.", default=30
    ),
    "AGENT_TOOLS_AT_ONCE": Setting(
        whole(1, 32),
        "Calls of one step of the model that run side by side; 1 if tools must not.",
        default=4,
    ),
    "AGENT_MAX_OUTPUT_CHARS": Setting(
        whole(100, 10_000_000),
        "Characters that a run may write, arguments of tools included.",
        default=100_000,
    ),
    "AGENT_MAX_OUTPUT_TOKENS": Setting(
        whole(1, 10_000_000),
        "Tokens that the model may write in one step. Unset: 4096 with a budget, else as many as"
        " it likes.",
    ),
    "AGENT_DAILY_TOKENS": Setting(
        whole(1, 10**12),
        "The budget: tokens, input and output together, that each user may use in a UTC day.",
    ),
    "AGENT_DAILY_CHARS": Setting(
        whole(10_000, 10**12),
        "Characters that each user may write to the agent in a UTC day, results of a front end's"
        " tools included; a message counts as 500 at the least.",
        default=5_000_000,
    ),
    "AGENT_MAX_CHATS": Setting(whole(1, 10**9), "Chats that an account may have.", default=10_000),
    "AGENT_HISTORY_CHARS": Setting(
        whole(1000, 10_000_000),
        "Characters that are sent to the model at once, instructions included: the conversation's"
        " end.",
        default=60_000,
    ),
    "REDIRECT_ALLOWLIST": Setting(
        parse_allowlist,
        "Where `redirect_to` may lead, separated by commas or spaces: origins, or URLs with a"
        " path, which allow it and what is below.",
        default=[],
    ),
    "CORS_ORIGINS": Setting(
        origins.parse_list,
        "Origins whose pages may call the API, separated by commas or spaces, or `*` for all."
        " Pages of apps have some too: `capacitor://localhost`.",
        default=[],
    ),
    "TRUSTED_PROXIES": Setting(
        whole(0, 10),
        "How many proxies stand in front, each of which adds to `X-Forwarded-For`; 0 ignores it."
        " With proxies, all requests without the header count as one network.",
        default=0,
    ),
    "RATE_LIMITS": Setting(
        on_off,
        "`off` lifts limits and cool-downs for load tests, not what bounds guesses at codes; see"
        " Limits.",
        default=True,
    ),
    "PASSWORD_MIN_LENGTH": Setting(
        whole(6, 128), "Characters that a new password must have.", default=6
    ),
    "MAX_SESSIONS": Setting(
        whole(1, 1000),
        "Live sessions that an account may have: a sign-in beyond ends the one unused for longest.",
        default=200,
    ),
    "PAGE": Setting(
        on_off,
        "The page at `/`: `on` or `off`. Unset: on while neither `DATABASE_URL` nor `SMTP_URL` is"
        " set.",
    ),
    "METRICS_TOKEN": Setting(
        bearer_token, "The bearer token that Prometheus sends to `/metrics`. Unset: no such path."
    ),
    "EVENTS_DAYS": Setting(
        whole(1, 3650),
        "Days that the security events of an account are kept for its owner to read.",
        default=90,
    ),
    "PORT": Setting(whole(1, 65535), "The port to listen on, on every address.", default=8000),
    "WEB_CONCURRENCY": Setting(whole(1, 256), "Worker processes.", default=1),
    "WEB_THREADS": Setting(whole(1, 1024), "Threads of each worker.", default=64),
    "INSTANCE_PATH": Setting(
        lambda value: str(Path(value).resolve()),
        "The folder for what is kept when a setting above is unset.",
        default=str(ROOT / "instance"),
    ),
}
