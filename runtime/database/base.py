"""The proxy that every model is bound to, the base model, and the database's clock.

`db` follows the application made last: one application a process, as gunicorn runs it. A request
opens its connection at its first query.
"""

import uuid
from datetime import timedelta

import peewee

from runtime import clock
from runtime.database.instants import InstantField

db = peewee.DatabaseProxy()


class Model(peewee.Model):
    """What every table has: a random id (RFC 9562 UUIDv4) and when its row was made."""

    id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)
    created_at = InstantField(default=clock.now)

    class Meta:
        database = db
        legacy_table_names = False


def from_now(**duration: float) -> peewee.SQL:
    """The instant so far from now by the database's own clock, without a parameter.

    Takes a timedelta's arguments. On SQLite there is one machine, and the clock is ours.
    """
    return peewee.SQL(db.FROM_NOW.format(timedelta(**duration).total_seconds()))


def release(_error: BaseException | None = None) -> None:
    """Give the thread's connection back to the pool, if it has one."""
    if not db.is_closed():
        db.close()


def discard() -> None:
    """Close the thread's connection to Postgres: after a failover it may lead to a replica."""
    if db.IS_SERVER and not db.is_closed():
        db.manual_close()
