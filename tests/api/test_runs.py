"""Runs of the agent: followed as they happen, resumed, asked for again, stopped."""

import time
from collections.abc import Iterable
from uuid import uuid4

import pytest
from peewee import OperationalError

from runtime.agent.events import ErrorCode, RunError
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.services.chats import claim, history
from runtime.services.chats.agent import RUNS_AT_ONCE_PER_USER, STREAMS_AT_ONCE_PER_USER
from tests.agent.completions_server import (
    DONE,
    HANG,
    CompletionsServer,
    Pause,
    answer,
    finish,
    stream,
    text,
    tool_answer,
)
from tests.agent.order import check_order, from_wire
from tests.api.test_agent_chats import in_background, said, types, wait_until
from tests.conftest import Person, at_once, events_in


def slowly(*words: str):
    """An answer whose words come one at a time."""
    return stream(*[part for word in words for part in (text(word), Pause(0.02))], finish(), DONE)


def without_deltas(kinds: Iterable[str]) -> list[str]:
    return [kind for kind in kinds if not kind.endswith(("_CONTENT", "_ARGS"))]


def output(events: list[tuple[int, dict]]) -> str:
    return "".join(e["delta"] for _, e in events if e["type"] == "TEXT_MESSAGE_CONTENT")


def test_a_run_is_streamed_as_the_events_of_the_json_answer(alice: Person):
    streamed = alice.stream("What is 1+1, and who am I?")

    events = events_in(streamed)
    assert (streamed.status_code, streamed.mimetype) == (200, "text/event-stream")
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    check_order(from_wire([event for _, event in events]))
    asked = alice.chat("What is 1+1, and who am I?")
    # Deltas may be joined one way and not the other.
    assert without_deltas(event["type"] for _, event in events) == without_deltas(types(asked))


def test_a_stream_tells_proxies_to_keep_nothing_back(alice: Person):
    headers = alice.stream("hello").headers

    assert headers["X-Accel-Buffering"] == "no"
    assert headers["Cache-Control"] == "no-store, no-transform"


def test_json_stays_the_default(alice: Person):
    for accept in ("*/*", "application/json", "application/json, text/event-stream", "text/html"):
        asked = alice.post("/agent-chats", {"message": "hi"}, headers={"Accept": accept})
        assert asked.mimetype == "application/json"


def test_an_answer_in_one_piece_does_not_wait_for_words_to_travel_together(app, alice: Person):
    """Streams of many runs wake less often than words come; whoever wants the end reads none."""
    journal = app.extensions["agent"].journal
    alone = min(seconds_of(alice, "hi") for _ in range(5))
    others = [journal.begin(uuid4()) for _ in range(100)]
    try:
        beside_them = min(seconds_of(alice, "hi") for _ in range(3))
    finally:
        for log in others:
            journal.append(log, RunError(str(log.run_id), ErrorCode.INTERNAL))
        wait_until(lambda: not journal.running)
    assert beside_them < 10 * alone


def seconds_of(person: Person, message: str) -> float:
    """How long an answer in one piece takes."""
    began = time.monotonic()
    assert person.chat(message).status_code == 200
    return time.monotonic() - began


def test_a_stream_is_had_again_where_it_says(alice: Person):
    streamed = alice.stream("hello")

    again = alice.get(streamed.headers["Content-Location"].removeprefix("/api/v1"))

    assert again.data == streamed.data


@pytest.mark.parametrize("words", [["one ", "two ", "three"], ["w"] * 30], ids=["short", "joined"])
def test_a_stream_is_resumed_after_any_event(model: CompletionsServer, alice: Person, words):
    model.script(tool_answer("calculate", '{"expression": "1"}'), slowly(*words))
    streamed = alice.stream("hello")
    seen, where = events_in(streamed), streamed.headers["Content-Location"]
    assert len(seen) > len(words)

    for count in range(len(seen) + 1):
        number = seen[count - 1][0] if count else 0
        rest = events_in(
            alice.get(where.removeprefix("/api/v1"), headers={"Last-Event-ID": str(number)})
        )
        assert output(seen[:count]) + output(rest) == "".join(words)
        assert [n for n, _ in rest] == sorted({n for n, _ in rest} - set(range(number + 1)))
        assert [e["type"] for _, e in rest if "delta" not in e] == [
            e["type"] for _, e in seen[count:] if "delta" not in e
        ]
        assert rest[-1:] == seen[-1:] or count == len(seen)


