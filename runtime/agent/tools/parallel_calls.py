"""The tool calls of one step, made side by side; their results in the order of the calls."""

import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from runtime.agent.stop import Stop

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What one call gave, or what it raised; `TookTooLong` when it gave nothing in time."""

    result: T | None = None
    error: BaseException | None = None


class TookTooLong(Exception):
    """A call gave no result within `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no result within {seconds:.3g} seconds")
        self.seconds = seconds


def side_by_side(
    calls: Sequence[Callable[[], T]], *, at_once: int, seconds: Callable[[], float], stop: Stop
) -> Iterator[Outcome[T]]:
    """Make all calls, `at_once` at a time; each may take the `seconds()` there are as it begins.

    Each has a daemon thread: a call that hangs keeps neither the run nor the process. Raises
    Stopped, and what `seconds` raises.
    """
    ended: queue.SimpleQueue[tuple[int, Outcome[T]] | None] = queue.SimpleQueue()
    waiting = deque(range(len(calls)))
    running: dict[int, tuple[float, float]] = {}
    outcomes: dict[int, Outcome[T]] = {}
    with stop.waking(lambda: ended.put(None)):
        for number in range(len(calls)):
            while number not in outcomes:
                while waiting and len(running) < at_once:
                    allowed = seconds()
                    running[waiting[0]] = time.monotonic() + allowed, allowed
                    _start(waiting[0], calls[waiting.popleft()], ended)
                outcomes |= _next(running, ended)
                stop.check()
            yield outcomes.pop(number)


def _start(number: int, call: Callable[[], T], ended: queue.SimpleQueue) -> None:
    def work() -> None:
        try:
            outcome = Outcome(result=call())
        except BaseException as error:  # SystemExit in a tool is that tool's failure, not ours.
            outcome = Outcome(error=error)
        ended.put((number, outcome))

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), daemon=True).start()


def _next(running: dict[int, tuple[float, float]], ended: queue.SimpleQueue) -> dict[int, Outcome]:
    """The calls that have ended, or whose time is over, as soon as there is one; or none."""
    first = min(deadline for deadline, _allowed in running.values())
    try:
        end = ended.get(timeout=max(0, first - time.monotonic()))
    except queue.Empty:
        now = time.monotonic()
        late = [number for number, (deadline, _) in running.items() if deadline <= now]
        return {n: Outcome(error=TookTooLong(running.pop(n)[1])) for n in late}
    if end is None or running.pop(end[0], None) is None:  # a stop, or a call that ended too late
        return {}
    return dict([end])
