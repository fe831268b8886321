"""Lets one process migrate at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.database.postgres import PostgresDatabase
from runtime.database.postgres_connection import Connection
from runtime.database.sqlite import SqliteDatabase

# Any number will do, as long as it is always this one.
ADVISORY_LOCK = 7_203_114_559
PAUSE_SECONDS = 0.1
# Requests for a table wait behind a migration that waits for it. So a migration gives up soon.
TABLE_LOCK_MILLISECONDS = 200

# What may end a transaction that does nothing, as far as this version of Postgres knows of it.
WITHOUT_END = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""


@contextmanager
def held(database: SqliteDatabase | PostgresDatabase) -> Iterator[None]:
    """Hold the lock for the block; other processes wait for it.

    No transaction is open around the block: SQLite switches foreign keys off only outside of one.
    """
    is_sqlite = isinstance(database, SqliteDatabase)
    with _held_on_sqlite(database) if is_sqlite else _held_on_postgres(database):
        yield


@contextmanager
def _held_on_sqlite(database: SqliteDatabase) -> Iterator[None]:
    path = f"{database.database}.lock"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _held_on_postgres(database: PostgresDatabase) -> Iterator[None]:
    """Hold the lock in a transaction beside the migrations' own, whose end is the lock's.

    A session's lock would stay with a pooler's session.
    """
    lock = database.open_apart()
    lock.prepare_threshold = None
    try:
        while not _has_locked(lock):
            time.sleep(PAUSE_SECONDS)
        database.connection().begin_migrating(TABLE_LOCK_MILLISECONDS)
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
    [[has_locked]] = connection.execute(lock)
    if not has_locked:
        connection.execute("ROLLBACK")
    return has_locked
