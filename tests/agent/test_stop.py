"""The wish that a run ends."""

import threading

import pytest

from runtime.agent.stop import Stop, Stopped


def test_nothing_that_was_to_be_woken_goes_on_before_it_is_awake():
    stop, is_waking, may_go_on = Stop(), threading.Event(), threading.Event()

    def wake() -> None:
        is_waking.set()
        may_go_on.wait(5)

    def wait() -> None:
        with stop.waking(wake):
            is_waking.wait(5)

    waiting = threading.Thread(target=wait)
    waiting.start()
    stopping = threading.Thread(target=stop.set)
    stopping.start()
    is_waking.wait(5)
    waiting.join(0.2)
    # What it would do next may be another run's by then.
    assert waiting.is_alive()
    may_go_on.set()
    waiting.join(5)
    stopping.join(5)


def test_what_was_told_to_end_begins_to_wait_for_nothing():
    stop = Stop()
    stop.set()

    with pytest.raises(Stopped), stop.waking(lambda: None):
        pass
