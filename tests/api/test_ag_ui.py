"""POST /agent-chats/ag-ui; AG-UI's own clients have their tests in tests/test_ag_ui_clients.py."""

import json
import time
from functools import reduce
from uuid import UUID, uuid4, uuid5

import pytest
from werkzeug.test import TestResponse

from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.services.chats import history, records
from tests.agent.completions_server import (
    DONE,
    HANG,
    CompletionsServer,
    Pause,
    answer,
    call,
    chunk,
    finish,
    stream,
    text,
    tool_answer,
)
from tests.api.test_agent_chats import in_background, said, wait_until
from tests.api.test_hostile import NOT_JSON, NOT_TEXT, UNTEXTLIKE
from tests.conftest import Person, at_once

IDS = {"threadId": "t", "runId": "r1"}
PICK = {"name": "pick", "description": "Let the user pick a colour."}
PICK_CALL = tool_answer("pick", '{"from": "red"}', "p1")


def user(content: object, its_id: str = "u1", **more: object) -> dict:
    return {"id": its_id, "role": "user", "content": content, **more}


def result(content: object, call_id: str = "p1", its_id: str = "t1") -> dict:
    return {"id": its_id, "role": "tool", "toolCallId": call_id, "content": content}


def post(
    person: Person,
    *messages: dict,
    thread: str = "t",
    run: str = "r1",
    version: str | None = "1.0",
    headers: dict | None = None,
    **more,
) -> TestResponse:
    """What a client of this version sends; None is one before 1.0."""
    body = {"threadId": thread, "runId": run, "messages": list(messages), "tools": []}
    declared = {"protocolVersion": version} if version else {}
    headers = {"Accept": "text/event-stream", **(headers or {})}
    return person.post("/agent-chats/ag-ui", body | declared | more, headers=headers)


def heard(answer: TestResponse) -> list[dict]:
    """The events of a stream."""
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream"), answer.data
    text = answer.data.decode()
    assert "\r" not in text
    frames = [frame for frame in text.split("\n\n")[:-1] if frame != ":"]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


class Hearing:
    """What somebody hears meanwhile; `events` waits for the end of it."""

    def __init__(self, person: Person, *messages: dict, **more) -> None:
        self._events: list[dict] = []
        self._thread = in_background(self._hear, person, messages, more)

    def _hear(self, person: Person, messages: tuple, more: dict) -> None:
        self._events += heard(post(person, *messages, **more))

    @property
    def events(self) -> list[dict]:
        self._thread.join()
        return self._events


def written(text: str) -> None:
    """Wait until a journal has it."""
    wait_until(lambda: [row for row in RunEvent.select() if text in row.data])


def kinds(events: list[dict]) -> list[str]:
    return [event["type"] for event in events]


def snapshot(events: list[dict]) -> list[dict]:
    assert kinds(events[:2]) == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]
    return events[1]["messages"]


def words(messages: list[dict]) -> list[tuple[str, str]]:
    return [(message["role"], message.get("content")) for message in messages]


# A run


