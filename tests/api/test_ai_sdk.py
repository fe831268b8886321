"""/agent-chats/ai-sdk; the client itself has its tests in tests/test_ai_sdk_clients.py."""

import json
import time
from functools import reduce
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from runtime.agent.events import ErrorCode
from runtime.api.ai_sdk.translation import DONE as END
from runtime.api.ai_sdk.translation import Translation, answer_id
from runtime.models.chats import Chat, Run
from tests.agent.completions_server import (
    HANG,
    CompletionsServer,
    answer,
    stream,
    text,
    tool_answer,
)
from tests.api.test_agent_chats import in_background, said, wait_until
from tests.api.test_hostile import NOT_TEXT, UNTEXTLIKE
from tests.conftest import Clock, Person

PATH = "/agent-chats/ai-sdk"
PICK = {"name": "pick", "description": "Let the user pick a colour."}


def user(words: str, its_id: str = "u1", *more: dict) -> dict:
    return {"id": its_id, "role": "user", "parts": [{"type": "text", "text": words}, *more]}


def assistant(words: str, its_id: str = "a1") -> dict:
    return user(words, its_id) | {"role": "assistant"}


def post(person: Person, *messages: dict, chat: str = "c", **more: object) -> TestResponse:
    """What the client sends."""
    body = {"id": chat, "messages": list(messages), "trigger": "submit-message"}
    return person.post(PATH, body | more, headers={"User-Agent": "ai-sdk"})


def resume(person: Person, chat: str = "c") -> TestResponse:
    return person.get(f"{PATH}/{chat}/stream")


def shown(person: Person, chat: str = "c", query: str = "") -> dict:
    return person.get(f"{PATH}/{chat}/messages{query}").json


def heard(answer: TestResponse) -> list[dict]:
    """The chunks of a stream."""
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream"), answer.data
    assert answer.headers["X-Vercel-AI-UI-Message-Stream"] == "v1"
    text = answer.data.decode()
    assert text.endswith(END)
    frames = [frame for frame in text.removesuffix(END).split("\n\n")[:-1] if frame != ":"]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def kinds(chunks: list[dict]) -> list[str]:
    return [chunk["type"] for chunk in chunks]


def words(messages: list[dict]) -> list[tuple[str, str]]:
    def text(message: dict) -> str:
        return "".join(part.get("text", "") for part in message["parts"])

    return [(message["role"], text(message)) for message in messages]


def test_a_run_is_told_in_chunks_of_the_ai_sdk(model: CompletionsServer, alice: Person):
    model.script(tool_answer("calculate", '{"expression": "1+1"}', "c1"), answer("Two."))

    chunks = heard(post(alice, user("1+1?")))

    run = Run.get()
    names = {"session_id": str(run.chat_id), "run_id": str(run.id), "status": "running"}
    called, ours = {"toolCallId": "c1", "toolName": "calculate"}, {"providerExecuted": True}
    text_id = chunks[8]["id"]
    assert chunks == [
        {"type": "start", "messageId": answer_id(run.id), "messageMetadata": names},
        {"type": "start-step"},
        {"type": "tool-input-start", **called, **ours},
        {
            "type": "tool-input-delta",
            "toolCallId": "c1",
            "inputTextDelta": '{"expression": "1+1"}',
        },
        {"type": "tool-input-available", **called, "input": {"expression": "1+1"}, **ours},
        {"type": "tool-output-available", "toolCallId": "c1", "output": "2", **ours},
        {"type": "finish-step"},
        {"type": "start-step"},
        {"type": "text-start", "id": text_id},
        {"type": "text-delta", "id": text_id, "delta": "Two."},
        {"type": "text-end", "id": text_id},
        {"type": "finish-step"},
        {
            "type": "finish",
            "finishReason": "stop",
            "messageMetadata": {"status": "finished", "input_tokens": 12, "output_tokens": 5},
        },
    ]


def test_a_chat_goes_on_with_what_is_new(model: CompletionsServer, alice: Person):
    heard(post(alice, user("one")))
    heard(post(alice, user("a copy that was changed"), assistant("Hello"), user("two", "u2")))
    heard(post(alice, user("three", "u3")))

    asked = [content for role, content in said(model.requests[2]) if role == "user"]
    assert asked == ["one", "two", "three"]
    assert words(shown(alice)["messages"]) == [
        *[("user", "one"), ("assistant", "Hello")],
        *[("user", "two"), ("assistant", "Hello")],
        *[("user", "three"), ("assistant", "Hello")],
    ]


def test_a_users_messages_have_the_clients_ids(alice: Person):
    heard(post(alice, user("one", "my own id")))

    mine, answered = shown(alice)["messages"]
    assert mine == user("one", "my own id")
    assert answered["id"] == answer_id(Run.get().id)


def test_the_chat_is_the_one_of_the_other_routes(alice: Person):
    chat = alice.chat("What is 6 * 7?").json["session_id"]

    heard(post(alice, user("And 1 + 1?"), chat=chat.upper()))

    said = words(shown(alice, chat)["messages"])
    assert [role for role, _ in said] == ["user", "assistant"] * 2
    assert said[2] == ("user", "And 1 + 1?")
    assert Chat.select().count() == 1


