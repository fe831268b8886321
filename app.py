"""The application factory: reads the settings, builds each part once, registers it."""

from collections.abc import Mapping
from os import environ

from flask import Flask

from runtime import (
    api,
    cli,
    config,
    db,
    letters,
    logs,
    mail,
    metrics,
    passwords,
    ratelimit,
    start,
    store,
    tokens,
)
from runtime.api.http import Application
from runtime.services import events, purge, runs


def create_app(settings: Mapping[str, str] | None = None) -> Flask:
    """The service, from `settings` as the environment would have them, or from the environment.

    Raises config.ConfigError when one makes no sense.
    """
    app = Application(
        "runtime",
        root_path=str(config.ROOT / "runtime"),
        static_url_path="/api/v1/docs",
        instance_path=str(config.ROOT / "instance"),
    )
    app.config.update(config.load(environ if settings is None else settings))
    app.json.sort_keys = False
    if config.keeps_files(app.config):
        folder = config.make_instance_folder(app.config["INSTANCE_PATH"])
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"], *older = config.keep_secret_keys(folder)
        app.config["SECRET_KEY_FALLBACKS"] = [*older, *app.config["SECRET_KEY_FALLBACKS"]]
        app.config["SECRET_KEY_FOLDER"] = folder
    for part in (logs, metrics, db, store, tokens, passwords, letters, mail, ratelimit):
        part.init_app(app)
    for part in (events, runs, purge, api, cli):
        part.init_app(app)
    if not app.config["DATABASE_URL"]:
        start.migrate_own_database(app.extensions["db"])
    return app
