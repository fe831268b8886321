"""The database: one proxy that every model is bound to, opened at the first query of a request.

`db` follows the application made last: one application a process, as gunicorn runs it.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import peewee
from playhouse.pool import MaxConnectionsExceeded, PooledSqliteDatabase

from . import clock, logs
from .errors import Unavailable
from .postgres import PostgresDatabase

db = peewee.DatabaseProxy()

# How long a thread waits for one of the pool's connections.
POOL_WAIT_SECONDS = 3
SQLITE_BUSY_MS = 10_000
# Before, several writers might corrupt a database in WAL mode (sqlite.org/wal.html#walresetbug).
SOUND_SQLITE = (3, 51, 3)
# Of all workers together: small hosted plans allow 20. Threads beyond them wait their turn.
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

    def python_value(self, value):
        value = super().python_value(value)
        return value and value.replace(tzinfo=UTC)


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
    to answer, so the statements of every request are worth it.
    """

    def __init__(self, build: Callable[..., peewee.Query], values: int = 1):
        self._build = build
        self._values = values
        self._sql: dict[str, str] = {}

    def execute(self, *values):
        """The driver's cursor."""
        param = db.obj.param
        if param not in self._sql:
            query = self._build(*[peewee.SQL(param)] * self._values)
            self._sql[param], constants = query.sql()
            assert not constants, "a constant in the query would have no value at the call"
        return db.execute_sql(self._sql[param], values)


def make_row(model: type[Model], values: Sequence) -> Model:
    """An instance of `model` from the values of its columns, in their order."""
    fields = model._meta.sorted_fields
    return model(**{f.name: f.python_value(v) for f, v in zip(fields, values, strict=True)})


class SqliteDatabase(PooledSqliteDatabase):
    """Connections that any thread may use, one thread at a time."""

    def _is_closed(self, conn):
        return False


def connect(url: str, threads: int, workers: int = 1) -> peewee.Database:
    """The database behind a `DATABASE_URL`, not opened yet, for so many threads of each worker."""
    if url.startswith("sqlite:"):
        return _sqlite(url.removeprefix("sqlite:///"), threads)
    connections = max(MIN_CONNECTIONS, POSTGRES_CONNECTIONS // workers)
    return PostgresDatabase("postgresql://" + url.partition("://")[2], min(threads, connections))


def _sqlite(path: str, threads: int) -> peewee.Database:
    return SqliteDatabase(
        path,
        max_connections=threads + 8,
        timeout=POOL_WAIT_SECONDS,
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
    if not db.is_closed():
        db.close()


def is_outage(error: BaseException) -> bool:
    """Whether the database is away, full or overrun, rather than asked something wrong."""
    return isinstance(
        error, peewee.OperationalError | peewee.InterfaceError | MaxConnectionsExceeded
    )


def unavailable(error: BaseException) -> Unavailable:
    """The failure that stands for an outage."""
    failure = Unavailable()
    failure.__cause__ = error
    return failure


def database_now() -> peewee.SQL:
    """The database's own clock as a column; NULL on SQLite, whose one machine's clock is ours."""
    is_sqlite = isinstance(db.obj, peewee.SqliteDatabase)
    return peewee.SQL("NULL" if is_sqlite else "timezone('utc', now())")


def from_now(**duration: float):
    """An instant so far from now by the database's own clock, which all machines share.

    Takes a timedelta's arguments. With SQLite there is one machine, and its clock is ours.
    """
    span = timedelta(**duration)
    if isinstance(db.obj, peewee.SqliteDatabase):
        return clock.now() + span
    return peewee.SQL("timezone('utc', now()) + make_interval(secs => %s)", [span.total_seconds()])