def test_a_run_is_told_in_ag_uis_events(model: CompletionsServer, alice: Person):
    model.script(tool_answer("calculate", '{"expression": "1+1"}', "c1"), answer("Two", "."))

    events = heard(post(alice, user("1+1?"), thread="my thread", run="my run"))

    ids = {"threadId": "my thread", "runId": "my run"}
    row = Run.get()
    names = {"session_id": str(row.chat_id), "run_id": str(row.id)}
    step, last = events[1]["parentMessageId"], events[5]["messageId"]
    assert events == [
        {"type": "RUN_STARTED", **ids, "protocolVersion": "1.0", "metadata": names},
        {
            "type": "TOOL_CALL_START",
            "toolCallId": "c1",
            "toolCallName": "calculate",
            "parentMessageId": step,
        },
        {"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": '{"expression": "1+1"}'},
        {"type": "TOOL_CALL_END", "toolCallId": "c1"},
        {
            "type": "TOOL_CALL_RESULT",
            "messageId": str(uuid5(row.id, "c1")),
            "role": "tool",
            "toolCallId": "c1",
            "content": "2",
        },
        {"type": "TEXT_MESSAGE_START", "messageId": last},
        *[e for e in events if e["type"] == "TEXT_MESSAGE_CONTENT"],
        {"type": "TEXT_MESSAGE_END", "messageId": last},
        {
            "type": "RUN_FINISHED",
            **ids,
            "result": "Two.",
            "usage": [{"inputTokens": 12, "outputTokens": 5}],
        },
    ]
    deltas = [event for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(event["delta"] for event in deltas) == "Two."
    assert {frozenset(e) for e in deltas} == {frozenset({"type", "messageId", "delta"})}


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/event-stream"])
def test_the_answer_is_never_json(alice: Person, accept: str):
    body = {"threadId": "t", "runId": "r", "messages": [user("hello")]}

    answer = alice.post("/agent-chats/ag-ui", body, headers={"Accept": accept})

    assert kinds(heard(answer))[-1] == "RUN_FINISHED"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Location" not in answer.headers


def test_what_is_not_known_is_not_told_as_0(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hi"), finish(), DONE))

    assert "usage" not in heard(post(alice, user("hello")))[-1]


def test_a_thread_whose_id_is_a_uuid_is_the_chat_of_that_id(
    model: CompletionsServer, alice: Person
):
    chat = alice.chat("I am Ada").json["session_id"]

    heard(post(alice, user("Who am I?"), thread=chat.upper()))

    assert said(model.requests[1])[0] == ("user", "I am Ada")
    alice.chat("And you?", chat)
    assert [content for role, content in said(model.requests[2]) if role == "user"] == [
        "I am Ada",
        "Who am I?",
        "And you?",
    ]


def test_any_other_id_of_a_thread_is_everybodys_own(
    model: CompletionsServer, alice: Person, bob: Person
):
    heard(post(alice, user("one"), thread="main"))
    heard(post(bob, user("two"), thread="main"))
    heard(post(alice, user("three", "u3"), thread="main", run="r3"))

    assert Chat.select().count() == 2
    assert [content for role, content in said(model.requests[2]) if role == "user"] == [
        "one",
        "three",
    ]


def test_somebody_elses_chat_is_not_found(alice: Person, charlie: Person):
    chat = alice.chat("a secret").json["session_id"]

    for messages in ([user("show me")], []):
        refused = post(charlie, *messages, thread=chat)
        assert (refused.status_code, refused.mimetype) == (404, "application/problem+json")


def test_it_is_for_who_is_signed_in(stranger: Person):
    assert post(stranger, user("hello")).status_code == 401


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"threadId": None}, "#/threadId"),
        ({"threadId": 1}, "#/threadId"),
        ({"threadId": ""}, "#/threadId"),
        ({"threadId": "x" * 256}, "#/threadId"),
        ({"runId": "x" * 256}, "#/runId"),
        ({"runId": {}}, "#/runId"),
        ({"protocolVersion": 1}, "#/protocolVersion"),
        ({"messages": None}, "#/messages"),
        ({"messages": {}}, "#/messages"),
        ({"messages": ["hello"]}, "#/messages/0"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "#/messages/0/id"),
        ({"messages": [{"id": "1", "content": "hello"}]}, "#/messages/0/role"),
        ({"messages": [user("hello", "x" * 256)]}, "#/messages/0/id"),
        ({"messages": [user("hello", "")]}, "#/messages/0/id"),
        ({"messages": [user("x" * 8001)]}, "#/messages"),
        ({"messages": [user("x" * 4000), user("x" * 4000)]}, "#/messages"),
        ({"tools": {}}, "#/tools"),
        ({"tools": [{"description": "no name"}]}, "#/tools/0/name"),
        ({"tools": [{"name": "has a space"}]}, "#/tools/0/name"),
        ({"tools": [{"name": "x", "parameters": []}]}, "#/tools/0/parameters"),
        ({"tools": [{"name": "x", "description": "x" * 60_001}]}, "#/tools"),
        ({"messages": [user([{"type": "image", "source": {}}])]}, "#/messages/0/content/0"),
        ({"messages": [user(5)]}, "#/messages/0/content"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_stream(
    alice: Person, changed: dict, pointer: str
):
    body = {"threadId": "t", "runId": "r", "messages": [user("hello")]} | changed

    refused = alice.post("/agent-chats/ag-ui", body)

    assert (refused.status_code, refused.mimetype) == (422, "application/problem+json")
    assert [fault["pointer"] for fault in refused.json["errors"]] == [pointer]
    assert Chat.select().count() == 0


@pytest.mark.parametrize(
    "place",
    [
        "threadId",
        "runId",
        "protocolVersion",
        "messages",
        "messages/0",
        "messages/0/id",
        "messages/0/role",
        "messages/0/content",
        "messages/0/content/0",
        "messages/0/content/0/type",
        "messages/0/content/0/text",
        "messages/1/toolCallId",
        "messages/1/error",
        "tools",
        "tools/0",
        "tools/0/name",
        "tools/0/description",
        "tools/0/parameters",
        "state",
    ],
)
def test_nothing_a_client_sends_is_a_fault_of_ours(settings, request, place: str):
    settings |= {"RATE_LIMITS": "off"}
    alice = request.getfixturevalue("alice")
    for odd in (*NOT_TEXT, *UNTEXTLIKE, None, "", "a\x00b", "x" * 100_000, {"type": "text"}):
        parts = [{"type": "text", "text": "hello"}]
        body = {
            "threadId": str(uuid4()),
            "runId": "r",
            "messages": [user(parts), result("red")],
            "tools": [dict(PICK)],
        }
        *steps, last = [int(step) if step.isdigit() else step for step in place.split("/")]
        reduce(lambda value, step: value[step], steps, body)[last] = odd

        answer = alice.post("/agent-chats/ag-ui", body)

        assert answer.status_code in (200, 422), odd
        assert answer.status_code == 422 or kinds(heard(answer))[-1] == "RUN_FINISHED"


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_no_json_is_refused(alice: Person, body: bytes):
    refused = alice.post("/agent-chats/ag-ui", data=body, content_type="application/json")

    assert (refused.status_code, refused.mimetype) == (422, "application/problem+json")


def test_what_the_protocol_leaves_open_is_taken(model: CompletionsServer, alice: Person):
    parts = [
        {"type": "text", "text": "What is", "surprise": 1},
        {"type": "text", "text": "this?\x00"},
    ]
    more = {
        "state": {},
        "context": [5, {}],
        "forwardedProps": 5,
        "resume": [],
        "surprise": {"a": 1},
    }
    empty = {"id": "s", "role": "developer", "content": " "}

    events = heard(post(alice, empty, user(parts), tools=None, version=None, **more))

    assert events[-1]["type"] == "RUN_FINISHED"
    assert said(model.requests[0]) == [("user", "What is\nthis?")]


IMAGE = {"type": "image", "source": {"type": "url", "value": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    "part", [IMAGE, {"type": "binary", "mimeType": "image/png"}, {"type": "text"}, {}, "text", None]
)
def test_a_part_that_cannot_be_passed_on_is_refused_and_named(
    model: CompletionsServer, alice: Person, part: object
):
    words = {"type": "text", "text": "What is this?"}
    sent = [user("Look:"), user([words, part, words, part], "u2")]

    refused = post(alice, *sent)

    assert refused.status_code == 422
    assert refused.json["errors"] == [
        {
            "pointer": f"#/messages/1/content/{n}",
            "code": "only_text",
            "detail": "目前只能发送文字，图片、文件等内容无法转交给模型",
        }
        for n in (1, 3)
    ]
    assert Chat.select().count() == len(model.requests) == 0


def test_a_copy_may_have_any_part(model: CompletionsServer, alice: Person):
    """It was said, or was edited, and changes nothing."""
    earlier = {"id": "a1", "role": "assistant", "content": [IMAGE]}

    heard(post(alice, user([IMAGE], "u0"), earlier, user("And now?")))

    assert said(model.requests[0]) == [("user", "And now?")]


def test_a_result_that_cannot_be_passed_on_is_refused_and_may_be_sent_again(
    model: CompletionsServer, alice: Person
):
    model.script(PICK_CALL, answer("Red."))
    heard(post(alice, user("A colour?"), tools=[PICK]))

    for odd, where in (([IMAGE], "content/0"), ({"red": 1}, "content")):
        refused = post(alice, user("A colour?"), result(odd), run="r2")
        assert refused.status_code == 422
        assert refused.json["errors"][0]["pointer"] == f"#/messages/1/{where}"
    failed = post(alice, {**result(""), "error": {"code": 1}}, run="r2")
    assert failed.json["errors"][0]["pointer"] == "#/messages/0/error"

    assert heard(post(alice, user("A colour?"), result("red"), run="r2"))[-1]["result"] == "Red."


def test_two_runs_at_once_in_a_chat_are_one_too_many(model: CompletionsServer, alice: Person):
    model.script(stream(text("slow"), HANG))
    first = Hearing(alice, user("one"))
    wait_until(lambda: model.requests)

    refused = post(alice, user("one"), user("two", "u2"), run="r2")

    assert (refused.status_code, refused.mimetype) == (409, "application/problem+json")
    model.stopping.set()
    assert kinds(first.events)[-1] == "RUN_ERROR"


# What is new


def test_of_the_messages_only_the_new_count(model: CompletionsServer, alice: Person):
    model.script(answer("Hello Ada"), answer("Ada"))
    first = heard(post(alice, user("I am Ada")))
    theirs = {"id": first[1]["messageId"], "role": "assistant", "content": "Hello Ada"}

    heard(post(alice, user("I am Ada"), theirs, user("Who am I?", "u2"), run="r2"))

    assert said(model.requests[1]) == [
        ("user", "I am Ada"),
        ("assistant", "Hello Ada"),
        ("user", "Who am I?"),
    ]


EARLIER = {"id": "a1", "role": "assistant", "content": "Hello Eve"}


@pytest.mark.parametrize(
    "earlier",
    [
        [],
        [user("I am Eve", "u1"), EARLIER],
        [user("I am Eve", "another id"), EARLIER],
        [user("I am Eve", "another id"), user("Really", "u1")],
        [user("I am Eve", "x"), {"id": "y", "role": "tool", "toolCallId": "z", "content": "!"}],
    ],
    ids=["lacking", "edited", "renamed", "inserted", "a result"],
)
def test_a_client_changes_nothing_of_what_was_said(
    model: CompletionsServer, alice: Person, earlier: list[dict]
):
    heard(post(alice, user("I am Ada")))

    heard(post(alice, *earlier, user("Who am I?", "u2"), run="r2"))

    assert said(model.requests[1]) == [
        ("user", "I am Ada"),
        ("assistant", "Hello"),
        ("user", "Who am I?"),
    ]
    messages = snapshot(heard(post(alice, run="r2")))
    assert [content for _, content in words(messages)] == [
        "I am Ada",
        "Hello",
        "Who am I?",
        "Hello",
    ]


def test_several_messages_may_be_new(model: CompletionsServer, alice: Person):
    greeting = {"id": "g", "role": "assistant", "content": "What can I do?"}
    model.script(stream(text("One"), HANG))
    first = Hearing(alice, greeting, user("one"))
    written("One")
    assert post(alice, greeting, user("one"), user("two", "u2"), run="r2").status_code == 409
    model.stopping.set()
    assert kinds(first.events)[-1] == "RUN_ERROR"
    model.script(answer("Hello"))

    unheard = [user("two", "u2"), user("three", "u3")]
    heard(post(alice, greeting, user("one"), *unheard, run="r3"))

    assert said(model.requests[1]) == [
        ("user", "one"),
        ("assistant", "One"),
        ("user", "two\n\nthree"),
    ]
    messages = snapshot(heard(post(alice, run="r3")))
    assert [message for message in messages if message["role"] == "user"] == [user("one"), *unheard]


def test_a_run_that_failed_is_carried_on_when_the_page_says_so(
    model: CompletionsServer, alice: Person
):
    model.script(stream("data: {]\n\n"), answer("Hello"))
    assert kinds(heard(post(alice, user("hello"))))[-1] == "RUN_ERROR"

    again = heard(post(alice, run="r2", forwardedProps={"continue": True}))

    assert again[-1]["result"] == "Hello"
    assert said(model.requests[1]) == [("user", "hello")]
    assert words(snapshot(heard(post(alice, run="r2")))) == [
        ("user", "hello"),
        ("assistant", "Hello"),
    ]
    over = heard(post(alice, run="r3", forwardedProps={"continue": True}))
    assert kinds(over) == SHOWN


# Nothing new


SHOWN = ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [user("")],
        [{"id": "a", "role": "assistant", "content": "What can I do?"}],
        [result("red")],
    ],
)
def test_a_chat_that_has_not_begun_is_empty_and_does_not_begin(
    model: CompletionsServer, alice: Person, messages: list[dict]
):
    events = heard(post(alice, *messages))

    ids = {"threadId": "t", "runId": "r1"}
    its_id = events[0]["metadata"]["session_id"]
    assert events == [
        {
            "type": "RUN_STARTED",
            **ids,
            "protocolVersion": "1.0",
            "metadata": {"session_id": its_id},
        },
        {"type": "MESSAGES_SNAPSHOT", "messages": []},
        {"type": "RUN_FINISHED", **ids},
    ]
    assert Chat.select().count() == len(model.requests) == 0
    # It begins by that id.
    assert heard(post(alice, user("hello")))[0]["metadata"]["session_id"] == its_id


