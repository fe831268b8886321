"""The wish that a run ends. It is said from any thread, and wakes the run from any wait."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.agent.events import ErrorCode


class Stopped(Exception):
    """A run was told to end; `code` is why."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


class Stop:
    """Said once, and final: the first reason counts."""

    def __init__(self) -> None:
        self.code: ErrorCode | None = None
        self._is_said = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def set(self, code: ErrorCode = ErrorCode.STOPPED) -> None:
        """Tell the run to end, and wake it."""
        with self._lock:
            if self.code:
                return
            self.code = code
            self._is_said.set()
            # Under the lock: a moment later what they wake may be another run's.
            for wake in self._wakers:
                wake()

    def check(self) -> None:
        """Raises Stopped once the run was told to end."""
        if self.code:
            raise Stopped(self.code)

    def wait(self, seconds: float) -> None:
        """Sleep. Raises Stopped as soon as the run was told to end."""
        self._is_said.wait(seconds)
        self.check()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake`, on whichever thread, should the run be told to end meanwhile.

        Raises Stopped when it was told before.
        """
        with self._lock:
            self.check()
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)
