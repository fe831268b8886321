"""The database: one proxy that every model is bound to, opened at the first query of a request.

`db` follows the application made last: one application a process, as gunicorn runs it.
"""

import json
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import peewee
from playhouse.pool import MaxConnectionsExceeded, PooledSqliteDatabase
from psycopg.errors import UndefinedColumn, UndefinedTable

from runtime import clock, logs, metrics
from runtime.database.postgres import PostgresDatabase
from runtime.errors import Unavailable

db = peewee.DatabaseProxy()

SQLITE_POOL_WAIT_SECONDS = 3
SQLITE_BUSY_MS = 10_000
# Before, several writers might corrupt a database in WAL mode (sqlite.org/wal.html#walresetbug).
SOUND_SQLITE = (3, 51, 3)
# Of all workers together, up to four: small hosted plans allow 20. Threads wait their turn.
POSTGRES_CONNECTIONS = 16
MIN_CONNECTIONS = 4


class InstantField(peewee.DateTimeField):
    """An instant: aware and in UTC outside, a plain UTC timestamp in the table."""

    formats = ("%Y-%m-%d %H:%M:%S.%f",)

    def db_value(self, value: datetime | None):
        if value is None:
            return None
        # SQLite compares the text, so that every one must have its microseconds.
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"

    def python_value(self, value: datetime | str | None) -> datetime | None:
        if isinstance(value, str):  # SQLite's
            value = datetime.fromisoformat(value)
        # As `replace(tzinfo=UTC)`, in a quarter of the time.
        return value and datetime.combine(value.date(), value.time(), UTC)


class Model(peewee.Model):
    """What every table has: a random id (RFC 9562 UUIDv4) and when its row was made."""

    id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)
    created_at = InstantField(default=clock.now)

    class Meta:
        database = db
        legacy_table_names = False


class Prepared:
    """A statement whose SQL is built once for each kind of database.

    `build` makes the query from a placeholder for each of its values, which are given at every
    call as the driver takes them. Building takes peewee five times as long as the database needs
    to answer, so the statements of every request are worth it. Rows that `may_be_long` are
    forgotten as soon as they are read.
    """

    def __init__(
        self, build: Callable[..., peewee.Query], values: int = 1, *, may_be_long: bool = False
    ):
        self._build = build
        self._values = values
        self._may_be_long = may_be_long
        self._sql: dict[str, str] = {}

    def rows(self, *values) -> list[tuple]:
        """What the driver has for an answer, all of it: a RETURNING not read to its end would
        keep SQLite's write lock.
        """
        database = db.obj
        param = database.param
        if param not in self._sql:
            query = self._build(*[peewee.SQL(param)] * self._values).bind(database)
            sql, constants = query.sql()
            if constants:
                raise ValueError(f"constants would have no value at the call: {constants}")
            self._sql[param] = sql
        if self._may_be_long:
            return database.execute_sql(self._sql[param], values).fetchall()
        return database.fetch_all(self._sql[param], values)


def make_row(model: type[Model], values: Sequence, fields: Sequence | None = None) -> Model:
    """An instance of `model` from the values of its columns, in their order, or of those `fields`
    alone.
    """
    row = model(__no_default__=True)
    for field, value in zip(fields or model._meta.sorted_fields, values, strict=True):
        row.__data__[field.name] = field.python_value(value)
    return row


class SqliteDatabase(PooledSqliteDatabase):
    """Connections that any thread may use, one thread at a time."""

    connect = metrics.database_pool_wait.time()(PooledSqliteDatabase.connect)

    def fetch_all(self, sql: str, values: Sequence) -> list[tuple]:
        """Execute a statement, and read its rows to their end."""
        return self.execute_sql(sql, values).fetchall()

    def _connect(self):
        if not os.path.exists(self.database):
            # SQLite would let everybody read it; the files that it makes beside it are as it is.
            with suppress(OSError):  # which SQLite words better
                os.close(os.open(self.database, os.O_CREAT | os.O_RDWR, 0o600))
        return super()._connect()

    def _is_closed(self, conn):
        return False


