"""The application factory: reads the settings, builds each part once, registers it."""

from collections.abc import Mapping
from os import environ

from flask import Flask

from runtime import logs
from runtime.api import register
from runtime.api.application import Application
from runtime.cli import register as commands
from runtime.config.instance_folder import keeps_files, make_instance_folder
from runtime.config.load import load
from runtime.config.secret_keys import keep_secret_keys
from runtime.config.settings import ROOT
from runtime.database import connections, start
from runtime.limits import rates, store
from runtime.mail import letters, queue
from runtime.security import passwords, tokens
from runtime.services import purge
from runtime.services.accounts import security_log
from runtime.services.chats import agent


def create_app(settings: Mapping[str, str] | None = None) -> Flask:
    """The service, from `settings` as the environment would have them, or from the environment.

    Raises ConfigError when one makes no sense.
    """
    app = Application(
        "runtime",
        root_path=str(ROOT / "runtime"),
        static_folder="static/docs",
        static_url_path="/api/v1/docs",
        instance_path=str(ROOT / "instance"),
    )
    app.config.update(load(environ if settings is None else settings))
    if keeps_files(app.config):
        folder = make_instance_folder(app.config["INSTANCE_PATH"])
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"], *older = keep_secret_keys(folder)
        app.config["SECRET_KEY_FALLBACKS"] = [*older, *app.config["SECRET_KEY_FALLBACKS"]]
        app.config["SECRET_KEY_FOLDER"] = folder
    for part in (logs, connections, store, tokens, passwords, letters, queue, rates):
        part.init_app(app)
    for part in (security_log, agent, purge, register, commands):
        part.init_app(app)
    if not app.config["DATABASE_URL"]:
        start.migrate_own_database(app.extensions["db"])
    return app
