"""client.mjs reads a run to its end, and asks nobody without end."""

import json
from pathlib import Path

import pytest

from tests.client.scripted import (
    NOTHING,
    STREAM,
    Answer,
    Asked,
    events,
    new_pair,
    pair,
    play,
    problem,
    serving,
    value,
)

CHAT = 'say(await all(client.chat("hello")));'
FOLLOW = 'say(await all(client.follow("a/b", "r", { after: 2 })));'
UNREACHABLE = "The service cannot be reached. Please try again later."


def whole(*types: str, first: int = 1) -> Answer:
    return 200, STREAM, events(*types, first=first)


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085"])
def test_a_stream_has_every_character(tmp_path: Path, odd: str):
    with serving(lambda *_: whole(f"a{odd}b", "RUN_FINISHED")) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value == {"heard": [[1, f"a{odd}b"], [2, "RUN_FINISHED"]], "problem": None}
    assert len(server.asked) == 1


@pytest.mark.parametrize("end", ["RUN_FINISHED", "RUN_ERROR"])
def test_a_stream_ends_with_its_run(tmp_path: Path, end: str):
    with serving(lambda *_: whole("one", end, "more")) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert [kind for _number, kind in played.value["heard"]] == ["one", end]
    assert len(server.asked) == 1


def test_a_stream_goes_on_where_it_was_cut(tmp_path: Path):
    types = ("one", "two", "three", "RUN_FINISHED")

    def answer(number: int, _asked: Asked) -> Answer:
        return 200, STREAM, events(types[number - 1], first=number) + b"id: 9\ndata: {"

    with serving(answer) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value["heard"] == [[number, kind] for number, kind in enumerate(types, 1)]
    assert [each.headers.get("Last-Event-ID") for each in server.asked] == [None, "1", "2", "3"]
    assert len({each.headers["Idempotency-Key"] for each in server.asked}) == 1
    assert len({json.dumps(each.body) for each in server.asked}) == 1
    assert max(played.waits) <= 1


def test_a_message_whose_answer_never_came_is_the_same_message_again(tmp_path: Path):
    with serving(lambda number, _: whole("RUN_FINISHED") if number == 3 else NOTHING) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value["heard"] == [[1, "RUN_FINISHED"]]
    assert len(server.asked) == 3
    assert len({each.headers["Idempotency-Key"] for each in server.asked}) == 1
    assert len({each.body["session_id"] for each in server.asked}) == 1


def test_an_event_that_comes_again_is_told_once(tmp_path: Path):
    def answer(number: int, _asked: Asked) -> Answer:
        return whole("one", "two", *["RUN_FINISHED"] * (number == 2))

    with serving(answer) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value["heard"] == [[1, "one"], [2, "two"], [3, "RUN_FINISHED"]]


@pytest.mark.parametrize(
    "answer",
    [
        (200, STREAM, b""),
        (200, STREAM, b":\n\n" * 5),
        (200, STREAM, b"id: 1\ndata: {]\n\n"),
        (200, {"Content-Type": "text/html"}, b"<html>\n\n<p>\n</p>\n\n"),
        (302, {"Location": "http://127.0.0.1:9/login"}, b""),
        (502, {}, b"<html>"),
        problem(503, "unavailable", **{"Retry-After": "1"}),
        (429, {}, b"{}"),
        NOTHING,
    ],
    ids=["nothing", "heartbeats", "no json", "a page", "login", "502", "503", "429", "no answer"],
)
def test_a_stream_is_given_up(tmp_path: Path, answer: Answer):
    with serving(lambda *_: answer) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value["heard"] == []
    status = answer[0] if answer[0] >= 400 else 0
    sentence = "It is unavailable." if status == 503 else UNREACHABLE
    assert played.value["problem"]["detail"] == sentence
    assert played.value["problem"]["status"] == status
    assert len(server.asked) == 8
    assert 30 < sum(played.waits) < 120
    assert played.waits[2:] == sorted(played.waits[2:])


def test_a_stream_that_repeats_itself_is_given_up(tmp_path: Path):
    with serving(lambda *_: whole("one")) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value["heard"] == [[1, "one"]]
    assert len(server.asked) == 8


def test_a_stream_that_never_ends_is_given_up(tmp_path: Path):
    with serving(lambda number, _: whole("one", first=number)) as server:
        played = play(tmp_path, server.origin, CHAT, most=30)

    assert len(server.asked) == len(played.value["heard"]) == 30
    assert played.value["problem"]["code"] == "unreachable"


def test_nobody_waits_where_nobody_listens(tmp_path: Path):
    played = play(tmp_path, "http://127.0.0.1:9", CHAT)

    assert played.value["problem"]["status"] == 0
    assert len(played.waits) == 7


def test_a_stream_waits_as_long_as_it_is_told(tmp_path: Path):
    busy = problem(429, "too_many_requests", **{"Retry-After": "47"})
    with serving(lambda number, _: busy if number == 1 else whole("RUN_FINISHED")) as server:
        played = play(tmp_path, server.origin, CHAT)

    assert played.value["problem"] is None
    assert 47 <= played.waits[0] <= 60 and len(played.waits) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [(401, {}), (404, {}), (409, {}), (422, {}), (500, {}), (429, {"Retry-After": "40000"})],
)
def test_a_refusal_is_told_at_once(tmp_path: Path, status: int, headers: dict):
    with serving(lambda *_: problem(status, "a_code", **headers)) as server:
        played = play(tmp_path, server.origin, CHAT)

    told = played.value["problem"]
    assert (told["name"], told["status"], told["code"]) == ("Problem", status, "a_code")
    assert (len(server.asked), played.waits) == (1, [])


