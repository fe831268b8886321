"""SQLite as peewee's pool sees it: a file that only its owner reads, and several threads."""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import peewee
from playhouse.pool import PooledSqliteDatabase

from runtime import clock, metrics
from runtime.database.instants import InstantField

POOL_WAIT_SECONDS = 3
BUSY_MS = 10_000
# Before, several writers might corrupt a database in WAL mode (sqlite.org/wal.html#walresetbug).
SOUND_VERSION = (3, 51, 3)


class SqliteDatabase(PooledSqliteDatabase):
    """Connections that any thread may use, one thread at a time."""

    IS_SERVER = False
    FROM_NOW = "from_now({})"
    AMONG = "(SELECT value FROM json_each(?))"
    AT_LEAST, BELOW, BY_BYTES = ">=", "<", "ASC"

    connect = metrics.database_pool_wait.time()(PooledSqliteDatabase.connect)

    def __init__(self, path: str, connections: int):
        super().__init__(
            path,
            max_connections=connections,
            timeout=POOL_WAIT_SECONDS,
            check_same_thread=False,
            # A deferred BEGIN that reads and then writes fails at once when another has written
            # between, whatever the busy timeout; IMMEDIATE waits its turn.
            lock_type="IMMEDIATE",
            returning_clause=True,
            pragmas=(
                ("busy_timeout", BUSY_MS),
                ("journal_mode", "wal"),
                ("synchronous", "full"),
                ("foreign_keys", 1),
                # What is deleted or replaced is overwritten: free space would keep its words.
                ("secure_delete", 1),
            ),
        )
        # Deterministic within a statement: SQLite calls it once for all rows that it looks at.
        self.register_function(_from_now, "from_now", 1, deterministic=True)

    def fetch_all(self, sql: str, values: Sequence) -> list[tuple]:
        """Execute a statement, and read its rows to their end."""
        return self.execute_sql(sql, values).fetchall()

    def _connect(self):
        if not os.path.exists(self.database):
            # SQLite would let all users of the machine read it, and the files it makes beside it.
            with suppress(OSError):  # which SQLite words better
                os.close(os.open(self.database, os.O_CREAT | os.O_RDWR, 0o600))
        return super()._connect()


def is_sound() -> bool:
    """Whether the library of this process keeps a file whole when several write to it."""
    return peewee.sqlite3.sqlite_version_info >= SOUND_VERSION


def _from_now(seconds: float) -> str | None:
    return InstantField().db_value(clock.now() + timedelta(seconds=seconds))