def test_a_page_that_was_loaded_again_is_shown_the_chat(model: CompletionsServer, alice: Person):
    heard(post(alice, user("hello"), run="r0"))
    heard(post(alice, user("And you?", "u2"), run="r1"))

    events = heard(post(alice, thread="t", run="r2"))

    assert kinds(events) == SHOWN
    assert events[-1] == {"type": "RUN_FINISHED", "threadId": "t", "runId": "r2"}
    assert words(snapshot(events)) == [
        ("user", "hello"),
        ("assistant", "Hello"),
        ("user", "And you?"),
        ("assistant", "Hello"),
    ]
    assert kinds(heard(post(alice, *snapshot(events), run="r3"))) == SHOWN
    assert len(model.requests) == Run.select().count() == 2


def test_a_page_that_was_loaded_in_the_middle_hears_the_rest(
    model: CompletionsServer, alice: Person
):
    model.script(stream(text("Hel"), HANG))
    first = Hearing(alice, user("hello"))
    written("Hel")

    loaded, held = Hearing(alice, run="r2"), Hearing(alice, user("hello"), run="r3")
    time.sleep(0.3)
    model.stopping.set()

    message_id = first.events[1]["messageId"]
    for events in (loaded.events, held.events):
        assert words(snapshot(events)) == [("user", "hello"), ("assistant", "Hel")]
        assert events[2] == {"type": "TEXT_MESSAGE_START", "messageId": message_id}
        assert events[-1] == first.events[-1]
        assert events[0]["metadata"] == first.events[0]["metadata"]
    assert len(model.requests) == 1


