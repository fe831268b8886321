"""Runs what is in migrations/, forwards and back, one process at a time."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from peewee import Database, OperationalError, SqliteDatabase
from playhouse.migrations import Runner
from psycopg.errors import LockNotAvailable

from runtime.config.settings import ROOT
from runtime.database.postgres import PostgresDatabase
from runtime.database.postgres_connection import Connection

DIRECTORY = ROOT / "migrations"

# Any number will do, as long as it is always this one.
ADVISORY_LOCK = 7_203_114_559

# What may end a transaction that does nothing, as far as this version of Postgres knows of it.
WITHOUT_END = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""

# Whoever wants a table waits behind a migration that waits for it: that one gives up after an
# instant, and tries again later, until its patience is over.
LOCK_MILLISECONDS = 200
PAUSE_SECONDS = 1
PATIENCE_SECONDS = 60


# Addresses and usernames are ASCII, and unique by what `lower()` makes of them.
FITNESS = """
    SELECT current_setting('server_encoding'),
        lower('ABCDEFGHIJKLMNOPQRSTUVWXYZ') = 'abcdefghijklmnopqrstuvwxyz'
"""
MAKE_A_FIT_ONE = "make it with TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'"


class UnfitDatabase(Exception):
    """The database was made so that it would keep what users write, or who they are, wrong."""


class TableInUse(Exception):
    """A migration did not get a lock; it, and those after it, were not applied."""


def upgrade(database: Database, patience_seconds: float = PATIENCE_SECONDS) -> list[str]:
    """Apply what is pending, in order; returns the names. Others that try at once wait.

    Raises TableInUse when a table that one of them changes is in use for so long without a pause,
    UnfitDatabase.
    """
    with _alone(database):
        demand_fit(database)
        names = pending(database)
        deadline = time.monotonic() + patience_seconds
        while not _is_applied(database):
            if time.monotonic() > deadline:
                blocked = pending(database)
                raise TableInUse(f"{blocked[0]}: a table it changes is in use, try again later")
            time.sleep(PAUSE_SECONDS)
        return names


def demand_fit(database: Database) -> None:
    """Raises UnfitDatabase unless it is UTF-8, and knows the letters of ASCII as everybody does.

    One whose locale is Turkish makes two accounts of INA and ina.
    """
    if isinstance(database, SqliteDatabase):  # It is so whatever its file is.
        return
    encoding, folds_as_ascii = database.execute_sql(FITNESS).fetchone()
    if encoding != "UTF8":
        raise UnfitDatabase(f"names a database in {encoding}: {MAKE_A_FIT_ONE}")
    if not folds_as_ascii:
        raise UnfitDatabase(f"names a database whose locale folds I otherwise: {MAKE_A_FIT_ONE}")


def _is_applied(database: Database) -> bool:
    """Apply what is pending; False when one found a table in use, and was taken back."""
    try:
        _runner(database).up()
    except OperationalError as error:
        if not isinstance(error.__context__, LockNotAvailable):
            raise
        return False
    return True


def downgrade(database: Database, target: str | None = None) -> list[str]:
    """Take back the last migration, or all down to and including `target`."""
    with _alone(database):
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
    path = f"{database.database}.lock"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _alone_on_postgres(database: PostgresDatabase) -> Iterator[None]:
    """Hold a lock in a transaction beside the migrations' own, whose end is the lock's.

    A session's lock would stay with a pooler's session.
    """
    lock = database.open_apart()
    lock.prepare_threshold = None
    try:
        while not _has_locked(lock):
            time.sleep(PAUSE_SECONDS / 10)
        database.connection().begin_migrating(LOCK_MILLISECONDS)
        try:
            yield
        finally:
            # The session's end is the end of its settings.
            database.manual_close()
    finally:
        lock.close()


def _has_locked(connection: Connection) -> bool:
    """Whether a transaction has begun that holds the lock, for as long as it takes.

    CREATE INDEX CONCURRENTLY waits for every transaction that may still read old rows. So this
    one asks again and again instead of waiting in a statement. Nothing of it is prepared or has
    parameters: that would leave a portal open, which may read.
    """
    connection.execute("BEGIN")
    connection.execute(WITHOUT_END)
    lock = f"SELECT pg_try_advisory_xact_lock({ADVISORY_LOCK})"
    [has_locked] = connection.execute(lock).fetchone()
    if not has_locked:
        connection.execute("ROLLBACK")
    return has_locked
