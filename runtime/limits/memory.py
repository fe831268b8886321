"""Counts for one process: the storage of the `limits` library, mended."""

import threading
import time
from typing import Any

from limits.storage import MemoryStorage

# How often a process that counts for itself forgets what is over.
FORGET_SECONDS = 60


class Memory(MemoryStorage):
    """The library's, for one thread at a time; it forgets a key once its window is over.

    The library's `clear` takes a key from under a `hit`: KeyError. Its own clean-up keeps every key
    that there ever was, and looks at all of them, on a new thread, after every hit.
    """

    def __init__(self):
        self._one_at_a_time = threading.Lock()
        self._forgot_at = time.monotonic()
        super().__init__()
        # It starts a thread when this one is not alive any more.
        self.timer = threading.main_thread()  # type: ignore[assignment]

    def acquire_entry(self, *arguments: Any, **options: Any) -> bool:
        """Count one if the window has room."""
        with self._one_at_a_time:
            if time.monotonic() >= self._forgot_at + FORGET_SECONDS:
                self._forget()
            return super().acquire_entry(*arguments, **options)

    def _forget(self) -> None:
        self._forgot_at, now = time.monotonic(), time.time()
        # The newest hit is first.
        over = [key for key, hits in self.events.items() if not hits or hits[0].expiry <= now]
        for key in over:
            del self.events[key]
            self.locks.pop(key, None)

    def clear(self, key: str) -> None:
        """Forget what was counted."""
        with self._one_at_a_time:
            self.events[key] = []