@pytest.mark.parametrize("version", ["1.0", None])
def test_who_comes_back_to_a_run_that_failed_is_shown_it_and_pays_for_nothing(
    model: CompletionsServer, alice: Person, version: str | None
):
    model.script(stream(text("Half"), "data: {]\n\n"))
    assert kinds(heard(post(alice, user("hello"))))[-1] == "RUN_ERROR"

    events = heard(post(alice, run="r2", version=version))

    assert kinds(events) == SHOWN
    assert events[-1] == {"type": "RUN_FINISHED", "threadId": "t", "runId": "r2"}
    assert words(snapshot(events)) == [("user", "hello"), ("assistant", "Half")]
    assert len(model.requests) == Run.select().count() == 1


def test_who_comes_back_learns_which_calls_wait_for_the_page(
    model: CompletionsServer, alice: Person
):
    model.script(PICK_CALL, answer("Red."))
    heard(post(alice, user("A colour?"), tools=[PICK]))

    current = heard(post(alice, run="r2"))
    old = heard(post(alice, run="r3", version=None))

    assert current[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["p1"]}
    assert "outcome" not in old[-1]
    heard(post(alice, *snapshot(current), result("red"), run="r4"))
    assert "outcome" not in heard(post(alice, run="r5"))[-1]


def test_a_page_keeps_its_own_instructions(alice: Person):
    own = {"id": "s", "role": "system", "content": "Be brief.", "name": None}
    parts = {"id": "d", "role": "developer", "content": [{"type": "text", "text": "No."}]}

    empty = snapshot(heard(post(alice, own, parts)))
    heard(post(alice, own, user("hello")))
    shown = snapshot(heard(post(alice, own, user("hello"))))

    kept = {"id": "s", "role": "system", "content": "Be brief."}
    assert empty == [kept]
    assert shown[:2] == [kept, user("hello")]


