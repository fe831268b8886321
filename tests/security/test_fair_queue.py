"""Places that are shared out: who holds many gives way to who holds few."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from runtime.security.fair_queue import FairQueue, QueueFull
from tests.servers import wait_until


class Crowd:
    """People who ask for turns that last until they are told to end."""

    def __init__(self, threads: int, queue: int):
        self.queue = FairQueue(threads, queue)
        self.go_on = threading.Event()
        self.order: list[str] = []
        self._askers = ThreadPoolExecutor(100)

    def ask(self, who: str, count: int = 1) -> list[Future]:
        """Each of them holds a place, or has been refused, before the next one asks."""
        return [self._ask(who) for _ in range(count)]

    def _ask(self, who: str) -> Future:
        before = self.held(who)
        asked = self._askers.submit(self.queue.run, who, lambda: self._work(who))
        wait_until(lambda: asked.done() or self.held(who) > before, 5, "it holds a place")
        return asked

    def begin(self, who: str, count: int) -> list[Future]:
        """Likewise, and all of them are at work."""
        asked = self.ask(who, count)
        wait_until(lambda: self.order.count(who) == count, 5, "all are at work")
        return asked

    def held(self, who: str) -> int:
        return self.queue._held[who]

    def _work(self, who: str) -> str:
        self.order.append(who)
        self.go_on.wait(30)
        return who

    def end(self) -> None:
        self.go_on.set()
        self._askers.shutdown()


@pytest.fixture
def crowd() -> Callable[[int, int], Crowd]:
    crowds = []

    def gather(threads: int, queue: int) -> Crowd:
        crowds.append(Crowd(threads, queue))
        return crowds[-1]

    yield gather
    for each in crowds:
        each.end()


def refused(asked: list[Future]) -> int:
    return sum(each.done() and isinstance(each.exception(), QueueFull) for each in asked)


def test_who_asks_alone_may_hold_every_place(crowd):
    some = crowd(2, 16)
    asked = some.ask("a school", 24)

    assert refused(asked) == 6
    some.go_on.set()
    assert [each.result() for each in asked if not each.exception()] == ["a school"] * 18


def test_a_flood_gives_way_to_everybody_who_holds_less(crowd):
    some = crowd(2, 16)
    flood = some.ask("a flood", 24)
    others = [some.ask(f"guest {number}")[0] for number in range(14)]

    assert refused(others) == 0
    assert refused(flood) == 6 + 14
    some.go_on.set()
    assert [each.result() for each in others] == [f"guest {number}" for number in range(14)]
    assert sum(each.exception() is None for each in flood) == 4


def test_who_holds_as_much_as_others_takes_nothing_from_them(crowd):
    some = crowd(1, 3)
    asked = [*some.ask("one", 2), *some.ask("two", 2)]

    assert refused(some.ask("one")) == 1
    assert refused(asked) == 0


def test_what_runs_is_not_taken_away(crowd):
    some = crowd(2, 0)
    running = some.begin("one", 2)

    assert refused(some.ask("two")) == 1
    assert refused(running) == 0


def test_everybody_is_served_in_turn(crowd):
    some = crowd(1, 16)
    some.begin("a flood", 1)
    some.ask("a flood", 7)
    some.ask("ada")
    some.ask("bob", 2)
    some.end()

    assert some.order[:5] == ["a flood", "a flood", "ada", "bob", "a flood"]
    assert len(some.order) == 11


def test_a_place_is_free_again_when_the_work_fails(crowd):
    queue = FairQueue(1, 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            queue.run("ada", lambda: 1 / 0)

    assert queue.run("ada", lambda: "done") == "done"
    assert not queue._held
