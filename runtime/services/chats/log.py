"""The logs of runs in this process: what it has written or read of their journals so far."""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from uuid import UUID

from runtime import logs
from runtime.agent.events import ErrorCode
from runtime.agent.stop import Stop
from runtime.services.chats.entries import Entry


class Log:
    """The journal of one run as far as this process has written or read it, in order.

    `is_own` says that the run is one of this process's, which `stop` ends.
    """

    def __init__(self, run_id: UUID, *, is_own: bool = False):
        self.run_id = run_id
        self.request_id = logs.request_id.get()
        self.entries: list[Entry] = []
        self.is_over = False
        self.is_own = is_own
        self.stop = Stop()
        self.followers = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def last(self) -> int:
        """The number of the last event that is here."""
        return self.entries[-1].number if self.entries else 0

    def after(self, number: int, most: int | None = None) -> list[Entry]:
        """What follows the event that had this number, or a piece of one; so many at the most."""
        first = bisect_right(self.entries, number, key=lambda each: each.number)
        entries = self.entries[first : first + most if most else None]
        return [entries[0].after(number), *entries[1:]] if entries else []

    def add(self, entries: list[Entry]) -> None:
        """Append what is in the database by now, and call the listeners."""
        self.entries += entries
        # In this order: a reader that sees that it is over has seen all.
        self.is_over = self.is_over or (bool(entries) and entries[-1].is_ending)
        for wake in tuple(self._listeners):
            wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on another thread, after each addition. It must not take long."""
        self._listeners.append(wake)

    def leave(self, wake: Callable[[], None]) -> None:
        """Call `wake` no more."""
        self._listeners.remove(wake)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the run is over, so long at the most; returns whether it is."""
        deadline = time.monotonic() + seconds
        news = threading.Event()
        self.listen(news.set)
        try:
            while not self.is_over and news.wait(deadline - time.monotonic()):
                news.clear()
        finally:
            self.leave(news.set)
        return self.is_over


class OpenLogs:
    """The logs that grow: of this process's runs until they end, of others' while they are read.

    `lock` is for everything that changes the two dictionaries.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.own: dict[UUID, Log] = {}
        self.others: dict[UUID, Log] = {}

    def find(self, run_id: UUID) -> Log | None:
        return self.own.get(run_id) or self.others.get(run_id)

    def stop(self, run_id: UUID, code: ErrorCode) -> None:
        """Tell a run to end if it is one of this process's."""
        if log := self.own.get(run_id):
            log.stop.set(code)

    def end(self, log: Log) -> None:
        """A run of ours has ended, and its last event is in the database."""
        with self.lock:
            self.own.pop(log.run_id, None)

    def lose(self, log: Log) -> None:
        """A run of ours has ended without us, found dead or deleted: others write its rest."""
        log.stop.set(ErrorCode.INTERRUPTED)
        log.is_own = False
        with self.lock:
            if self.own.pop(log.run_id, None):
                self.others[log.run_id] = log

    def unfollow(self, log: Log) -> None:
        """One reader less; what has none is read for no longer."""
        with self.lock:
            log.followers -= 1
            if not log.followers:
                self._forget(log)

    def forget_if_over(self, log: Log) -> None:
        """Read no more for a log that is over; its followers have it still."""
        with self.lock:
            if log.is_over:
                self._forget(log)

    def _forget(self, log: Log) -> None:
        if self.others.get(log.run_id) is log:
            del self.others[log.run_id]
