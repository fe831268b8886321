"""Runs what is in migrations/, forwards and back, one process at a time."""

import logging
import time
from datetime import datetime

from peewee import OperationalError
from playhouse.migrations import Runner
from psycopg.errors import LockNotAvailable

from runtime.config.settings import ROOT
from runtime.database import migration_lock
from runtime.database.fitness import demand_fit
from runtime.database.postgres import PostgresDatabase
from runtime.database.sqlite import SqliteDatabase

DIRECTORY = ROOT / "migrations"

# A migration that finds a table in use is tried again after a pause, for so long in all.
PAUSE_SECONDS = 1
PATIENCE_SECONDS = 60

Database = SqliteDatabase | PostgresDatabase


class TableInUse(Exception):
    """A migration did not get a lock; it, and those after it, were not applied."""


def upgrade(database: Database, patience_seconds: float = PATIENCE_SECONDS) -> list[str]:
    """Apply what is pending, in order; returns the names. Others that try at once wait.

    Raises TableInUse when a table that one of them changes is in use for so long without a pause,
    UnfitDatabase.
    """
    with migration_lock.held(database):
        demand_fit(database)
        names = pending(database)
        deadline = time.monotonic() + patience_seconds
        while not _is_applied(database):
            if time.monotonic() > deadline:
                blocked = pending(database)
                raise TableInUse(f"{blocked[0]}: a table it changes is in use, try again later")
            time.sleep(PAUSE_SECONDS)
        return names


def downgrade(database: Database, target: str | None = None) -> list[str]:
    """Take back the last migration, or all down to and including `target`; returns the names."""
    with migration_lock.held(database):
        return _runner(database).down(target)


def pending(database: Database) -> list[str]:
    """The names of the migrations that were not applied."""
    return [name for name, applied_at in status(database) if applied_at is None]


def status(database: Database) -> list[tuple[str, datetime | None]]:
    """Each migration's name and when it was applied, in order; None when it was not.

    Those too that a later release has applied, and that are not here.
    """
    found = _runner(database).status()
    # The runner keeps the local time of the machine that applied it, without a zone.
    return [(each.name, each.applied and each.applied.astimezone()) for each in found]


def _is_applied(database: Database) -> bool:
    """Apply what is pending; False when one found a table in use, and was taken back."""
    try:
        _runner(database).up()
    except OperationalError as error:
        if not isinstance(error.__context__, LockNotAvailable):
            raise
        return False
    return True


def _runner(database: Database) -> Runner:
    logging.getLogger("peewee.migrations").setLevel(logging.WARNING)
    return Runner(database, str(DIRECTORY))
