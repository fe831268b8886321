"""Opens the database that the settings name, and gives connections back after requests."""

import logging

import peewee
from flask import Flask

from runtime import logs
from runtime.database.base import db, release
from runtime.database.postgres import PostgresDatabase
from runtime.database.sqlite import SqliteDatabase, is_sound

# Of all workers together, up to four: small hosted plans allow 20. Threads wait their turn.
POSTGRES_CONNECTIONS = 16
MIN_CONNECTIONS = 4
# SQLite's, beside one for each thread: for those that send mail or purge.
SPARE_CONNECTIONS = 8


def connect(url: str, threads: int, workers: int = 1) -> SqliteDatabase | PostgresDatabase:
    """The database behind a `DATABASE_URL`, not opened yet, for so many threads of each worker."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return SqliteDatabase(rest.removeprefix("/"), threads + SPARE_CONNECTIONS)
    connections = max(MIN_CONNECTIONS, POSTGRES_CONNECTIONS // workers)
    return PostgresDatabase(f"postgresql://{rest}", min(threads, connections))


def init_app(app: Flask) -> None:
    """Bind the models to the app's database; give the connection back at the end of a request."""
    url = app.config["DATABASE_URL"]
    if not url:
        url = f"sqlite:///{app.config['INSTANCE_PATH']}/runtime.sqlite3"
    database = connect(url, app.config["WEB_THREADS"], app.config["WEB_CONCURRENCY"])
    if isinstance(database, SqliteDatabase) and not is_sound():
        version = peewee.sqlite3.sqlite_version
        logs.event("sqlite_may_corrupt_its_file", level=logging.WARNING, version=version)
    db.initialize(database)
    app.extensions["db"] = database
    app.teardown_appcontext(release)
