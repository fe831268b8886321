"""Deletes expired rows: they are of no more use, and they hold personal data.

A thread of every worker wakes now and then; the database says which of them, on however many
machines, does the work this time. It is done in small steps, so that no statement holds anybody
up for long.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

from flask import Flask, current_app
from peewee import (
    SQL,
    DatabaseError,
    Expression,
    Field,
    OperationalError,
    SqliteDatabase,
    Tuple,
    fn,
)
from psycopg.errors import QueryCanceled

from runtime import clock, logs, metrics
from runtime.database.base import Model, db, from_now
from runtime.database.conditions import among, place_of
from runtime.errors import TooManyRequests
from runtime.limits.allowances import Bucket, is_left, spend
from runtime.models.allowances import Allowance
from runtime.models.codes import WAITING_LIFE, WAY_BACK_LIFE, EmailChange, Mailing, Recovery, SignUp
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import SESSION_IDLE, Session
from runtime.models.spendings import FormerSpending
from runtime.services.accounts.mail_limits import OPENINGS_SPAN

# A session is remembered for so long after it ran out: limits and mails know by it which networks
# and devices are an owner's.
SESSION_REMEMBERED = timedelta(days=90)

# Of all processes together.
PURGES = Bucket("purge", 1, timedelta(hours=1))
WAKE_SECONDS = 600
STEP_ROWS = 1000
# Of a statement: each marks some millions of rows that were deleted.
TRIES = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """What of a table has run out: the rows up to `until` in the order of `by`, if `which` holds.

    `by` is a column that an index knows, followed by the primary key. `which` may be None: all.
    `nulls` is the index's order, though there are none: see the migration that made them.
    """

    by: Field
    until: object
    which: Expression | None = None
    nulls: str | None = None


def _rules() -> dict[type[Model], Rule]:
    waited = from_now(seconds=-WAITING_LIFE.total_seconds())
    way_back = from_now(seconds=-WAY_BACK_LIFE.total_seconds())
    remembered = from_now(days=-(SESSION_IDLE + SESSION_REMEMBERED).days)
    events_end = from_now(days=-current_app.config["EVENTS_DAYS"])
    return {
        SignUp: Rule(SignUp.created_at, waited),
        Recovery: Rule(Recovery.created_at, waited),
        EmailChange: Rule(EmailChange.created_at, way_back),
        Mailing: Rule(Mailing.created_at, from_now(seconds=-OPENINGS_SPAN.total_seconds())),
        Allowance: Rule(Allowance.spent_until, clock.now().timestamp()),
        # An index on the last refresh would be written at each one, and keep Postgres from
        # updating the row in place. So those that began so long ago are read, live ones too.
        Session: Rule(Session.created_at, remembered, Session.refreshed_at <= remembered, "FIRST"),
        SecurityEvent: Rule(SecurityEvent.created_at, events_end),
        FormerSpending: Rule(FormerSpending.day, fn.DATE(from_now(days=-1))),
    }


def purge() -> dict[str, int]:
    """Delete all that has run out; returns how many rows of each table that were.

    Raises the last error that there was, once every table had its turn.
    """
    deleted, failure = {}, None
    for model, rule in _rules().items():
        table = model._meta.table_name
        deleted[table] = 0
        try:
            for step in _delete_in_steps(model, rule):
                deleted[table] += step
                metrics.purged_rows.labels(table).inc(step)
        except DatabaseError as error:
            failure = error
    logs.event("purged", **deleted)
    if failure:
        raise failure
    return deleted


def _delete_in_steps(model: type[Model], rule: Rule) -> Iterator[int]:
    """Go through the rows up to `until`, STEP_ROWS at a time; how many each step deleted.

    A step goes on where the one before ended. From the beginning it would read what all of them
    have deleted, which stays in table and index until the next vacuum.
    """
    columns = (rule.by, model._meta.primary_key)
    order = (rule.by.asc(nulls=rule.nulls), columns[1])
    has_run_out = SQL("TRUE") if rule.which is None else rule.which
    # Ordered like the index, so that Postgres reads by it whatever it knows of the table. With a
    # limit alone it may read the table from its beginning, and at the last step all of it.
    rest = rows = model.select(*columns, has_run_out).where(rule.by <= rule.until)
    while True:
        began_at = time.monotonic()
        step = rest.order_by(*order).limit(STEP_ROWS).tuples()
        seen = _patiently(lambda step=step: list(step))
        keys = [key for _by, key, may_go in seen if may_go]
        yield _patiently(partial(_delete, model, rule, keys)) if keys else 0
        if len(seen) < STEP_ROWS:
            return
        rest = rows.where(Tuple(*columns) > place_of(seen[-1][:2], columns))
        if isinstance(db.obj, SqliteDatabase):
            # Who waits to write looks now and then whether it can, and has no place in a queue.
            time.sleep(time.monotonic() - began_at)


def _delete(model: type[Model], rule: Rule, keys: list) -> int:
    """Delete those of these rows that have run out still and that are not locked.

    A transaction that locks one of them may wait for another: a locked row goes the next time.
    """
    key = model._meta.primary_key
    some = model.select(key).where(among(key, keys), rule.by <= rule.until)
    some = some.where(rule.which) if rule.which is not None else some
    some = some.for_update(db.obj.for_update, skip_locked=db.obj.for_update)
    return model.delete().where(key.in_(some)).execute()


def _patiently(read: Callable[[], T]) -> T:
    """Execute a statement, and again if Postgres ends it because of its time.

    The first one after a purge reads what that one has deleted, unless there was a vacuum. It marks
    in the index what it has seen to be dead, which costs next to nothing the next time.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return read()
        except OperationalError as error:
            if not tries_left or not isinstance(error.__context__, QueryCanceled):
                raise


def purge_if_due() -> None:
    """Purge, unless some process did within the hour."""
    # Looked at first: what is refused counts as a limit that was reached.
    if not is_left(PURGES):
        return
    with suppress(TooManyRequests):
        spend(PURGES)
        purge()


class Purger:
    """Purges in an application, from time to time, once it is started."""

    def __init__(self, app: Flask, sleep: Callable[[float], None] = time.sleep):
        self._app = app
        self._sleep = sleep

    def start(self) -> None:
        """Begin; after a worker's fork, which no thread outlives."""
        threading.Thread(target=self._run, name="purge", daemon=True).start()

    def _run(self) -> None:
        while True:
            # Not all workers at the same moment.
            self._sleep(WAKE_SECONDS * random.uniform(0.5, 1.5))
            self._purge()

    def _purge(self) -> None:
        with self._app.app_context():
            try:
                purge_if_due()
            except Exception as error:  # The database is away; the next time it is not.
                logs.event("not_purged", reason=type(error).__name__)


def init_app(app: Flask) -> None:
    """Make the purger, which a worker starts."""
    app.extensions["purger"] = Purger(app)
