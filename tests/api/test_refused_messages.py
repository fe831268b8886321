"""A message that is refused leaves nothing behind: no run, no chat, nothing asked of the model."""

import threading
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from runtime.limits.rates import REPEATS_PER_USER, RUNS_PER_USER
from runtime.models.chats import Chat, Run
from runtime.models.spendings import Spending
from runtime.services.chats.agent import RUNS_AT_ONCE_PER_USER, STREAMS_AT_ONCE_PER_USER
from tests.agent.completions_server import HANG, CompletionsServer, answer, stream, text
from tests.api.test_agent_chats import in_background, wait_until
from tests.api.test_runs import keyed, running
from tests.conftest import Person, at_once

pytestmark = pytest.mark.in_process("counts what one process holds")


def by_json(person: Person, message: str = "one more", chat: str | None = None) -> TestResponse:
    return person.chat(message, chat)


def by_stream(person: Person, message: str = "one more", chat: str | None = None) -> TestResponse:
    return person.stream(message, chat)


def by_ag_ui(person: Person, message: str = "one more", chat: str | None = None) -> TestResponse:
    words = {"id": str(uuid4()), "role": "user", "content": message}
    body = {"threadId": chat or str(uuid4()), "runId": str(uuid4()), "messages": [words]}
    return person.post("/agent-chats/ag-ui", body)


STREAMS = [by_stream, by_ag_ui]
WAYS = [by_json, *STREAMS]


def rows(app: Flask) -> tuple[int, int]:
    with app.app_context():
        return Chat.select().count(), Run.select().count()


def demand_refused(
    app: Flask, model: CompletionsServer, ask: Callable[[], TestResponse]
) -> TestResponse:
    """What `ask` gets is 429, with an end to it; nothing is there that was not before."""
    before, asked = rows(app), len(model.requests)
    refused = ask()
    assert (refused.status_code, refused.mimetype) == (429, "application/problem+json")
    assert int(refused.headers["Retry-After"]) > 0
    assert (rows(app), len(model.requests)) == (before, asked)
    return refused


def take_streams(
    app: Flask, model: CompletionsServer, person: Person, count: int
) -> list[threading.Thread]:
    """Somebody who reads so many streams, all of one run that goes on."""
    _chat, path, thread, _ = running(model, person)
    readers = [in_background(person.get, f"{path}/events") for _ in range(count)]
    taken = app.extensions["agent"].streams._taken
    wait_until(lambda: taken.total() == count)
    return [thread, *readers]


@pytest.mark.parametrize("ask", STREAMS)
def test_a_stream_too_many_is_refused_before_its_run(
    model: CompletionsServer, app: Flask, alice: Person, ask: Callable
):
    threads = take_streams(app, model, alice, STREAMS_AT_ONCE_PER_USER)

    demand_refused(app, model, lambda: ask(alice))

    model.stopping.set()
    for thread in threads:
        thread.join()
    model.script(answer("Hi"))
    assert ask(alice).status_code == 200


@pytest.mark.parametrize("ask", STREAMS)
def test_of_many_streams_at_once_as_many_run_as_are_heard(
    model: CompletionsServer, app: Flask, alice: Person, ask: Callable
):
    threads = take_streams(app, model, alice, STREAMS_AT_ONCE_PER_USER - 2)
    model.script(stream(text("slow"), HANG))
    statuses: list[int] = []
    asking = [in_background(lambda: statuses.append(ask(alice).status_code)) for _ in range(6)]
    wait_until(lambda: len(statuses) == 4)

    assert statuses == [429] * 4
    # The two that have a place may begin their run a moment later.
    wait_until(lambda: rows(app) == (3, 3))
    assert len(statuses) == 4

    model.stopping.set()
    for thread in (*asking, *threads):
        thread.join()
    assert sorted(statuses) == [200] * 2 + [429] * 4


@pytest.mark.parametrize("ask", WAYS)
def test_a_run_too_many_is_refused(
    model: CompletionsServer, app: Flask, alice: Person, ask: Callable
):
    model.script(stream(text("slow"), HANG))
    asking = [in_background(by_ag_ui, alice) for _ in range(RUNS_AT_ONCE_PER_USER)]
    wait_until(lambda: len(model.requests) == RUNS_AT_ONCE_PER_USER)

    demand_refused(app, model, lambda: ask(alice))

    model.stopping.set()
    for thread in asking:
        thread.join()
    assert not app.extensions["agent"].streams._taken


