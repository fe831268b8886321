"""Runs what is in migrations/, forwards and back, one process at a time."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from peewee import Database, SqliteDatabase
from playhouse.migrations import Runner

from .config import ROOT

DIRECTORY = ROOT / "migrations"

# Any number will do, as long as it is always this one.
ADVISORY_LOCK = 7_203_114_559


def upgrade(database: Database) -> list[str]:
    """Apply what is pending, in order; returns the names. Others that try at once wait."""
    with _alone(database):
        return _runner(database).up()


def downgrade(database: Database, target: str | None = None) -> list[str]:
    """Take back the last migration, or all down to and including `target`."""
    with _alone(database):
        return _runner(database).down(target)


def pending(database: Database) -> list[str]:
    """The names of the migrations that were not applied."""
    return [migration.name for migration in _runner(database).status() if not migration.applied]


def _runner(database: Database) -> Runner:
    logging.getLogger("peewee.migrations").setLevel(logging.WARNING)
    return Runner(database, str(DIRECTORY))


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """No transaction around all of it: SQLite switches foreign keys off only outside of one."""
    alone = _alone_on_sqlite if isinstance(database, SqliteDatabase) else _alone_on_postgres
    with alone(database):
        yield


@contextmanager
def _alone_on_sqlite(database: SqliteDatabase) -> Iterator[None]:
    with open(f"{database.database}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _alone_on_postgres(database: Database) -> Iterator[None]:
    """On a connection of its own kind: a migration may take long, but waits for no lock long."""
    database.connection().read_seconds = None
    database.execute_sql("SET statement_timeout = 0")
    database.execute_sql("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
    database.execute_sql("SET lock_timeout = '2s'")
    try:
        yield
    finally:
        # The session's end is the end of its lock and of its settings.
        database.manual_close()
