"""Spares a server that fails, and notices its return off every request's path."""

import logging
import math
import threading
import time
from collections.abc import Callable

from runtime import logs

# How often a server that is away is asked. One thread of each process does so: however many
# requests there are, they do not all meet the server when it comes back.
ASK_SECONDS = 0.5


class CircuitBreaker:
    """Whether a server is to be spared: the breaker is open from `trip` until `ask` succeeds.

    `ask` calls the server, and raises while it is away. `closed_at` is when the breaker was last
    closed again (`time.monotonic`), or minus infinity.
    """

    def __init__(self, name: str, ask: Callable[[], object]):
        self.is_open = False
        self.closed_at = -math.inf
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()

    def trip(self, reason: str) -> None:
        """Open, because the server has failed, and begin to ask the server on a thread."""
        with self._lock:
            if self.is_open:
                return
            self.is_open = True
        logs.event(f"{self._name}_away", level=logging.WARNING, reason=reason)
        name = f"{self._name}-breaker"
        thread = threading.Thread(target=self._ask_until_back, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # The system has no thread left; the next failure tries again.
            self.is_open = False

    def _ask_until_back(self) -> None:
        while self.is_open:
            time.sleep(ASK_SECONDS)
            try:
                self._ask()
            except Exception:  # Any failure: the server is not back.
                continue
            self.closed_at = time.monotonic()
            self.is_open = False
        logs.event(f"{self._name}_back")