@pytest.mark.parametrize("ask", WAYS)
def test_a_process_without_threads_refuses_and_keeps_nothing(
    model: CompletionsServer, app: Flask, alice: Person, ask: Callable, monkeypatch
):
    chat = by_json(alice, "hello").json["session_id"]
    taken = app.extensions["agent"]
    wait_until(lambda: taken.journal.running == 0)

    def fail(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as fault:
        fault.setattr(threading.Thread, "start", fail)
        # As if they had ended, which they do when nothing is to be done for half a minute.
        fault.setattr(taken.journal._keeper._thread, "_thread", None)
        for its_chat in (None, chat):
            demand_refused(app, model, lambda its=its_chat: ask(alice, "hello", its))

    assert not (taken.places._taken or taken.streams._taken or taken.seats._taken)
    assert ask(alice, "hello again", chat).status_code == 200


@pytest.mark.parametrize("ask", WAYS)
def test_what_is_refused_uses_none_of_the_minutes_messages(
    model: CompletionsServer, app: Flask, alice: Person, charlie: Person, ask: Callable
):
    chat, path, thread, _ = running(model, alice)
    theirs = by_json(charlie, "a secret").json["session_id"]

    for its_chat, status in ((chat, 409), (theirs, 404)):
        for _ in range(RUNS_PER_USER.amount // 2):
            assert ask(alice, "hello", its_chat).status_code == status

    alice.post(f"{path}/cancel")
    thread.join()
    assert ask(alice, "now", chat).status_code == 200


@pytest.mark.parametrize("ask", WAYS)
def test_of_messages_at_once_no_more_run_than_a_minute_has(
    model: CompletionsServer, app: Flask, alice: Person, ask: Callable
):
    for _ in range(RUNS_PER_USER.amount - 2):
        app.extensions["ratelimit"].spend(RUNS_PER_USER, alice.id)

    answers = at_once(*[lambda: ask(alice)] * 6)

    assert sorted(each.status_code for each in answers) == [200] * 2 + [429] * 4
    assert rows(app) == (2, 2)


@pytest.mark.parametrize("ask", WAYS)
def test_a_history_that_cannot_be_paid_for_is_refused(
    settings: dict, model: CompletionsServer, request: pytest.FixtureRequest, ask: Callable
):
    settings |= {"AGENT_DAILY_TOKENS": "50000", "AGENT_MAX_OUTPUT_TOKENS": "1000"}
    app, alice = request.getfixturevalue("app"), request.getfixturevalue("alice")
    chat = by_json(alice, "x" * 8000).json["session_id"]
    with app.app_context():
        Spending.update(tokens=50_000 - 6000).where(Spending.user == UUID(alice.id)).execute()

    demand_refused(app, model, lambda: ask(alice, "and now?", chat))

    assert ask(alice, "and now?", None).status_code == 200


# Asking again without end


def repeat(app: Flask, person: Person, ask: Callable[[], TestResponse]) -> list[int]:
    """What is answered to the last two that a minute has, and to one more."""
    for _ in range(REPEATS_PER_USER.amount - 2):
        app.extensions["ratelimit"].spend(REPEATS_PER_USER, person.id)
    return [ask().status_code for _ in range(3)]


def test_a_key_is_not_repeated_without_end(model: CompletionsServer, app: Flask, alice: Person):
    def ask() -> TestResponse:
        return alice.post("/agent-chats", {"message": "hello"}, **keyed("k"))

    assert ask().status_code == 200
    assert repeat(app, alice, ask) == [200, 200, 429]
    assert alice.chat("another").status_code == 200


def test_a_stream_is_not_read_again_without_end(app: Flask, alice: Person):
    where = alice.stream("hello").headers["Content-Location"].removeprefix("/api/v1")

    assert repeat(app, alice, lambda: alice.get(where)) == [200, 200, 429]


def test_a_run_of_ag_ui_is_not_asked_for_again_without_end(app: Flask, alice: Person):
    words = {"id": "u1", "role": "user", "content": "hello"}
    body = {"threadId": "t", "runId": "r", "messages": [words]}

    def ask() -> TestResponse:
        return alice.post("/agent-chats/ag-ui", body)

    assert ask().status_code == 200
    assert repeat(app, alice, ask) == [200, 200, 429]


def test_a_busy_chat_is_not_tried_without_end(model: CompletionsServer, app: Flask, alice: Person):
    chat, path, thread, _ = running(model, alice)

    assert repeat(app, alice, lambda: alice.chat("hello", chat)) == [409, 409, 429]

    alice.post(f"{path}/cancel")
    thread.join()


def test_a_head_of_a_stream_holds_no_place(app: Flask, alice: Person):
    where = alice.stream("hello").headers["Content-Location"].removeprefix("/api/v1")

    assert alice.request("HEAD", where).status_code == 200

    assert not app.extensions["agent"].streams._taken


def test_a_stop_that_is_refused_stops_nothing(
    model: CompletionsServer, app: Flask, alice: Person, bob: Person
):
    _chat, path, thread, _ = running(model, alice)
    stops = app.extensions["agent"].stops
    places = [UUID(person.id) for person in (alice, bob) for _ in range(6)]
    for who in places[: stops._total]:
        stops.take(who)

    refused = alice.post(f"{path}/cancel")

    assert refused.status_code == 429
    assert Run.get().stop_requested_at is None
    for who in places[: stops._total]:
        stops.leave(who)
    assert alice.post(f"{path}/cancel").json["status"] == "stopped"
    thread.join()