def test_a_chat_has_the_headers_and_members_that_are_given(tmp_path: Path):
    script = """
    const headers = { "If-Running": "replace", "Idempotency-Key": "mine" };
    const options = { sessionId: "s", headers, body: { more: 1 } };
    say(await all(client.chat("hello", options)));"""
    with serving(lambda *_: whole("RUN_FINISHED")) as server:
        play(tmp_path, server.origin, script)

    [asked] = server.asked
    assert asked.body == {"message": "hello", "session_id": "s", "more": 1}
    assert asked.headers["If-Running"] == "replace"
    assert asked.headers["Idempotency-Key"] == "mine"
    assert asked.headers["Accept"] == "text/event-stream"


def test_a_run_that_was_heard_to_its_end_is_not_waited_for(tmp_path: Path):
    """Its state says so; an answer that was cut before its first event looks the same."""
    run = {"finished_at": "2026-12-01T10:00:00.000Z"}
    with serving(lambda _, asked: whole() if "events" in asked.path else value(run)) as server:
        played = play(tmp_path, server.origin, FOLLOW)

    assert played.value == {"heard": [], "problem": None}
    run = "GET /agent-chats/a%2Fb/runs/r"
    assert server.paths == [f"{run}/events", run, f"{run}/events"]


def test_a_run_that_is_cut_after_its_end_loses_nothing(tmp_path: Path):
    def answer(number: int, asked: Asked) -> Answer:
        if "events" not in asked.path:
            return value({"finished_at": "2026-12-01T10:00:00.000Z"})
        rest = {1: whole(), 3: whole("three", first=3)}
        return rest.get(number, whole("RUN_FINISHED", first=4))

    with serving(answer) as server:
        played = play(tmp_path, server.origin, FOLLOW)

    assert played.value["heard"] == [[3, "three"], [4, "RUN_FINISHED"]]


def test_a_run_that_goes_on_is_waited_for(tmp_path: Path):
    def answer(_number: int, asked: Asked) -> Answer:
        return whole() if "events" in asked.path else value({"finished_at": None})

    with serving(answer) as server:
        played = play(tmp_path, server.origin, FOLLOW)

    assert played.value["problem"]["code"] == "unreachable"
    assert len(server.asked) == 16


def test_a_stream_may_be_left_and_aborted(tmp_path: Path):
    script = """
    for await (const event of client.chat("hello")) break;
    const stopped = new AbortController();
    const reason = await (async () => {
      for await (const event of client.chat("hello", { signal: stopped.signal })) stopped.abort();
    })().catch((error) => error.name);
    const early = await outcome(client.request("GET", "/x", undefined, { signal: stopped.signal }));
    say([reason, early.problem.name]);"""
    with serving(lambda *_: whole("one")) as server:
        played = play(tmp_path, server.origin, script)

    assert played.value == ["AbortError", "AbortError"]
    assert len(server.asked) == 2


def test_a_wait_ends_when_it_is_aborted(tmp_path: Path):
    script = """
    const stopped = new AbortController();
    const asking = outcome(client.request("GET", "/x", undefined, { signal: stopped.signal }));
    while (!waits.length) await new Promise((go) => setImmediate(go));
    const began = performance.now();
    stopped.abort();
    say([await asking, performance.now() - began]);"""
    with serving(lambda *_: (503, {"Retry-After": "9"}, b"")) as server:
        played = play(tmp_path, server.origin, script, hurry=False)

    outcome, milliseconds = played.value
    assert outcome["problem"]["name"] == "AbortError"
    assert milliseconds < 5000
    assert (len(server.asked), len(played.urls)) == (1, 1)


def test_a_stream_whose_token_runs_out_goes_on_with_the_next(tmp_path: Path):
    def answer(number: int, asked: Asked) -> Answer:
        if asked.path.endswith("refresh"):
            return new_pair(2)
        if number == 1:
            return whole("one")
        if asked.headers["Authorization"] == "Bearer access 1":
            return problem(401, "invalid_access_token")
        return whole("RUN_FINISHED", first=2)

    with serving(answer) as server:
        played = play(tmp_path, server.origin, CHAT, pair())

    assert played.value == {"heard": [[1, "one"], [2, "RUN_FINISHED"]], "problem": None}
    assert [each.headers.get("Last-Event-ID") for each in server.asked] == [None, "1", None, "1"]


def test_a_message_is_not_sent_again_in_another_users_name(tmp_path: Path):
    script = """
    const events = client.chat("hello");
    await events.next();
    const other = { ...JSON.parse(kept), user: { id: "another", email: "b@example.org" } };
    kept = JSON.stringify(other);
    say(await all(events));"""
    with serving(lambda *_: whole("one")) as server:
        played = play(tmp_path, server.origin, script, pair())

    assert played.value["problem"]["code"] == "signed_out"
    assert len(server.asked) == 1
