"""A new message in the place of a run that goes on: `If-Running: replace`."""

import time
from uuid import UUID, uuid4

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from runtime.errors import ChatBusy
from runtime.models.chats import Run
from runtime.models.run_events import RunEvent
from runtime.models.users import User
from runtime.services.chats import replacing
from tests.agent.completions_server import HANG, CompletionsServer, answer, stream, text
from tests.api.test_ag_ui import Hearing, heard, post, user, written
from tests.api.test_agent_chats import in_background, said, wait_until
from tests.api.test_runs import running
from tests.conftest import Person, at_once, events_in

REPLACE = {"If-Running": "replace"}


def say(person: Person, message: str, chat: str | None, **headers: str) -> TestResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"message": message, "session_id": chat}
    return person.post("/agent-chats", body, headers=REPLACE | given)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_new_message_replaces_the_run_that_goes_on(
    model: CompletionsServer, alice: Person, accept: str
):
    chat, path, thread, replies = running(model, alice)

    told = say(alice, "never mind", chat, Accept=accept)

    assert told.status_code == 200
    assert "Next" in told.text
    thread.join()
    assert replies[0].json["events"][-1]["error"] == "已按要求停止"
    assert alice.get(path).json["status"] == "stopped"
    assert said(model.requests[-1]) == [
        ("user", "hello"),
        ("assistant", "Hel"),
        ("user", "never mind"),
    ]


@pytest.mark.parametrize(
    "how", [{"headers": REPLACE}, {"forwardedProps": {"ifRunning": "replace"}}], ids=str
)
def test_a_front_ends_next_message_replaces_the_run_that_goes_on(
    model: CompletionsServer, alice: Person, how: dict
):
    model.script(stream(text("Hel"), HANG), answer("Next"))
    first = Hearing(alice, user("hello"))
    written("Hel")

    again = heard(post(alice, user("hello"), user("never mind", "u2"), run="r2", **how))

    assert again[-1]["result"] == "Next"
    assert first.events[-1]["outcome"] == {"type": "cancelled"}


def test_who_only_comes_back_replaces_nothing(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hel"), HANG))
    first = Hearing(alice, user("hello"))
    written("Hel")

    again = Hearing(alice, user("hello"), run="r2", headers=REPLACE)
    same = Hearing(alice, user("hello"), run="r1", headers=REPLACE)
    new = Hearing(alice, run="r3", forwardedProps={"ifRunning": "replace", "continue": True})
    time.sleep(0.3)
    model.stopping.set()

    assert {events.events[-1]["code"] for events in (again, same, new, first)} == {
        "provider_interrupted"
    }
    assert len(model.requests) == Run.select().count() == 1


def test_where_nothing_goes_on_it_is_a_message_like_any_other(
    model: CompletionsServer, alice: Person
):
    first = say(alice, "hello", None)
    second = say(alice, "And you?", first.json["session_id"])

    assert (first.status_code, second.status_code) == (200, 200)
    assert [run.status for run in Run.select()] == ["finished"] * 2


@pytest.mark.parametrize("word", ["wait", "Replace", "replace, wait", ""])
def test_no_other_word_is_understood(alice: Person, word: str):
    body = {"message": "hello"}

    refused = alice.post("/agent-chats", body, headers={"If-Running": word})

    assert refused.status_code == 422
    [fault] = refused.json["errors"]
    assert (fault["parameter"], fault["code"]) == ("If-Running", "not_one_of")


def test_what_is_refused_stops_nothing(
    model: CompletionsServer, settings: dict, alice: Person, charlie: Person
):
    chat, path, thread, _ = running(model, alice)

    refused = [say(alice, "", chat), say(charlie, "mine", chat)]

    assert [each.status_code for each in refused] == [422, 404]
    assert alice.get(path).json["status"] == "running"
    model.stopping.set()
    thread.join()


# At once


def ended(answer: TestResponse) -> str | None:
    """The error that a stream ended with."""
    return events_in(answer)[-1][1].get("error")


def test_of_five_presses_at_once_one_run_is_left(model: CompletionsServer, alice: Person):
    chat, _path, thread, _replies = running(model, alice)
    model.script(*[stream(text("Well"), HANG)] * 5)
    told: list[TestResponse] = []

    def press(number: int) -> None:
        told.append(say(alice, f"press {number}", chat, Accept="text/event-stream"))

    presses = [in_background(press, number) for number in range(5)]
    wait_until(lambda: len(told) == 4)
    wait_until(lambda: Run.select().count() == 6)

    [left] = Run.select().where(Run.finished_at.is_null())
    assert all(ended(each) == "已按要求停止" for each in told)
    answered = {events_in(each)[0][1]["run_id"] for each in told}
    assert len(answered) == 4
    assert str(left.id) not in answered
    # The last press goes on until the model is done with it.
    wait_until(lambda: RunEvent.select().where(RunEvent.run == left.id).exists())
    model.stopping.set()
    for each in (*presses, thread):
        each.join()
    assert {each.status_code for each in told} == {200}
    assert ended(told[-1]) != "已按要求停止"


def test_one_press_five_times_is_one_run(model: CompletionsServer, alice: Person):
    chat, _path, thread, _replies = running(model, alice)

    def press() -> TestResponse:
        return say(alice, "once", chat, Idempotency_Key="k", Accept="text/event-stream")

    told = at_once(*[press] * 5)

    assert {each.status_code for each in told} == {200}
    assert {ended(each) for each in told} == {None}
    assert Run.select().count() == len(model.requests) == 2
    thread.join()


def test_one_press_of_a_front_end_five_times_is_one_run(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hel"), HANG), answer("Next"))
    first = Hearing(alice, user("hello"))
    written("Hel")

    def press() -> TestResponse:
        said = (user("hello"), user("once", "u2"))
        return post(alice, *said, run="r2", forwardedProps={"ifRunning": "replace"})

    told = at_once(*[press] * 5)

    assert {heard(each)[-1]["result"] for each in told} == {"Next"}
    assert first.events[-1]["outcome"] == {"type": "cancelled"}
    assert Run.select().count() == len(model.requests) == 2


# Which run is in the way


@pytest.mark.in_process("calls the service")
@pytest.mark.parametrize("is_twin", [True, False], ids=["a twin", "another"])
def test_a_run_of_the_same_key_is_not_in_the_way(
    model: CompletionsServer, app: Flask, alice: Person, is_twin: bool
):
    chat, _path, thread, replies = running(model, alice)
    tries = []

    def begin() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ChatBusy  # for a run that has ended since, when the one that goes on began
        return "begun"

    with app.app_context():
        user, run = User.get_by_id(UUID(alice.id)), Run.get()
        run_id = run.id if is_twin else uuid4()
        assert replacing.begin_instead(user, UUID(chat), begin, run_id) == "begun"
        assert Run.get().status == ("running" if is_twin else "stopped")

    model.stopping.set()
    thread.join()
    assert len(replies) == 1


@pytest.mark.in_process("calls the service")
def test_whoever_is_never_let_in_is_told(app: Flask, alice: Person):
    chat = alice.chat("hello").json["session_id"]
    tries = []

    def begin() -> None:
        tries.append(1)
        raise ChatBusy

    with app.app_context():
        user = User.get_by_id(UUID(alice.id))
        with pytest.raises(ChatBusy):
            replacing.begin_instead(user, UUID(chat), begin)

    assert len(tries) == replacing.ATTEMPTS