@pytest.mark.in_process("reads what the service asks of its database")
def test_of_the_chat_so_far_no_more_is_read_than_is_needed(
    settings: dict, model: CompletionsServer, app, alice: Person, monkeypatch
):
    """However much was said, and however much of it the client sends along: a run's words."""
    messages: list[dict] = []
    for number in range(4):
        words = user("x" * 7000, f"u{number}")
        events = heard(post(alice, *messages, words, run=f"r{number}"))
        messages += [words, {"id": events[1]["messageId"], "role": "assistant", "content": "Hello"}]
    database, read = app.extensions["db"], []
    execute = database.execute_sql

    def execute_and_count(sql, *arguments):
        cursor = execute(sql, *arguments)
        return Counted(cursor, read) if sql.startswith("SELECT") else cursor

    monkeypatch.setattr(history, "messages_of", lambda *_: [])
    monkeypatch.setattr(database, "execute_sql", execute_and_count)

    assert post(alice, *messages, user("now", "u9"), run="r9").status_code == 200

    assert sum(read) < 8000


class Counted:
    """A cursor that notes how many characters its rows have."""

    def __init__(self, cursor, read: list[int]) -> None:
        self._cursor, self._read = cursor, read

    def __getattr__(self, name: str):
        return getattr(self._cursor, name)

    def _noted(self, row):
        self._read += [len(value) for value in row or () if isinstance(value, str)]
        return row

    def fetchone(self):
        return self._noted(self._cursor.fetchone())

    def fetchall(self):
        return [self._noted(row) for row in self._cursor.fetchall()]

    def __iter__(self):
        return (self._noted(row) for row in self._cursor)


def test_what_is_known_is_found_among_many_ids(model: CompletionsServer, alice: Person):
    model.script(stream("data: {]\n\n"), answer("Hello"), answer("Bye"))
    odd = 'u"1\\u0000\x00, ['
    heard(post(alice, user("first", odd)))  # a client that has heard no answer sends it again
    more = [user("", f"e{number}") for number in range(30)]

    for run, beside in (("r2", []), ("r3", [user("r2", "r2"), *more])):
        heard(post(alice, user("first", odd), *beside, user(run, run), run=run))

    # Two messages in a row are one for the model.
    assert [content for role, content in said(model.requests[-1]) if role == "user"] == [
        "first\n\nr2",
        "r3",
    ]


