"""The thread that writes what all runs of a process have appended to their journals."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from runtime import logs
from runtime.agent.events import Event
from runtime.database.base import discard, release
from runtime.database.outages import is_outage
from runtime.services.chats.log import Log
from runtime.services.chats.turn_thread import TurnThread
from runtime.services.chats.writing import Addition, write

# A commit for each token is what one run may have; a thousand must share theirs.
RUNS_A_COMMIT_A_SECOND = 10_000
# How long an outage of the database is waited out before the next try.
RETRY_SECONDS = 0.5


class Writer:
    """Writes events in groups, in the order in which each run has appended them.

    `written` is called with each addition that is in the database, `lost` with the log of each run
    that had ended without us. `running` gives how many runs go on.
    """

    def __init__(
        self,
        written: Callable[[Addition], None],
        lost: Callable[[Log], None],
        running: Callable[[], int],
    ):
        self._written = written
        self._lost = lost
        self._running = running
        # Since when one group is being written; None while there is none.
        self.busy_since: float | None = None
        # Of two statements that lock the rows of many runs each may wait for the other.
        self.locks_rows = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: dict[Log, list[Event]] = {}
        self._thread = TurnThread(
            "journal-writer", self._lock, lambda: bool(self._waiting), self._take_turn
        )

    def append(self, log: Log, event: Event, *, soon: bool) -> None:
        """Let an event be written: `soon`, or at the next `wake`."""
        with self._lock:
            self._waiting.setdefault(log, []).append(event)
            if soon:
                self._wake()

    def wake(self) -> None:
        """Write what waits."""
        with self._lock:
            if self._waiting:
                self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # No thread is left. The journal's keeper wakes it again.
            self._thread.wake()

    def _take_turn(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        try:
            if waiting:
                self._write([Addition(log, events) for log, events in waiting.items()])
        except Exception:  # Of one turn: the runs of later ones are not to suffer.
            logs.event("journal_failed", level=logging.ERROR, exc_info=True)
        time.sleep(self._running() / RUNS_A_COMMIT_A_SECOND)

    def _write(self, additions: list[Addition]) -> None:
        try:
            alive = self._write_at_last(additions)
        except Exception:
            if len(additions) > 1:  # One of them cannot be written: not for the others to suffer.
                for addition in additions:
                    self._write([addition])
                return
            logs.event("journal_failed", level=logging.ERROR, exc_info=True)
            alive = set()
        for addition in additions:
            if addition.log.run_id in alive:
                self._written(addition)
            else:
                self._lost(addition.log)

    def _write_at_last(self, additions: list[Addition]) -> set[UUID]:
        """As `write`; while the database is away, again and again."""
        self.busy_since = time.monotonic()
        try:
            while True:
                try:
                    with self.locks_rows:
                        return write(additions)
                except Exception as error:
                    if not is_outage(error):
                        raise
                    logs.event("journal_waits", level=logging.WARNING, reason=type(error).__name__)
                    discard()
                finally:
                    release()
                time.sleep(RETRY_SECONDS)
        finally:
            self.busy_since = None