def test_the_journal_of_a_long_answer_has_few_rows(model: CompletionsServer, alice: Person):
    model.script(slowly(*["w"] * 30))

    events = events_in(alice.stream("hello"))

    rows = list(RunEvent.select().order_by(RunEvent.number))
    # Under load some had travelled together.
    assert len(events) > 10
    assert [row.number for row in rows][-1] == events[-1][0]
    assert len(rows) == 5


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "12345678901"])
def test_a_number_that_is_none_is_refused(alice: Person, after: str):
    where = alice.stream("hello").headers["Content-Location"].removeprefix("/api/v1")

    refused = alice.get(where, headers={"Last-Event-ID": after})

    assert refused.status_code == 422
    assert refused.json["errors"][0]["parameter"] == "Last-Event-ID"


def test_an_error_before_the_first_event_is_a_problem(
    model: CompletionsServer, alice: Person, charlie: Person
):
    chat = str(uuid4())
    model.script(stream(text("slow"), HANG))
    asking = in_background(alice.chat, "one", chat)
    wait_until(lambda: model.requests)

    for person, status in ((alice, 409), (charlie, 404)):
        refused = person.stream("two", chat)
        assert (refused.status_code, refused.mimetype) == (status, "application/problem+json")

    model.stopping.set()
    asking.join()