def test_the_same_message_is_run_once(model: CompletionsServer, alice: Person):
    first = heard(post(alice, user("one")))
    again = heard(post(alice, user("one")))

    assert again == first
    assert len(model.requests) == Run.select().count() == 1


def test_messages_come_in_pages(alice: Person):
    for number in range(3):
        heard(post(alice, user(f"number {number}", f"u{number}")))

    newest = shown(alice, query="?limit=1")
    older = shown(alice, query=f"?limit=2&cursor={newest['next_cursor']}")
    assert [message["id"] for message in newest["messages"]][:1] == ["u2"]
    assert [message["id"] for message in older["messages"]][::2] == ["u0", "u1"]
    assert older["next_cursor"] is None


def test_what_another_client_answered_is_shown(model: CompletionsServer, alice: Person):
    model.script(tool_answer("pick", '{"from": "red"}', "p1"), answer("Red."))
    ids = {"threadId": "c", "protocolVersion": "1.0", "tools": [PICK]}
    asked = {"id": "u1", "role": "user", "content": "Which?"}
    alice.post("/agent-chats/ag-ui", {**ids, "runId": "1", "messages": [asked]})
    waiting = shown(alice)["messages"][1]["parts"][1]
    picked = {"id": "t1", "role": "tool", "toolCallId": "p1", "content": "red"}
    alice.post("/agent-chats/ag-ui", {**ids, "runId": "2", "messages": [asked, picked]})

    messages = shown(alice)["messages"]
    assert waiting["state"] == "input-available"
    assert messages[1]["parts"][1] == waiting | {"state": "output-available", "output": "red"}
    assert [message["role"] for message in messages] == ["user", "assistant", "assistant"]


# Once more

AGAIN = {"trigger": "regenerate-message"}


def test_a_message_is_answered_anew(model: CompletionsServer, alice: Person):
    model.script(answer("One"), answer("Two"), answer("Three"))
    first = heard(post(alice, user("hello")))
    heard(post(alice, user("hello"), **AGAIN, messageId=first[0]["messageId"]))
    assert words(shown(alice)["messages"]) == [("user", "hello"), ("assistant", "Two")]
    heard(post(alice, user("hello"), **AGAIN))

    assert words(shown(alice)["messages"]) == [("user", "hello"), ("assistant", "Three")]
    assert [said(request) for request in model.requests] == [[("user", "hello")]] * 3


def test_what_goes_on_is_answered_anew_too(model: CompletionsServer, alice: Person):
    model.script(stream(text("One "), HANG), answer("Two"))
    first = in_background(post, alice, user("hello"))
    wait_until(lambda: words(shown(alice)["messages"])[1:] == [("assistant", "One ")])
    heard(post(alice, user("hello"), **AGAIN))
    first.join()

    assert words(shown(alice)["messages"]) == [("user", "hello"), ("assistant", "Two")]


def test_an_earlier_message_is_edited(model: CompletionsServer, alice: Person):
    for number, words_of_it in enumerate(("one", "two", "three")):
        heard(post(alice, user(words_of_it, f"u{number}")))
    for edited in ("other", "two", "other"):
        model.script(answer(f"To {edited}"))
        heard(post(alice, user("one", "u0"), assistant("Hello"), user(edited, "u1")))
        assert words(shown(alice)["messages"])[2:] == [
            ("user", edited),
            ("assistant", f"To {edited}"),
        ]

    assert Run.select().count() == 6


# Going on


def test_what_goes_on_can_be_heard_from_its_start(model: CompletionsServer, alice: Person):
    model.script(stream(text("One "), text("and "), HANG))
    posted = in_background(post, alice, user("count"))
    wait_until(lambda: words(shown(alice)["messages"])[1:] == [("assistant", "One and ")])
    begun = shown(alice)["messages"][1]
    resumed: list[TestResponse] = []
    reading = in_background(lambda: resumed.append(resume(alice)))
    time.sleep(0.1)  # it reads, or will soon
    alice.post("/agent-chats/c/cancel")
    posted.join()
    reading.join()

    chunks = heard(resumed[0])
    assert begun["metadata"]["status"] == "running"
    assert begun["parts"][1] == {"type": "text", "text": "One and ", "state": "streaming"}
    assert "".join(chunk.get("delta", "") for chunk in chunks) == "One and "
    assert kinds(chunks)[-3:] == ["finish-step", "message-metadata", "abort"]
    assert shown(alice)["messages"][1]["metadata"]["status"] == "stopped"


def test_what_has_just_ended_is_told_once_more(alice: Person, clock: Clock):
    whole = heard(post(alice, user("hello")))
    clock.advance(seconds=10)
    again = heard(resume(alice))
    clock.advance(seconds=10)

    assert again == whole
    assert resume(alice).status_code == 204


