"""Deletes what has run out: nobody asks for it any more, and it is somebody's.

A thread of every worker wakes now and then; the database says which of them, on however many
machines, does the work this time. It is done in small steps, so that no statement holds anybody
up for long.
"""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from flask import Flask, current_app
from peewee import DatabaseError, Expression

from .. import clock, logs, metrics
from ..allowances import Rate, is_left, spend
from ..db import Model, db, from_now
from ..errors import TooManyRequests
from ..models import (
    SESSION_IDLE,
    WAITING_LIFE,
    Allowance,
    EmailChange,
    FormerSpending,
    Mailing,
    Recovery,
    SecurityEvent,
    Session,
    SignUp,
    Spending,
)
from .mailings import OPENINGS_SPAN

# A session is remembered for so long after it ran out: limits and mails know by it which networks
# and devices are an owner's.
SESSION_REMEMBERED = timedelta(days=90)

# All processes together, whoever of them wakes first.
PURGES = Rate("purge", 1, timedelta(hours=1))
WAKE_SECONDS = 600
STEP_ROWS = 1000


def _rules() -> dict[type[Model], Expression]:
    """What of each table has run out."""
    events_days = current_app.config["EVENTS_DAYS"]
    remembered = SESSION_IDLE + SESSION_REMEMBERED
    waited = from_now(seconds=-WAITING_LIFE.total_seconds())
    return {
        SignUp: SignUp.created_at <= waited,
        Recovery: Recovery.created_at <= waited,
        EmailChange: EmailChange.has_run_out(),
        Mailing: Mailing.created_at <= from_now(seconds=-OPENINGS_SPAN.total_seconds()),
        Allowance: Allowance.spent_until < clock.now().timestamp(),
        Session: Session.refreshed_at <= from_now(days=-remembered.days),
        SecurityEvent: SecurityEvent.created_at <= from_now(days=-events_days),
        FormerSpending: FormerSpending.day < Spending.today(),
    }


def purge() -> dict[str, int]:
    """Delete all that has run out; returns how many rows of each table that were.

    Raises the last error that there was, once every table had its turn.
    """
    deleted, failure = {}, None
    for model, rule in _rules().items():
        table = model._meta.table_name
        try:
            deleted[table] = _delete_in_steps(model, rule)
        except DatabaseError as error:
            failure = error
        else:
            metrics.purged_rows.inc(table, by=deleted[table])
    logs.event("purged", **deleted)
    if failure:
        raise failure
    return deleted


def _delete_in_steps(model: type[Model], rule: Expression) -> int:
    key = model._meta.primary_key
    deleted = 0
    while True:
        some = model.select(key).where(rule).limit(STEP_ROWS)
        # Whoever holds one of them may want another: a row in use goes the next time.
        some = some.for_update(db.obj.for_update, skip_locked=db.obj.for_update)
        step = model.delete().where(key.in_(some)).execute()
        deleted += step
        if step < STEP_ROWS:
            return deleted


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
    app.extensions["purger"] = Purger(app)