def test_an_error_is_told_in_the_readers_language(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hel"), "data: {]\n\n"))
    where = alice.stream("hello").headers["Content-Location"].removeprefix("/api/v1")

    chinese = events_in(alice.get(where))[-1][1]
    alice.language = "en"
    english = events_in(alice.get(where))[-1][1]

    assert chinese["error"] == "模型返回了无法识别的内容"
    assert english["error"] == "The model sent an answer that makes no sense."
    assert chinese["output"] == english["output"] == "Hel"


# Asking again


def keyed(key: str) -> dict:
    return {"headers": {"Idempotency-Key": key}}


def test_the_same_key_gives_the_same_run(model: CompletionsServer, alice: Person):
    body = {"message": "hello"}

    first = alice.post("/agent-chats", body, **keyed("k1"))
    again = alice.post("/agent-chats", body, **keyed("k1"))
    streamed = alice.stream("hello", Idempotency_Key="k1")

    assert again.data == first.data
    assert [event for _, event in events_in(streamed)] == first.json["events"]
    assert len(model.requests) == 1


def test_the_same_request_again_resumes_its_stream(model: CompletionsServer, alice: Person):
    model.script(slowly("one ", "two ", "three"))
    seen = events_in(alice.stream("hello", Idempotency_Key="k1"))

    rest = alice.stream("hello", Idempotency_Key="k1", Last_Event_ID=str(seen[3][0]))

    assert output(seen[:4]) + output(events_in(rest)) == "one two three"
    assert len(model.requests) == 1


def test_a_new_run_is_streamed_from_its_start(alice: Person):
    assert events_in(alice.stream("hello", Last_Event_ID="3"))[0][0] == 1


def test_a_key_may_go_on_with_a_chat(model: CompletionsServer, alice: Person):
    chat = alice.chat("hello").json["session_id"]
    body = {"message": "and now?", "session_id": chat}

    first, again = (alice.post("/agent-chats", body, **keyed("k")) for _ in range(2))

    assert again.data == first.data
    assert len(model.requests) == 2


@pytest.mark.parametrize("changed", [{"message": "other"}, {"session_id": str(uuid4())}])
def test_another_body_under_the_same_key_is_refused(alice: Person, changed: dict):
    body = {"message": "hello", "session_id": None}
    alice.post("/agent-chats", body, **keyed("k1"))

    refused = alice.post("/agent-chats", body | changed, **keyed("k1"))

    assert refused.status_code == 422
    assert refused.json["detail"] == "该 Idempotency-Key 已用于另一个请求"
    assert refused.json["errors"][0]["parameter"] == "Idempotency-Key"


def test_a_key_of_a_chat_that_was_named_is_no_key_without_one(alice: Person):
    first = alice.chat("hello").json["session_id"]
    named = {"message": "again", "session_id": first}
    alice.post("/agent-chats", named, **keyed("k1"))

    refused = alice.post("/agent-chats", {"message": "again"}, **keyed("k1"))

    assert refused.status_code == 422


def test_keys_are_everybodys_own(alice: Person, bob: Person):
    first = alice.post("/agent-chats", {"message": "hello"}, **keyed("k1"))

    other = bob.post("/agent-chats", {"message": "something else"}, **keyed("k1"))

    assert other.status_code == 200
    assert other.json["session_id"] != first.json["session_id"]


@pytest.mark.in_process("what other requests do is put between two steps")
def test_a_key_whose_chat_is_erased_meanwhile_is_free_again(alice: Person, monkeypatch):
    """Another request has begun its run by when this one would, and the chat is erased then."""
    begin, claims = claim.claim, []

    def claim_late(user, run):
        if not claims:
            claims.append(begin(user, run))
            claims.append(begin(user, run))
            Chat.delete().where(Chat.id == run.chat_id).execute()
            return claims[-1]
        return begin(user, run)

    monkeypatch.setattr(claim, "claim", claim_late)

    for ask in (alice.post, lambda *_, **__: alice.stream("hello", Idempotency_Key="k2")):
        claims.clear()
        assert ask("/agent-chats", {"message": "hello"}, **keyed("k")).status_code == 200
        assert claims == [True, False]


@pytest.mark.in_process("a fault is put into the service")
def test_a_message_that_could_not_begin_may_be_sent_again(
    model: CompletionsServer, alice: Person, monkeypatch
):
    chat = alice.chat("hello").json["session_id"]
    body = {"message": "and now?", "session_id": chat}

    def fail(*_):
        raise OperationalError("canceling statement due to statement timeout")

    with monkeypatch.context() as fault:
        fault.setattr(history, "messages_of", fail)
        assert alice.post("/agent-chats", body, **keyed("k")).status_code == 503

    assert alice.post("/agent-chats", body, **keyed("k")).json["output"] == "Hello"


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ключ"])
def test_a_key_that_is_none_is_refused(alice: Person, key: str):
    if not key.isascii():
        key = key.encode().decode("latin-1")
    refused = alice.post("/agent-chats", {"message": "hello"}, **keyed(key))

    assert refused.status_code == 422


@pytest.mark.parametrize("is_new", [True, False], ids=["new chat", "chat that is there"])
def test_a_key_many_times_at_once_starts_one_run(
    model: CompletionsServer, alice: Person, is_new: bool
):
    chat = None if is_new else alice.chat("hello").json["session_id"]
    model.requests.clear()
    model.script(slowly("one ", "two"))
    body = {"message": "hello", "session_id": chat}

    answers = at_once(*[lambda: alice.post("/agent-chats", body, **keyed("k"))] * 8)

    assert {a.status_code for a in answers} == {200}
    assert len({a.data for a in answers}) == 1
    assert len(model.requests) == 1


# Stopping


def running(model: CompletionsServer, person: Person, *, said: str = "Hel") -> tuple:
    """A run that goes on for ever: its chat, its path, and the thread that waits for its answer."""
    chat, replies = str(uuid4()), []
    model.script(stream(text(said), HANG), answer("Next"))
    thread = in_background(lambda: replies.append(person.chat("hello", chat)))
    wait_until(lambda: model.requests)
    # The words that were written are those that a stop keeps.
    wait_until(lambda: [row for row in RunEvent.select() if said in row.data])
    return chat, f"/agent-chats/{chat}/runs/{Run.get(Run.chat == chat).id}", thread, replies


def test_a_run_is_stopped(model: CompletionsServer, alice: Person):
    chat, path, thread, replies = running(model, alice)
    model.left.clear()

    stopped = alice.post(f"{path}/cancel")

    assert model.left.wait(0.2), "the connection to the model is closed by then"
    assert (stopped.status_code, stopped.json["status"]) == (200, "stopped")
    assert stopped.json["finished_at"]
    thread.join()
    assert replies[0].json["output"] == "Hel"
    assert replies[0].json["events"][-1]["error"] == "已按要求停止"
    assert alice.chat("go on", chat).status_code == 200
    assert said(model.requests[-1]) == [("user", "hello"), ("assistant", "Hel"), ("user", "go on")]


def test_stopped_is_final(model: CompletionsServer, alice: Person):
    _chat, path, thread, _ = running(model, alice)

    first, again = alice.post(f"{path}/cancel"), alice.post(f"{path}/cancel")

    assert again.json == first.json
    thread.join()


def test_what_has_ended_is_not_stopped(alice: Person):
    reply = alice.chat("hello")
    path = f"/agent-chats/{reply.json['session_id']}/runs/{reply.json['events'][0]['run_id']}"

    assert alice.post(f"{path}/cancel").json["status"] == "finished"


def test_a_run_is_stopped_by_many_at_once(model: CompletionsServer, alice: Person):
    _chat, path, thread, replies = running(model, alice)

    answers = at_once(*[lambda: alice.post(f"{path}/cancel")] * 6)

    assert {a.status_code for a in answers} == {200}
    assert {a.json["status"] for a in answers} == {"stopped"}
    thread.join()
    assert types(replies[0]).count("RUN_ERROR") == 1


@pytest.mark.in_process("counts what one process holds")
def test_who_waits_for_many_answers_keeps_nobody_from_asking_and_stopping(
    model: CompletionsServer, alice: Person, bob: Person
):
    model.script(stream(text("Hel"), HANG))
    asking = [
        in_background(lambda: alice.post("/agent-chats", {"message": "hi"}, **keyed("k")))
        for _ in range(48)
    ]
    wait_until(lambda: sum(thread.is_alive() for thread in asking) == RUNS_AT_ONCE_PER_USER)
    model.script(answer("Hello"))

    assert bob.chat("hello").status_code == 200
    _chat, path, thread, _ = running(model, bob, said="Bye")
    assert bob.post(f"{path}/cancel").json["status"] == "stopped"

    model.stopping.set()
    for each in (*asking, thread):
        each.join()


@pytest.mark.in_process("counts what one process holds")
def test_streams_of_one_user_leave_room_for_others(
    model: CompletionsServer, alice: Person, bob: Person
):
    _chat, path, thread, _ = running(model, alice)
    listening = [
        in_background(lambda: alice.get(f"{path}/events")) for _ in range(STREAMS_AT_ONCE_PER_USER)
    ]
    time.sleep(0.5)

    assert alice.get(f"{path}/events").status_code == 429
    assert bob.stream("hello").status_code == 200

    alice.post(f"{path}/cancel")
    for each in (*listening, thread):
        each.join()
    assert alice.get(f"{path}/events").status_code == 200


def test_somebody_elses_run_is_not_found(model: CompletionsServer, alice: Person, charlie: Person):
    _chat, path, thread, _ = running(model, alice)

    answers = charlie.get(path), charlie.get(f"{path}/events"), charlie.post(f"{path}/cancel")

    assert {a.status_code for a in answers} == {404}
    assert {a.json["detail"] for a in answers} == {"该次回答不存在"}
    assert alice.get(path).json["status"] == "running"
    alice.post(f"{path}/cancel")
    thread.join()


def test_a_run_of_another_chat_is_not_found(alice: Person):
    one, other = alice.chat("hello").json, alice.chat("hello").json

    path = f"/agent-chats/{one['session_id']}/runs/{other['events'][0]['run_id']}"

    assert alice.get(path).status_code == 404


# Asking about


def test_a_run_says_how_it_went(model: CompletionsServer, alice: Person):
    reply = alice.chat("hello").json

    run = alice.get(f"/agent-chats/{reply['session_id']}/runs/{reply['events'][0]['run_id']}").json

    assert run["status"] == "finished"
    assert (run["input_tokens"], run["output_tokens"]) == (7, 3)
    assert run["created_at"] <= run["finished_at"]


def test_a_run_that_failed_says_so(model: CompletionsServer, alice: Person):
    model.script(stream("data: {]\n\n"))
    reply = alice.chat("hello").json

    run = alice.get(f"/agent-chats/{reply['session_id']}/runs/{reply['events'][0]['run_id']}").json

    assert (run["status"], run["error"]) == ("failed", "模型返回了无法识别的内容")
    assert run["input_tokens"] is None
    alice.language = "en"
    messages = alice.get(f"/agent-chats/{reply['session_id']}/messages").json["messages"]
    assert messages[-1]["error"] == "The model sent an answer that makes no sense."


def test_readers_share_a_run(model: CompletionsServer, alice: Person):
    _chat, path, thread, _ = running(model, alice)
    seen = []
    readers = [
        in_background(lambda: seen.append(events_in(alice.get(f"{path}/events")))) for _ in range(3)
    ]
    time.sleep(0.2)

    alice.post(f"{path}/cancel")

    for reader in (*readers, thread):
        reader.join()
    assert seen == [seen[0]] * 3
    assert seen[0][-1][1]["type"] == "RUN_ERROR"
