"""A thread of a process that works in turns, and is there only while there is work."""

import threading
from collections.abc import Callable

# It ends when there was nothing to do for so long.
IDLE_SECONDS = 30


class TurnThread:
    """Calls `turn` again and again while `has_work`, on a thread that begins when it is woken.

    `has_work` is called with `lock` held, and so is `wake` by its callers.
    """

    def __init__(
        self,
        name: str,
        lock: threading.Lock,
        has_work: Callable[[], bool],
        turn: Callable[[], None],
    ):
        self._name = name
        self._has_work = has_work
        self._turn = turn
        self._woken = threading.Condition(lock)
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have a turn taken. Raises RuntimeError when the system has no thread left."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._take_turns, name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        self._woken.notify()

    def _take_turns(self) -> None:
        while True:
            with self._woken:
                is_idle = not self._has_work() and not self._woken.wait(IDLE_SECONDS)
                # Looked at again: work may have come just as the wait ran out.
                if is_idle and not self._has_work():
                    self._thread = None
                    return
            self._turn()
