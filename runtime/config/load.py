"""Reads the settings from the environment."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from runtime.config.settings import SETTINGS, ConfigError
from runtime.config.urls import is_this_machine

OPENAI_BASE_URL = "https://api.openai.com/v1"


def load(environ: Mapping[str, str]) -> dict[str, Any]:
    """Every setting's value by its name; an empty variable counts as unset.

    Raises ConfigError when one makes no sense, alone or beside the others.
    """
    settings: dict[str, Any] = {name: _read(name, _text_of(name, environ)) for name in SETTINGS}
    if model_server(settings) and not settings["AGENT_MODEL"]:
        raise ConfigError("AGENT_MODEL must name the model when a model's server is configured")
    if settings["DATABASE_URL"] and not settings["SECRET_KEY"]:
        raise ConfigError("SECRET_KEY must be set when DATABASE_URL is")
    if not settings["MAIL_FROM"]:
        if settings["SMTP_URL"] and not is_this_machine(urlsplit(settings["SMTP_URL"]).hostname):
            # No server takes mail from an address at localhost, and all else would look well.
            raise ConfigError("MAIL_FROM must be set when SMTP_URL is another machine")
        settings["MAIL_FROM"] = "noreply@localhost"
    if settings["PAGE"] is None:
        settings["PAGE"] = not settings["DATABASE_URL"] and not settings["SMTP_URL"]
    return settings


def model_server(settings: Mapping) -> str | None:
    """The base URL of the model's server; None where the embedded model answers."""
    return settings["OPENAI_BASE_URL"] or (OPENAI_BASE_URL if settings["OPENAI_API_KEY"] else None)


def _text_of(name: str, environ: Mapping[str, str]) -> str:
    text = environ.get(name)
    # Proxies are the one setting whose name is often in small letters.
    if not text and name.endswith("_PROXY"):
        text = environ.get(name.lower())
    return (text or "").strip()


def _read(name: str, text: str) -> object:
    setting = SETTINGS[name]
    if not text:
        return setting.default
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(f"{name} must be UTF-8")
    try:
        return setting.read(text)
    except ValueError as error:
        raise ConfigError(f"{name} {error}") from error
