"""Runs as AG-UI has them, cut at every place, put together as a client does it."""

import json
from uuid import uuid4

import pytest

from runtime.agent.events import (
    ErrorCode,
    Event,
    ReasoningEnd,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    ReasoningMessageStart,
    ReasoningStart,
    RunError,
    RunFinished,
    RunStarted,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallResult,
    ToolCallStart,
)
from runtime.api.ag_ui.translation import Translation
from runtime.models.chats import InputMessage, Run
from runtime.services.chats.entries import Entry

RUN = Run.on([InputMessage("u1", "hello")], uuid4(), uuid4())
ASKED = [{"id": "u1", "role": "user", "content": "hello"}]

# A thought, two calls that come in pieces, the first before the step's text, and a second step.
WHOLE = [
    RunStarted("r"),
    ReasoningStart("r", "h"),
    ReasoningMessageStart("r", "h"),
    ReasoningMessageContent("r", "h", "Hm, "),
    ReasoningMessageContent("r", "h", "so."),
    ReasoningMessageEnd("r", "h"),
    ReasoningEnd("r", "h"),
    ToolCallStart("r", "c1", "one", "m"),
    ToolCallArgs("r", "c1", "{"),
    TextMessageStart("r", "m"),
    TextMessageContent("r", "m", "Let me "),
    ToolCallStart("r", "c2", "two", "m"),
    ToolCallArgs("r", "c2", "{}"),
    ToolCallArgs("r", "c1", "}"),
    TextMessageContent("r", "m", "see."),
    TextMessageEnd("r", "m"),
    ToolCallEnd("r", "c1"),
    ToolCallEnd("r", "c2"),
    ToolCallResult("r", "c1", "one", "1"),
    ToolCallResult("r", "c2", "two", "2"),
    TextMessageStart("r", "n"),
    TextMessageContent("r", "n", "Done."),
    TextMessageEnd("r", "n"),
    ReasoningStart("r", "i"),
    ReasoningMessageStart("r", "i"),
    ReasoningMessageContent("r", "i", "Was it?"),
    ReasoningMessageEnd("r", "i"),
    ReasoningEnd("r", "i"),
    RunFinished("r", "Done."),
]
DIED = RunError("r", ErrorCode.INTERRUPTED)


def entries(events: list[Event]) -> list[Entry]:
    wires = [event.to_dict() for event in events]
    for wire, event in zip(wires, events, strict=True):
        if isinstance(event, RunError):
            wire["error"] = event.code.value
    return [Entry(number, wire["type"], json.dumps(wire)) for number, wire in enumerate(wires, 1)]


def translation(declares_1_0: bool = True) -> Translation:
    return Translation(RUN, "t", "r", declares_1_0=declares_1_0, language="en")


def sent(text: str) -> list[dict]:
    return [json.loads(frame.removeprefix("data: ")) for frame in text.split("\n\n")[:-1]]


