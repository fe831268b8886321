"""The journals of runs: written in groups, followed from memory, the same from every process.

A run appends events to its `Log`. One thread writes what all runs of the process have appended
(`.writer`), and only then shows it to readers: what a reader has seen is in the database. A run of
another process has a `Log` here too while it is followed; another thread reads for all of those
(`.keeper`).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from runtime.agent.events import ErrorCode, Event, RunError, RunFinished, RunStarted
from runtime.database.base import release
from runtime.errors import TooManyRequests, Unavailable
from runtime.limits.concurrency import FULL_RETRY_SECONDS
from runtime.services.chats import endings
from runtime.services.chats.entries import read
from runtime.services.chats.keeper import Keeper
from runtime.services.chats.log import Log, OpenLogs
from runtime.services.chats.writer import Writer
from runtime.services.chats.writing import Addition

# The database is away, for a request that waits, when nothing could be written or read for so long.
AWAY_SECONDS = 4


class Journal:
    """All logs of this process, and the two threads that keep them while there are any."""

    def __init__(self):
        self._logs = OpenLogs()
        self._writer = Writer(self._show, self._logs.lose, lambda: self.running)
        self._keeper = Keeper(self._logs, self._writer)

    @property
    def running(self) -> int:
        """How many runs of this process have not ended."""
        return len(self._logs.own)

    def begin(self, run_id: UUID) -> Log:
        """The log of a run that this process has claimed, and keeps alive until it has ended.

        Raises TooManyRequests when the system has no thread left.
        """
        log = Log(run_id, is_own=True)
        with self._logs.lock:
            self._keep()
            self._logs.own[run_id] = log
        return log

    def append(self, log: Log, event: Event, *, soon: bool = True) -> None:
        """Let an event be written, at once or with what `keeper.PAUSE` brings.

        The run's last one is its RUN_FINISHED or RUN_ERROR, which is written at once. Its
        RUN_STARTED, which its reader knows by the answer, is written with the next.
        """
        soon = soon and not isinstance(event, RunStarted)
        self._writer.append(log, event, soon=soon or isinstance(event, RunFinished | RunError))

    def _show(self, addition: Addition) -> None:
        log = addition.log
        if addition.ending:
            self._logs.end(log)
            endings.tell(log.run_id, addition.ending, log.request_id)
        log.add(addition.entries)
        self._logs.forget_if_over(log)

    def wait_for_end(self, log: Log, seconds: float) -> None:
        """Wait until a run is over, so long at the most.

        Raises Unavailable when it is not, and as soon as the database has been away for
        AWAY_SECONDS: what waits to be written is kept, and written when it is back.
        """
        deadline = time.monotonic() + seconds
        while not log.wait_for_end(min(1, AWAY_SECONDS / 4)):
            since = (self._writer if log.is_own else self._keeper).busy_since
            is_away = since is not None and time.monotonic() - since > AWAY_SECONDS
            if is_away or time.monotonic() > deadline:
                raise Unavailable

    @contextmanager
    def followed(self, run_id: UUID) -> Iterator[Log]:
        """As `follow`, for the block."""
        log = self.follow(run_id)
        try:
            yield log
        finally:
            self.unfollow(log)

    def follow(self, run_id: UUID) -> Log:
        """The log of a run, of any process; it grows until `unfollow`.

        Raises TooManyRequests when it must be read for and the system has no thread left.
        """
        with self._logs.lock:
            if log := self._logs.find(run_id):
                log.followers += 1
                return log
        found = Log(run_id)
        found.add(read({run_id: 0})[run_id])
        release()
        with self._logs.lock:
            # Another thread may have asked for it as well meanwhile.
            if found.is_over:
                log = found
            else:
                # Before the log can be found: without a thread nothing would be read into it.
                self._keep()
                log = self._logs.others.setdefault(run_id, found)
            log.followers += 1
        return log

    def unfollow(self, log: Log) -> None:
        """One reader less."""
        self._logs.unfollow(log)

    def _keep(self) -> None:
        try:
            self._keeper.wake()
        except RuntimeError as error:
            raise TooManyRequests(FULL_RETRY_SECONDS) from error

    def stop(self, run_id: UUID) -> None:
        """Tell a run to end if it is one of this process's."""
        self._logs.stop(run_id, ErrorCode.STOPPED)

    def interrupt(self, seconds: float) -> None:
        """End every run of this process, which is about to end; so long for it at the most."""
        for run_id in list(self._logs.own):
            self._logs.stop(run_id, ErrorCode.INTERRUPTED)
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)
