"""The thread that looks after the runs of a process, and after those that it follows.

It renews leases, hears that a run is to stop, reads what other processes have written, and ends
runs whose process died.
"""

import logging
import time
from uuid import UUID

from peewee import chunked

from runtime import logs
from runtime.agent.events import ErrorCode, RunError
from runtime.database.base import db, from_now, release
from runtime.models.chats import Run
from runtime.services.chats.endings import fail_dead
from runtime.services.chats.entries import Entry, read
from runtime.services.chats.log import Log, OpenLogs
from runtime.services.chats.turn_thread import TurnThread
from runtime.services.chats.writer import RETRY_SECONDS, Writer

# A killed process locks its chats for LEASE_SECONDS; a live one renews in time to miss two turns.
LEASE_SECONDS = 10
RENEWAL_SECONDS = 3
# How late a process may learn of what another has written: a stop, or the next words.
PAUSE = 1 / 20
# How often it looks for runs whose process has died.
DEAD_CHECK_SECONDS = 1
LOGS_A_QUERY = 100


class Keeper:
    """Takes a turn every PAUSE seconds while there are logs."""

    def __init__(self, open_logs: OpenLogs, writer: Writer):
        self._logs = open_logs
        self._writer = writer
        # Since when one turn goes on, or fails again and again; None in between.
        self.busy_since: float | None = None
        self._renewed_at = self._dead_checked_at = 0.0
        self._thread = TurnThread("journal-keeper", open_logs.lock, self._has_logs, self._take_turn)

    def wake(self) -> None:
        """The caller holds the logs' lock. Raises RuntimeError when there is no thread left."""
        self._thread.wake()

    def _has_logs(self) -> bool:
        if self._logs.own or self._logs.others:
            return True
        self.busy_since = None
        return False

    def _take_turn(self) -> None:
        time.sleep(PAUSE)
        self.busy_since = self.busy_since or time.monotonic()
        self._writer.wake()
        with self._logs.lock:
            own, others = list(self._logs.own), list(self._logs.others.values())
        try:
            self._look_after(own, others)
            self.busy_since = None
        except Exception as error:  # The database is away; the next turn tries again.
            logs.event("runs_not_kept", level=logging.WARNING, reason=type(error).__name__)
            time.sleep(RETRY_SECONDS)
        finally:
            release()

    def _look_after(self, own: list[UUID], others: list[Log]) -> None:
        now = time.monotonic()
        if own:
            self._hear_stops()
        if own and now - self._renewed_at >= RENEWAL_SECONDS:
            self._renewed_at = now
            self._renew(own)
        self._read(others)
        if others and now - self._dead_checked_at >= DEAD_CHECK_SECONDS:
            self._dead_checked_at = now
            self._end_dead(others)

    def _hear_stops(self) -> None:
        told = Run.finished_at.is_null() & Run.stop_requested_at.is_null(False)
        for (run_id,) in Run.select(Run.id).where(told).tuples():
            self._logs.stop(run_id, ErrorCode.STOPPED)

    def _renew(self, own: list[UUID]) -> None:
        """Renew the leases, and stop what has ended without us: found dead, or deleted."""
        running = Run.select(Run.id).where(Run.id.in_(own), Run.finished_at.is_null())
        # In the order in which an account's erasure locks them.
        locked = running.order_by(Run.id).for_update(db.obj.for_update)
        with self._writer.locks_rows:
            until = from_now(seconds=LEASE_SECONDS)
            Run.update(lease_until=until).where(Run.id.in_(locked)).execute()
        for run_id in set(own) - {run_id for (run_id,) in running.tuples()}:
            self._logs.stop(run_id, ErrorCode.STOPPED)

    def _read(self, others: list[Log]) -> None:
        for some in chunked(others, LOGS_A_QUERY):
            found = read({log.run_id: log.last for log in some})
            for log in some:
                self._add(log, found[log.run_id])

    def _end_dead(self, others: list[Log]) -> None:
        """End those whose process died, and those that are gone with their chat."""
        logs_of = {log.run_id: log for log in others if not log.is_over}
        ids = list(logs_of)
        fail_dead(ids)
        there = {run_id for (run_id,) in Run.select(Run.id).where(Run.id.in_(ids)).tuples()}
        for run_id in logs_of.keys() - there:
            log = logs_of[run_id]
            self._add(log, [Entry.of(log.last + 1, RunError(str(run_id), ErrorCode.STOPPED))])

    def _add(self, log: Log, entries: list[Entry]) -> None:
        if entries:
            log.add(entries)
            self._logs.forget_if_over(log)
