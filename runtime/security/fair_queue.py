"""A few threads and a short queue before them, shared out among those who ask.

It knows nothing of passwords or networks: `who` is any text that names who asks.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial


class QueueFull(Exception):
    """No place is free, and those who hold some hold no more than who asks."""


@dataclass(frozen=True)
class _Job:
    who: str
    work: Callable[[], object]
    future: Future = field(default_factory=Future)


class FairQueue:
    """Runs jobs on `threads` threads; `queue` more may wait.

    Who asks alone may hold every place. If another asks then, the newest waiting job of who holds
    the most gives way. The threads serve those who wait in turn: a single job does not wait behind
    another's sixteen.
    """

    def __init__(
        self,
        threads: int,
        queue: int,
        name: str = "fair-queue",
        initializer: Callable[[], None] | None = None,
    ):
        self._executor = ThreadPoolExecutor(threads, name, initializer=initializer)
        self._places = threads + queue
        self._lock = threading.Lock()
        # Running and waiting jobs of each, and the waiting ones; who is next stands first.
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()

    def run(self, who: str, work: Callable[[], object]) -> object:
        """What `work` returns or raises, once it had its turn.

        Raises QueueFull when there is no place, or when the place was given to another before the
        work began.
        """
        job = _Job(who, work)
        with self._lock:
            if self._held.total() >= self._places:
                self._make_room(who)
            self._held[who] += 1
            self._waiting.setdefault(who, deque()).append(job)
        self._executor.submit(self._run_next)
        return job.future.result()

    def _make_room(self, who: str) -> None:
        """Take a waiting job from who holds the most, if that is more than `who` would hold."""
        most = max(self._waiting, key=self._held.__getitem__, default=who)
        if self._held[most] <= self._held[who] + 1:
            raise QueueFull
        job = self._waiting[most].pop()
        if not self._waiting[most]:
            del self._waiting[most]
        self._leave(job)
        job.future.set_exception(QueueFull())

    def _run_next(self) -> None:
        job = self._take_next()
        if job is None:  # Its job gave way to another's.
            return
        # What it came to is told last: who hears of it may ask again at once, and find a place.
        try:
            tell = partial(job.future.set_result, job.work())
        except BaseException as error:
            tell = partial(job.future.set_exception, error)
        with self._lock:
            self._leave(job)
        tell()

    def _take_next(self) -> _Job | None:
        with self._lock:
            if not self._waiting:
                return None
            who, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[who] = jobs  # Behind everybody else.
            return job

    def _leave(self, job: _Job) -> None:
        self._held[job.who] -= 1
        if not self._held[job.who]:
            del self._held[job.who]
