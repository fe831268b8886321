"""Which errors mean that the database cannot be used now, and how they are told."""

import peewee
from playhouse.pool import MaxConnectionsExceeded
from psycopg.errors import UndefinedColumn, UndefinedTable

from runtime.errors import Unavailable

_OUTAGES = (
    peewee.OperationalError,
    peewee.InterfaceError,
    # Postgres has become a replica, or ended a transaction that stood idle.
    peewee.InternalError,
    # SQLite commits when the last row of a RETURNING is fetched, where peewee translates nothing.
    peewee.sqlite3.OperationalError,
    MaxConnectionsExceeded,
)


def is_outage(error: BaseException) -> bool:
    """Whether the database is away, full, overrun or not migrated, rather than asked nonsense."""
    return isinstance(error, _OUTAGES) or _is_unmigrated(error)


def outage_reason(error: BaseException) -> str:
    """One line for the log: what failed, and what had failed before that."""
    reasons = ["the database is not migrated: run flask db upgrade"] * _is_unmigrated(error)
    before: BaseException | None = error
    while before:
        # Only the first line: those that follow may quote a row.
        reasons.append(str(before).partition("\n")[0])
        before = before.__context__
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def unavailable(error: BaseException) -> Unavailable:
    """The failure that stands for an outage."""
    failure = Unavailable()
    failure.__cause__ = error
    return failure


def _is_unmigrated(error: BaseException) -> bool:
    return isinstance(error.__context__, UndefinedTable | UndefinedColumn)
