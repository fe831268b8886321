"""What HTTP cannot reach: a hundred calls to the model that are all made at one moment."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask

from runtime import clock
from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, Usage
from runtime.agent.providers.provider import Chunk, ProviderError, StepFinished, TextDelta
from runtime.agent.stop import Stop
from runtime.database.base import db, release
from runtime.models.spendings import Spending
from runtime.services.chats.budgets import Budget, most_input
from runtime.services.chats.metered import Metered
from tests.conftest import Person, at_once

ASK = [Message("user", "字" * 100)]
INPUT = most_input(ASK, [])


class Model:
    """Uses what it may, and adds it up; `meanwhile` is called in the middle."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: time.sleep(0.02)):
        self.used = 0
        self._meanwhile = meanwhile
        self._lock = threading.Lock()

    def stream(self, messages, tools, *, max_output_tokens, **_how) -> Iterator[Chunk]:
        with self._lock:
            self.used += INPUT + max_output_tokens
        self._meanwhile()
        yield TextDelta("Hi")
        yield StepFinished("stop", Usage(INPUT, max_output_tokens))


def call(app: Flask, model: Model, budget: Budget, person: Person) -> ErrorCode | None:
    """One call to the model; how it failed."""
    how = {"deadline": time.monotonic() + 60, "silence_seconds": 60, "stop": Stop()}
    with app.app_context():
        try:
            list(Metered(model, budget, UUID(person.id)).stream(ASK, [], **how))
        except ProviderError as error:
            return error.code
    return None


def left(app: Flask, budget: Budget, person: Person) -> int:
    with app.app_context():
        return budget.left(UUID(person.id))


@pytest.mark.parametrize("rest", [0, 1, INPUT, INPUT + 1, INPUT + 999])
def test_a_hundred_calls_at_once_use_all_there_is_and_no_more(settings, request, rest: int):
    settings |= {"WEB_THREADS": "128"}
    app, alice = request.getfixturevalue("app"), request.getfixturevalue("alice")
    budget = Budget(20 * (INPUT + 1000) + rest, 1000)
    model = Model()

    failed = at_once(*[lambda: call(app, model, budget, alice)] * 100)

    assert set(failed) == {None, ErrorCode.OUT_OF_TOKENS}
    is_enough_for_another = rest > INPUT
    assert failed.count(None) == 20 + is_enough_for_another
    assert model.used == budget.daily - (0 if is_enough_for_another else rest)
    assert left(app, budget, alice) == budget.daily - model.used


@pytest.mark.parametrize("days_ago", [None, 1], ids=["first day", "another day"])
def test_a_budget_that_one_call_could_outgrow_is_not_outgrown(
    app: Flask, alice: Person, days_ago: int | None
):
    with app.app_context():
        if days_ago:
            yesterday = clock.now().date() - timedelta(days=days_ago)
            Spending.create(user=alice.id, day=yesterday, tokens=10**9)
    model = Model()
    assert call(app, model, Budget(INPUT, 1000), alice) is ErrorCode.OUT_OF_TOKENS
    assert model.used == 0

    assert call(app, model, Budget(INPUT + 5, 1000), alice) is None

    assert model.used == INPUT + 5


def test_no_connection_is_held_while_the_model_thinks(app: Flask, alice: Person):
    held = []
    model = Model(lambda: held.append(not db.is_closed()))

    assert call(app, model, Budget(10_000, 10), alice) is None

    assert held == [False]


def test_a_call_that_cannot_be_settled_is_a_call_all_the_same(app: Flask, alice: Person):
    def lose_the_table() -> None:
        db.execute_sql("ALTER TABLE spendings RENAME TO lost")
        release()

    budget = Budget(10_000, 1000)
    try:
        assert call(app, Model(lose_the_table), budget, alice) is None
    finally:
        with app.app_context():
            db.execute_sql("ALTER TABLE lost RENAME TO spendings")

    assert left(app, budget, alice) == 10_000 - INPUT - 1000


def test_nothing_is_paid_for_an_account_that_was_erased(app: Flask):
    with app.app_context(), pytest.raises(ProviderError) as refused:
        Budget(1000, None).pay(uuid4(), 10)

    assert refused.value.code is ErrorCode.STOPPED