class Client:
    """What a front end holds: as the oldest of AG-UI's clients does it, and as strict."""

    def __init__(self) -> None:
        self.messages = list(ASKED)
        self.open: set[str] = set()

    def hear(self, text: str) -> "Client":
        for event in sent(text):
            getattr(self, event.pop("type").lower())(**event)
        return self

    def run_started(self, **_: object) -> None:
        self.open.clear()

    def messages_snapshot(self, messages: list[dict]) -> None:
        self.messages = messages

    def text_message_start(self, messageId: str) -> None:
        self._begin(messageId)
        if not any(message["id"] == messageId for message in self.messages):
            self.messages.append({"id": messageId, "role": "assistant", "content": ""})

    def text_message_content(self, messageId: str, delta: str) -> None:
        assert messageId in self.open and delta
        [message] = [each for each in self.messages if each["id"] == messageId]
        message["content"] = message.get("content", "") + delta

    def text_message_end(self, messageId: str) -> None:
        self.open.remove(messageId)

    def reasoning_start(self, messageId: str) -> None:
        self._begin(f"span {messageId}")

    def reasoning_message_start(self, messageId: str, role: str) -> None:
        assert role == "reasoning"
        assert f"span {messageId}" in self.open
        self._begin(messageId)
        if not any(message["id"] == messageId for message in self.messages):
            self.messages.append({"id": messageId, "role": "reasoning", "content": ""})

    reasoning_message_content = text_message_content
    reasoning_message_end = text_message_end

    def reasoning_end(self, messageId: str) -> None:
        assert messageId not in self.open
        self.open.remove(f"span {messageId}")

    def tool_call_start(self, toolCallId: str, toolCallName: str, parentMessageId: str) -> None:
        self._begin(toolCallId)
        if self.messages[-1]["id"] != parentMessageId:
            self.messages.append({"id": parentMessageId, "role": "assistant"})
        function = {"name": toolCallName, "arguments": ""}
        call = {"id": toolCallId, "type": "function", "function": function}
        self.messages[-1].setdefault("toolCalls", []).append(call)

    def tool_call_args(self, toolCallId: str, delta: str) -> None:
        assert toolCallId in self.open
        calls = [call for message in self.messages for call in message.get("toolCalls", ())]
        [function] = [call["function"] for call in calls if call["id"] == toolCallId]
        function["arguments"] += delta

    def tool_call_end(self, toolCallId: str) -> None:
        self.open.remove(toolCallId)

    def tool_call_result(self, messageId: str, **fields: str) -> None:
        self.messages.append({"id": messageId, **fields})

    def run_finished(self, **_: object) -> None:
        assert not self.open

    def run_error(self, **_: object) -> None:
        self.open.clear()

    def _begin(self, its_id: str) -> None:
        assert its_id not in self.open
        self.open.add(its_id)


def heard(events: list[Event]) -> Client:
    """What a client holds that heard a run from its beginning."""
    this = translation()
    return Client().hear(this.begin() + "".join(map(this.frame, entries(events))))


@pytest.mark.parametrize("first", range(len(WHOLE) + 1))
def test_a_client_cut_anywhere_comes_to_hold_the_same(first: int):
    whole = heard(WHOLE).messages
    for settled in range(first, len(WHOLE) + 1):
        client = heard(WHOLE[:first])
        this = translation()
        before, rest = entries(WHOLE)[:settled], entries(WHOLE)[settled:]

        client.hear(this.resume(before, [(RUN, [])], {}) + "".join(map(this.frame, rest)))

        assert client.messages == whole


@pytest.mark.parametrize("last", range(1, len(WHOLE)))
def test_a_run_that_died_anywhere_leaves_the_same_whenever_it_is_heard(last: int):
    died = [*WHOLE[:last], DIED]
    again = translation().resume(entries(died), [(RUN, [])], {})

    assert Client().hear(again).messages == heard(died).messages


def test_what_a_deleted_run_left_open_is_ended_before_it_is_cancelled():
    stopped = [*WHOLE[:12], RunError("r", ErrorCode.STOPPED)]

    assert not heard(stopped).open
    this = translation(declares_1_0=False)
    old = sent("".join(map(this.frame, entries(stopped))))
    assert [event["type"] for event in old][-2:] == ["TOOL_CALL_START", "RUN_ERROR"]


@pytest.mark.parametrize("last", range(1, 7))
def test_a_thought_that_a_deleted_run_left_open_is_ended_in_order(last: int):
    stopped = [*WHOLE[:last], RunError("r", ErrorCode.STOPPED)]

    assert not heard(stopped).open


def test_what_is_said_again_of_a_run_that_has_ended_is_its_end():
    stopped = [*WHOLE[:12], RunError("r", ErrorCode.STOPPED)]

    again = sent(translation().resume(entries(stopped), [(RUN, [])], {}))

    assert [event["type"] for event in again] == [
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
        "RUN_FINISHED",
    ]