# Once more


def test_the_same_ids_again_are_the_same_run(model: CompletionsServer, alice: Person):
    model.script(tool_answer("calculate", '{"expression": "1+1"}', "c1"), answer("Two."))
    first = heard(post(alice, user("1+1?")))

    again = heard(post(alice, user("something else")))

    assert len(model.requests) == 2
    assert kinds(again) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert (again[0], again[-1]) == (first[0], first[-1])
    function = {"name": "calculate", "arguments": '{"expression": "1+1"}'}
    called = {"id": "c1", "type": "function", "function": function}
    step, result_id, last = (
        first[1]["parentMessageId"],
        first[4]["messageId"],
        first[-2]["messageId"],
    )
    assert snapshot(again) == [
        user("1+1?"),
        {"id": step, "role": "assistant", "toolCalls": [called]},
        {"id": result_id, "role": "tool", "toolCallId": "c1", "content": "2"},
        {"id": last, "role": "assistant", "content": "Two."},
    ]


def test_many_who_ask_at_once_get_one_run(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hel"), Pause(0.2), text("lo"), finish(), DONE))

    answers = at_once(*[lambda: post(alice, user("hello"))] * 6)

    assert {heard(each)[-1]["result"] for each in answers} == {"Hello"}
    assert len(model.requests) == Run.select().count() == 1


def test_the_snapshot_has_the_whole_chat(model: CompletionsServer, alice: Person):
    chat = alice.chat("in the other dialect").json["session_id"]
    heard(post(alice, user("one"), thread=chat))
    heard(post(alice, user("two", "u2"), thread=chat, run="r2"))

    messages = snapshot(heard(post(alice, thread=chat, run="r1")))

    assert words(messages) == [
        ("user", "in the other dialect"),
        ("assistant", "Hello"),
        ("user", "one"),
        ("assistant", "Hello"),
        ("user", "two"),
        ("assistant", "Hello"),
    ]
    assert len({message["id"] for message in messages}) == 6
    assert UUID(messages[0]["id"])
    assert [messages[2]["id"], messages[4]["id"]] == ["u1", "u2"]


def test_the_snapshot_has_as_much_of_a_long_chat_as_fits(alice: Person, app):
    for number in range(30):
        events = heard(post(alice, user(f"{number}", f"u{number}"), run=f"r{number}"))
    chat = UUID(events[0]["metadata"]["session_id"])

    messages = snapshot(heard(post(alice, run="r0")))

    asked = [message["content"] for message in messages if message["role"] == "user"]
    assert asked == [f"{number}" for number in range(30)]
    with app.app_context():
        whole = records.journals(chat, 1_000_000)
        last = len(whole[-1][0].input) + sum(len(str(event)) for event in whole[-1][1])
        for size, fit in ((1, 1), (2 * last + 50, 2)):
            part = records.journals(chat, size)
            assert [run.id for run, _ in part] == [run.id for run, _ in whole[-fit:]]


def test_a_run_that_goes_on_is_told_from_where_it_is(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hel"), HANG))
    first = Hearing(alice, user("hello"))
    written("Hel")

    again = Hearing(alice, user("hello"))
    time.sleep(0.3)
    model.stopping.set()

    message_id = first.events[1]["messageId"]
    assert words(snapshot(again.events)) == [("user", "hello"), ("assistant", "Hel")]
    assert again.events[2:4] == [
        {"type": "TEXT_MESSAGE_START", "messageId": message_id},
        {"type": "TEXT_MESSAGE_END", "messageId": message_id},
    ]
    assert again.events[-1] == first.events[-1]


def test_an_open_thought_is_told_from_where_it_is(model: CompletionsServer, alice: Person):
    model.script(stream(chunk({"reasoning_content": "I need"}), HANG))
    first = Hearing(alice, user("hello"))
    written("I need")

    again = Hearing(alice, user("hello"))
    time.sleep(0.3)
    model.stopping.set()

    assert words(snapshot(again.events)) == [("user", "hello"), ("reasoning", "I need")]
    assert kinds(again.events) == [
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "RUN_ERROR",
    ]
    assert again.events[-1] == first.events[-1]


def test_an_open_call_is_told_from_its_start(model: CompletionsServer, alice: Person):
    model.script(stream(text("So: "), call(0, "c1", "calculate", '{"expres'), HANG))
    first = Hearing(alice, user("hello"))
    written("expres")

    again = Hearing(alice, user("hello"))
    time.sleep(0.3)
    model.stopping.set()

    assert snapshot(again.events)[1].keys() == {"content", "id", "role"}
    assert kinds(again.events) == [
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
        "TEXT_MESSAGE_START",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_END",
        "RUN_ERROR",
    ]
    assert again.events[4]["delta"] == '{"expres'
    assert again.events[-3:] == first.events[-3:]


def test_what_a_client_holds_beyond_the_text_it_keeps(alice: Person):
    parts = [{"type": "text", "text": "What is this?", "surprise": 1}]
    heard(post(alice, user(parts, name="Ada")))

    same = snapshot(heard(post(alice, user(parts, name="Ada", encryptedValue=None))))
    edited = snapshot(heard(post(alice, user([{"type": "text", "text": "Else?"}]))))
    absent = snapshot(heard(post(alice)))

    assert same[0] == user(parts, name="Ada")
    assert edited == absent
    assert absent[0] == user("What is this?")


# Tools of the front end


def test_a_front_ends_tool_is_called_and_answered(model: CompletionsServer, alice: Person):
    parameters = {"type": "object", "properties": {"from": {"type": "string"}}}
    model.script(PICK_CALL, answer("Red it is."))

    events = heard(post(alice, user("A colour?"), tools=[{**PICK, "parameters": parameters}]))

    assert kinds(events) == [
        "RUN_STARTED",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "RUN_FINISHED",
    ]
    assert events[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["p1"]}
    offered = [tool["function"] for tool in model.requests[0].body["tools"]]
    assert {**PICK, "parameters": parameters} in offered
    assert len(offered) == 4

    answered = heard(post(alice, user("A colour?"), result("red"), run="r2", tools=[PICK]))

    assert answered[-1]["result"] == "Red it is."
    assert [m["role"] for m in model.requests[1].body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert model.requests[1].body["messages"][3]["content"] == "red"
    assert snapshot(heard(post(alice, run="r2")))[2] == result("red")


def test_the_chats_messages_have_the_front_ends_answers(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL, answer("Red it is."))
    first = heard(post(alice, user("A colour?"), tools=[PICK]))
    where = f"/agent-chats/{first[0]['metadata']['session_id']}/messages"
    assert alice.get(where).json["messages"][1]["tool_calls"][0]["result"] is None
    heard(post(alice, user("A colour?"), result("red"), run="r2"))

    whole = alice.get(where).json["messages"]
    last = alice.get(f"{where}?limit=1").json
    first = alice.get(f"{where}?limit=1&cursor={last['next_cursor']}").json

    assert [m["role"] for m in whole] == ["user", "assistant", "assistant"]
    assert whole[1]["tool_calls"][0]["result"] == "red"
    assert [*first["messages"], *last["messages"]] == whole


def test_a_client_before_1_0_is_told_no_outcome(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL)

    ending = heard(post(alice, user("A colour?"), tools=[PICK], version=None))[-1]

    assert ending["type"] == "RUN_FINISHED"
    assert "outcome" not in ending


def test_the_servers_tools_run_beside_those_of_the_front_end(
    model: CompletionsServer, alice: Person
):
    both = [
        call(0, "p1", "pick", "{}"),
        call(1, "c1", "calculate", '{"expression": "1+1"}'),
        call(2, "p2", "pick", "{}"),
    ]
    model.script(stream(*both, finish("tool_calls"), DONE), answer("Done."))

    events = heard(post(alice, user("go"), tools=[PICK]))
    # Front ends put their results where they like: here, before one that is known.
    theirs = [result("red"), result("2", "c1", "known"), result("blue", "p2", "t2")]
    heard(post(alice, user("go"), *theirs, run="r2", tools=[PICK]))

    assert [e["content"] for e in events if e["type"] == "TOOL_CALL_RESULT"] == ["2"]
    assert events[-1]["outcome"]["pendingToolCallIds"] == ["p1", "p2"]
    told = [(m["tool_call_id"], m["content"]) for m in model.requests[1].body["messages"][3:]]
    assert told == [("p1", "red"), ("c1", "2"), ("p2", "blue")]


def test_a_call_that_nobody_answered_was_interrupted(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL, answer("Never mind."))
    heard(post(alice, user("A colour?"), tools=[PICK]))

    heard(post(alice, user("Let's talk.", "u2"), run="r2", tools=[PICK]))

    sent = model.requests[1].body["messages"]
    roles = ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [m["role"] for m in sent] == roles
    assert "interrupted" in sent[3]["content"]


def test_the_user_may_answer_and_say_more(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL, answer("Fine."))
    heard(post(alice, user("A colour?"), tools=[PICK]))

    heard(post(alice, user("A colour?"), result("red"), user("Quickly!", "u2"), run="r2"))

    sent = model.requests[1].body["messages"]
    assert [(m["role"], m.get("content")) for m in sent[3:]] == [
        ("tool", "red"),
        ("assistant", "(No answer was given.)"),
        ("user", "Quickly!"),
    ]


def test_an_answer_counts_once(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL, answer("Red."), answer("Still red."))
    heard(post(alice, user("A colour?"), tools=[PICK]))
    heard(post(alice, user("A colour?"), result("red"), run="r2"))

    late = [result("blue", its_id="t2"), user("And now?", "u2")]
    heard(post(alice, user("A colour?"), *late, run="r3"))

    sent = model.requests[2].body["messages"]
    assert [m["role"] for m in sent[1:]] == ["user", "assistant", "tool", "assistant", "user"]
    assert sent[3]["content"] == "red"
    assert kinds(heard(post(alice, user("A colour?"), result("blue"), run="r4"))) == SHOWN


def test_an_answer_may_be_an_error_or_in_parts(model: CompletionsServer, alice: Person):
    two = [call(0, "p1", "pick", "{}"), call(1, "p2", "pick", "{}")]
    model.script(stream(*two, finish("tool_calls"), DONE), answer("Fine."))
    heard(post(alice, user("go"), tools=[PICK]))

    failed = {**result("", its_id="t2", call_id="p2"), "error": "The user closed the window."}
    parts = result([{"type": "text", "text": "red"}])
    heard(post(alice, parts, failed, run="r2"))

    told = [m["content"] for m in model.requests[1].body["messages"] if m["role"] == "tool"]
    assert told == ["red", "The user closed the window."]


def test_a_long_answer_is_cut_like_any_tools(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL, answer("Fine."))
    heard(post(alice, user("go"), tools=[PICK]))
    heard(post(alice, result("x" * 20_001), run="r2"))

    told = model.requests[1].body["messages"][-1]["content"]

    assert told.endswith("[cut after 20000 of 20001 characters]")
    assert snapshot(heard(post(alice, result("x" * 20_001), run="r2")))[-2] == result("x" * 20_001)


def test_a_name_of_the_servers_is_the_servers_tool(model: CompletionsServer, alice: Person):
    model.script(tool_answer("calculate", '{"expression": "1+1"}'), answer("Two."))

    events = heard(post(alice, user("1+1?"), tools=[{**PICK, "name": "calculate"}]))

    assert [e["content"] for e in events if e["type"] == "TOOL_CALL_RESULT"] == ["2"]
    assert len(model.requests[0].body["tools"]) == 3
    assert "pick a colour" not in str(model.requests[0].body)


def test_no_other_route_offers_a_front_ends_tools(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL, answer("Hello"))
    chat = heard(post(alice, user("A colour?"), tools=[PICK]))[0]["metadata"]["session_id"]

    alice.chat("and now?", chat)

    assert "pick" not in str(model.requests[1].body["tools"])


# How a run ends


@pytest.mark.parametrize(
    ("version", "ending"),
    [
        ("1.0", {"type": "RUN_FINISHED", **IDS, "outcome": {"type": "cancelled"}}),
        (None, {"type": "RUN_ERROR", "message": "已按要求停止", "code": "stopped"}),
    ],
    ids=["1.0", "before 1.0"],
)
def test_a_stopped_run_was_cancelled(
    model: CompletionsServer, alice: Person, version: str | None, ending: dict
):
    model.script(stream(text("Hel"), HANG))
    first = Hearing(alice, user("hello"), version=version)
    written("Hel")

    run = Run.get()
    alice.post(f"/agent-chats/{run.chat_id}/runs/{run.id}/cancel")

    assert kinds(first.events)[:-1] == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
    ]
    again = heard(post(alice, version=version))
    assert first.events[-1] == again[-1] == ending
    assert words(snapshot(again)) == [("user", "hello"), ("assistant", "Hel")]


def test_a_failure_is_told_in_the_readers_language(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hel"), "data: {]\n\n"))

    chinese = heard(post(alice, user("hello")))[-1]
    alice.language = "en"
    english = heard(post(alice, user("hello")))[-1]

    assert chinese == {
        "type": "RUN_ERROR",
        "message": "模型返回了无法识别的内容",
        "code": "provider_protocol",
    }
    assert english == {**chinese, "message": "The model sent an answer that makes no sense."}


def test_the_other_dialect_has_the_same_run(model: CompletionsServer, alice: Person):
    model.script(PICK_CALL)
    names = heard(post(alice, user("A colour?"), tools=[PICK]))[0]["metadata"]
    path = f"/agent-chats/{names['session_id']}/runs/{names['run_id']}"

    state, events = alice.get(path), alice.get(f"{path}/events")

    assert (state.json["status"], state.json["input_tokens"]) == ("finished", 5)
    assert '"tool_name":"pick"' in events.text
    assert "usage" not in events.text
