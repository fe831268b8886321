"""How much of something there may be at once: places, and threads that wait for their work."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

from runtime import metrics
from runtime.errors import TooManyRequests

FULL_RETRY_SECONDS = 5


class Places:
    """How many of something this process has at once, in all and for each who has some."""

    def __init__(self, name: str, total: int, each: int):
        self._name = name
        self._total = total
        self._each = each
        self._taken: Counter[UUID] = Counter()
        self._lock = threading.Lock()

    def take(self, who: UUID) -> None:
        """A place for them, to be left again. Raises TooManyRequests when there is none."""
        with self._lock:
            if self._taken[who] >= self._each or self._taken.total() >= self._total:
                metrics.limits_reached.labels(self._name).inc()
                raise TooManyRequests(FULL_RETRY_SECONDS)
            self._taken[who] += 1

    def leave(self, who: UUID) -> None:
        with self._lock:
            self._taken[who] -= 1
            if self._taken[who] <= 0:
                del self._taken[who]

    @contextmanager
    def kept(self, who: UUID) -> Iterator[Callable[[], object]]:
        """Take a place for the block. Call the yielded function to keep it beyond, and `leave`
        later.

        Raises TooManyRequests when there is none.
        """
        self.take(who)
        with ExitStack() as leaving:
            leaving.callback(self.leave, who)
            yield leaving.pop_all


class WaitingThread:
    """A thread that waits for its work, so that what needs one can be sure of it beforehand.

    As a context manager it ends the thread at the end of the block, unless it has work by then.
    Raises TooManyRequests when the system has no thread left.
    """

    def __init__(self):
        self._work: Callable[[], None] | None = None
        self._is_decided = threading.Event()
        thread = threading.Thread(target=self._wait, name="run", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            metrics.limits_reached.labels("threads").inc()
            raise TooManyRequests(FULL_RETRY_SECONDS) from error

    def run(self, work: Callable[[], None]) -> None:
        """Do this now, on that thread."""
        self._work = work
        self._is_decided.set()

    def __enter__(self) -> "WaitingThread":
        return self

    def __exit__(self, *_error) -> None:
        self._is_decided.set()

    def _wait(self) -> None:
        self._is_decided.wait()
        if self._work:
            self._work()
