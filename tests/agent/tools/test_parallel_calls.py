"""The calls of one step: side by side, bounded, their results in order."""

import threading
import time
from collections.abc import Callable

import pytest

from runtime.agent.stop import Stop, Stopped
from runtime.agent.tools.parallel_calls import Outcome, TookTooLong, side_by_side

FOREVER = 60.0


def made(
    calls: list[Callable[[], object]],
    at_once: int,
    seconds: float = FOREVER,
    stop: Stop | None = None,
) -> list[Outcome]:
    return list(side_by_side(calls, at_once=at_once, seconds=lambda: seconds, stop=stop or Stop()))


def test_calls_run_side_by_side() -> None:
    # A call alone would wait for the others, and break the barrier.
    together = threading.Barrier(4, timeout=10)
    outcomes = made([together.wait] * 4, at_once=4)
    assert sorted(outcome.result for outcome in outcomes) == [0, 1, 2, 3]


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_calls_run_than_may_at_once(at_once: int) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    made([call] * 12, at_once)
    assert most == at_once


def test_results_come_in_the_order_of_the_calls() -> None:
    last_has_ended = threading.Event()

    def first() -> str:
        assert last_has_ended.wait(10)
        return "first"

    def last() -> str:
        last_has_ended.set()
        return "last"

    assert [outcome.result for outcome in made([first, last], at_once=2)] == ["first", "last"]


def test_a_call_that_hangs_takes_its_own_time_and_no_place() -> None:
    hangs, ended = threading.Event(), []
    calls = [lambda: hangs.wait(FOREVER), lambda: ended.append(1), lambda: ended.append(2)]
    first, *others = made(calls, at_once=1, seconds=0.2)
    hangs.set()
    assert isinstance(first.error, TookTooLong)
    assert str(first.error) == "no result within 0.2 seconds"
    assert [outcome.error for outcome in others] == [None, None]
    assert ended == [1, 2]


def test_what_a_call_raises_is_its_outcome() -> None:
    def leave() -> None:
        raise SystemExit(1)

    [outcome] = made([leave], at_once=4)
    assert isinstance(outcome.error, SystemExit)


def test_a_stop_waits_for_no_call() -> None:
    stop, hangs, has_begun = Stop(), threading.Event(), threading.Event()

    def hang() -> None:
        has_begun.set()
        hangs.wait(FOREVER)

    threading.Thread(target=lambda: has_begun.wait(10) and stop.set()).start()
    with pytest.raises(Stopped):
        made([hang, hang], at_once=2, stop=stop)
    hangs.set()


def test_no_call_begins_after_a_stop() -> None:
    stop, begun = Stop(), []

    def call() -> None:
        begun.append(1)
        stop.set()

    with pytest.raises(Stopped):
        made([call] * 3, at_once=1, stop=stop)
    assert begun == [1]
