"""Leaves a server that fails alone, and looks out for its return off every request's path."""

import logging
import math
import threading
import time
from collections.abc import Callable

from runtime import logs

# How often a server that is away is asked: by one thread of each process, so that however many
# requests there are, it is not met by all of them when it comes back.
SECONDS = 0.5


class Lookout:
    """Whether a server is away, and since when it is back (`time.monotonic`). `ask` asks it, and
    raises while it is away.
    """

    def __init__(self, name: str, ask: Callable[[], object]):
        self.is_away = False
        self.back_at = -math.inf
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()

    def leave(self, reason: str) -> None:
        """The server has failed: it is away until it answers the thread that asks from now on."""
        with self._lock:
            if self.is_away:
                return
            self.is_away = True
        logs.event(f"{self._name}_away", level=logging.WARNING, reason=reason)
        thread = threading.Thread(target=self._look_out, name=f"{self._name}-lookout", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # The system has no thread left; the next failure tries again.
            self.is_away = False

    def _look_out(self) -> None:
        while self.is_away:
            time.sleep(SECONDS)
            try:
                self._ask()
            except Exception:  # Whatever it is, the server is not back.
                continue
            self.back_at = time.monotonic()
            self.is_away = False
        logs.event(f"{self._name}_back")