def connect(url: str, threads: int, workers: int = 1) -> peewee.Database:
    """The database behind a `DATABASE_URL`, not opened yet, for so many threads of each worker."""
    if url.startswith("sqlite:"):
        return _sqlite(url.removeprefix("sqlite:///"), threads)
    connections = max(MIN_CONNECTIONS, POSTGRES_CONNECTIONS // workers)
    return PostgresDatabase("postgresql://" + url.partition("://")[2], min(threads, connections))


def _sqlite(path: str, threads: int) -> peewee.Database:
    database = SqliteDatabase(
        path,
        max_connections=threads + 8,
        timeout=SQLITE_POOL_WAIT_SECONDS,
        check_same_thread=False,
        # A deferred BEGIN that reads and then writes fails at once when another has written
        # between, whatever the busy timeout; IMMEDIATE waits its turn.
        lock_type="IMMEDIATE",
        returning_clause=True,
        pragmas=(
            ("busy_timeout", SQLITE_BUSY_MS),
            ("journal_mode", "wal"),
            ("synchronous", "full"),
            ("foreign_keys", 1),
        ),
    )
    database.register_function(_from_now, "from_now", 1)
    return database


def init_app(app) -> None:
    """Bind the models to the app's database; give the connection back at the end of a request."""
    url = app.config["DATABASE_URL"]
    if not url:
        url = f"sqlite:///{app.config['INSTANCE_PATH']}/runtime.sqlite3"
    if url.startswith("sqlite:") and peewee.sqlite3.sqlite_version_info < SOUND_SQLITE:
        version = peewee.sqlite3.sqlite_version
        logs.event("sqlite_may_corrupt_its_file", level=logging.WARNING, version=version)
    db.initialize(connect(url, app.config["WEB_THREADS"], app.config["WEB_CONCURRENCY"]))
    app.extensions["db"] = db.obj
    app.teardown_appcontext(release)


def release(_error: BaseException | None = None) -> None:
    """Give the thread's connection back to the pool, if it has one."""
    database = db.obj
    if not database.is_closed():
        database.close()


def discard() -> None:
    """Close the thread's connection to Postgres: after a failover it may lead to a replica."""
    if isinstance(db.obj, PostgresDatabase) and not db.is_closed():
        db.manual_close()


def is_outage(error: BaseException) -> bool:
    """Whether the database is away, full, overrun or not migrated, rather than asked nonsense."""
    # SQLite commits when the last row of a RETURNING is fetched, where peewee translates nothing.
    own = peewee.sqlite3.OperationalError
    # Postgres' InternalError: it has become a replica, or ended a transaction that stood idle.
    outages = peewee.OperationalError | peewee.InterfaceError | peewee.InternalError | own
    return isinstance(error, outages | MaxConnectionsExceeded) or _is_unmigrated(error)


def _is_unmigrated(error: BaseException) -> bool:
    return isinstance(error.__context__, UndefinedTable | UndefinedColumn)


def outage_reason(error: BaseException) -> str:
    """One line for the log: what failed, and what had failed before that."""
    reasons = ["the database is not migrated: run flask db upgrade"] * _is_unmigrated(error)
    while error:
        # Only the first line: those that follow may quote a row.
        reasons.append(str(error).partition("\n")[0])
        error = error.__context__
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def unavailable(error: BaseException) -> Unavailable:
    """The failure that stands for an outage."""
    failure = Unavailable()
    failure.__cause__ = error
    return failure


def among(key: peewee.Field, values: Sequence) -> peewee.Expression:
    """The condition that a primary key is one of these values, however many they are.

    They travel as one value, in JSON: with one for each, peewee takes longer than the database.
    """
    text = json.dumps([str(key.db_value(value)) for value in values])
    if isinstance(db.obj, peewee.SqliteDatabase):
        return key.in_(peewee.SQL("(SELECT value FROM json_each(?))", [text]))
    type_ = "uuid" if isinstance(key, peewee.UUIDField) else "text"
    rows = f"(SELECT value::{type_} FROM json_array_elements_text(%s))"
    return key.in_(peewee.SQL(rows, [text]))


def from_now(**duration: float) -> peewee.SQL:
    """An instant so far from now by the database's own clock, which all machines share.

    Takes a timedelta's arguments, and holds no parameter. With SQLite there is one machine, and
    its clock is ours.
    """
    seconds = timedelta(**duration).total_seconds()
    if isinstance(db.obj, peewee.SqliteDatabase):
        return peewee.SQL(f"from_now({seconds})")
    return peewee.SQL(f"(timezone('utc', now()) + make_interval(secs => {seconds}))")


def fixed_from_now(**duration: float) -> peewee.SQL | datetime:
    """`from_now` for one statement, that is executed at once.

    SQLite would call the function for each row that it looks at, which takes long enough to tell
    whether there is one.
    """
    if isinstance(db.obj, peewee.SqliteDatabase):
        return clock.now() + timedelta(**duration)
    return from_now(**duration)


def _from_now(seconds: float) -> str:
    """SQLite's own function of that name."""
    return InstantField().db_value(clock.now() + timedelta(seconds=seconds))