def test_a_new_message_takes_the_place_of_what_goes_on(model: CompletionsServer, alice: Person):
    model.script(stream(text("One "), HANG), answer("Hello"))
    first = in_background(post, alice, user("count"))
    wait_until(lambda: words(shown(alice)["messages"])[1:] == [("assistant", "One ")])

    assert kinds(heard(post(alice, user("hello", "u2"))))[-1] == "finish"
    first.join()
    assert [m.get("metadata", {}).get("status") for m in shown(alice)["messages"]] == [
        *[None, "stopped"],
        *[None, "finished"],
    ]


def test_a_chat_that_has_not_begun_is_empty(alice: Person):
    assert shown(alice) == {"messages": [], "next_cursor": None}
    assert resume(alice).status_code == 204


# What is refused


def test_charlie_sees_nothing(model: CompletionsServer, alice: Person, charlie: Person):
    chat = alice.chat("a secret").json["session_id"]
    model.script(stream(text("One "), HANG))
    asking = in_background(lambda: post(alice, user("count"), chat=chat))
    wait_until(lambda: len(shown(alice, chat)["messages"]) == 4)

    assert post(charlie, user("show me"), chat=chat).status_code == 404
    assert resume(charlie, chat).status_code == 204
    assert shown(charlie, chat) == {"messages": [], "next_cursor": None}
    assert shown(alice, chat)["messages"][-1]["metadata"]["status"] == "running"
    alice.post(f"/agent-chats/{chat}/cancel")
    asking.join()


def test_it_is_for_who_is_signed_in(stranger: Person):
    assert post(stranger, user("hello")).status_code == 401
    assert resume(stranger).status_code == 401
    assert stranger.get(f"{PATH}/c/messages").status_code == 401


def test_a_part_that_cannot_be_passed_on_is_refused_and_named(alice: Person):
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}

    refused = post(alice, user("Look:"), user("What is this?", "u2", image))

    assert refused.status_code == 422
    assert refused.json["errors"] == [
        {
            "pointer": "#/messages/1/parts/1",
            "code": "only_text",
            "detail": "目前只能发送文字，图片、文件等内容无法转交给模型",
        }
    ]


@pytest.mark.parametrize("more", [{"messages": []}, {"messages": [assistant("Hello")]}])
def test_without_a_new_message_there_is_no_run(alice: Person, more: dict):
    refused = post(alice, user("hello"), **more)

    assert (refused.status_code, refused.json["code"]) == (422, "nothing_new")
    assert not Run.select().exists()


@pytest.mark.parametrize(
    "place",
    ["id", "messages", "messages/0", "messages/0/id", "messages/0/role", "messages/0/parts/0"],
)
def test_no_value_is_too_odd(alice: Person, place: str):
    odd_ones = [*NOT_TEXT, *UNTEXTLIKE, None, "", "a\x00b", "x" * 100_000]
    assert odd_ones
    for odd in odd_ones:
        body = {"id": str(uuid4()), "messages": [user("hello")], "trigger": "submit-message"}
        *steps, last = [int(step) if step.isdigit() else step for step in place.split("/")]
        reduce(lambda value, step: value[step], steps, body)[last] = odd

        answer = alice.post(PATH, body)

        assert answer.status_code in (200, 422), odd
        assert answer.status_code == 422 or kinds(heard(answer))[-1] == "finish"


def test_more_than_the_protocol_says_is_left_alone(model: CompletionsServer, alice: Person):
    odd = {**user("hello"), "metadata": {"a": [1]}, "toolCallId": ["x"], "content": 5, "error": []}

    assert kinds(heard(post(alice, odd, messageId=None, surprise={"a": 1})))[-1] == "finish"
    assert said(model.requests[0]) == [("user", "hello")]


# The translation


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", {}),
        ('{"a": [1, null]}', {"a": [1, None]}),
        *[(odd, odd) for odd in ("{", "5", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}')],
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", '{"a": ' + "[" * 5000 + "]" * 5000 + "}"),
    ],
    ids=range(8),
)
def test_what_a_tool_is_given_is_told_as_a_value_if_it_is_one(
    model: CompletionsServer, alice: Person, given: str, told: object
):
    model.script(tool_answer("calculate", given, "c1"), answer("Two."))
    chunks = heard(post(alice, user("1+1?")))

    (available,) = [chunk for chunk in chunks if chunk["type"] == "tool-input-available"]
    assert available["input"] == told
    assert shown(alice)["messages"][1]["parts"][1]["input"] == told


def test_what_a_process_left_open_when_it_died_is_closed():
    run = Run(id=uuid4(), chat_id=uuid4(), message="?")
    call = {"tool_call_id": "c1", "tool_name": "calculate", "message_id": "m"}
    events = [
        {"type": "RUN_STARTED"},
        {"type": "TEXT_MESSAGE_CONTENT", "message_id": "m", "delta": "See"},
        {"type": "TOOL_CALL_START", **call},
        {"type": "RUN_ERROR", "error": ErrorCode.INTERRUPTED.value},
    ]
    this = Translation(run, "en")

    told = [chunk for event in events for chunk in this.chunks(event)]

    assert kinds(told[4:]) == [
        *["tool-input-start", "text-end", "tool-output-error"],
        *["finish-step", "message-metadata", "error"],
    ]
    assert told[-1]["errorText"] == told[6]["errorText"] == told[-2]["messageMetadata"]["error"]
