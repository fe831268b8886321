"""AG-UI's events of one run. `to_dict()` is the wire form: snake_case, absent fields left out.

The text and the tool calls of one step of the model share its `message_id`; a TOOL_CALL_RESULT
has none, because it is found by its `tool_call_id`.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from itertools import count, groupby
from typing import Any, ClassVar

from runtime.agent.messages import Usage


class ErrorCode(StrEnum):
    """Every way a run can fail. A code is for programs; `SENTENCES` has the words."""

    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_BUSY = "provider_busy"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_INTERRUPTED = "provider_interrupted"
    PROVIDER_PROTOCOL = "provider_protocol"
    PROVIDER_REJECTED = "provider_rejected"
    PROVIDER_MISCONFIGURED = "provider_misconfigured"
    REQUEST_FILTERED = "request_filtered"
    NO_ANSWER = "no_answer"
    ANSWER_FILTERED = "answer_filtered"
    ANSWER_UNFINISHED = "answer_unfinished"
    CONVERSATION_TOO_LONG = "conversation_too_long"
    ANSWER_TOO_LONG = "answer_too_long"
    THOUGHT_TOO_LONG = "thought_too_long"
    TOO_MANY_STEPS = "too_many_steps"
    OUT_OF_TIME = "out_of_time"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    OUT_OF_TOKENS = "out_of_tokens"
    INTERNAL = "internal"


SENTENCES: dict[ErrorCode, str] = {
    ErrorCode.PROVIDER_UNAVAILABLE: "The model cannot be reached at the moment.",
    ErrorCode.PROVIDER_BUSY: "The model has too many requests at the moment.",
    ErrorCode.PROVIDER_TIMEOUT: "The model has been silent for too long.",
    ErrorCode.PROVIDER_INTERRUPTED: "The model's answer broke off.",
    ErrorCode.PROVIDER_PROTOCOL: "The model sent an answer that makes no sense.",
    ErrorCode.PROVIDER_REJECTED: "The model refused the request.",
    ErrorCode.PROVIDER_MISCONFIGURED: "The model's server does not take what is configured.",
    ErrorCode.REQUEST_FILTERED: "The model's server refuses what was said.",
    ErrorCode.NO_ANSWER: "The model gave no answer.",
    ErrorCode.ANSWER_FILTERED: "The model's filter withheld the rest of the answer.",
    ErrorCode.ANSWER_UNFINISHED: "The model ended before its answer was whole.",
    ErrorCode.CONVERSATION_TOO_LONG: "The conversation has become too long for the model.",
    ErrorCode.THOUGHT_TOO_LONG: "The model spent on thinking all that it may write.",
    ErrorCode.ANSWER_TOO_LONG: "The answer became too long.",
    ErrorCode.TOO_MANY_STEPS: "The run took too many steps.",
    ErrorCode.OUT_OF_TIME: "The run took too long.",
    ErrorCode.INTERRUPTED: "The run was interrupted.",
    ErrorCode.STOPPED: "Stopped, as was asked for.",
    ErrorCode.OUT_OF_TOKENS: "Today's allowance is used up.",
    ErrorCode.INTERNAL: "Something went wrong on our side.",
}


@dataclass(frozen=True)
class Event:
    """What all events have."""

    type: ClassVar[str]
    run_id: str

    def to_dict(self) -> dict[str, Any]:
        """The event as it goes over the wire and into a journal: its type first, never a null."""
        values = [(name, getattr(self, name)) for name in _wire_fields(type(self))]
        return {
            "type": self.type,
            **{name: value for name, value in values if value is not None},
        }


@cache
def _wire_fields(kind: type[Event]) -> list[str]:
    return [each.name for each in fields(kind) if each.metadata.get("wire", True)]


@dataclass(frozen=True)
class RunStarted(Event):
    type = "RUN_STARTED"


@dataclass(frozen=True)
class TextMessageStart(Event):
    type = "TEXT_MESSAGE_START"
    message_id: str


@dataclass(frozen=True)
class TextMessageContent(Event):
    type = "TEXT_MESSAGE_CONTENT"
    message_id: str
    delta: str


@dataclass(frozen=True)
class TextMessageEnd(Event):
    """`vendor` stays with us: what the server sent of its own with the step, see `Vendor`.

    It has the step's `origin`, and its members as `message`; a call's end has those of the `call`.
    The first end of a step has the step's.
    """

    type = "TEXT_MESSAGE_END"
    message_id: str
    vendor: dict[str, Any] | None = field(default=None, metadata={"wire": False})


@dataclass(frozen=True)
class ReasoningStart(Event):
    """The model begins to think. Its thoughts are one message, which has a `message_id` too."""

    type = "REASONING_START"
    message_id: str


@dataclass(frozen=True)
class ReasoningMessageStart(Event):
    type = "REASONING_MESSAGE_START"
    message_id: str


@dataclass(frozen=True)
class ReasoningMessageContent(Event):
    type = "REASONING_MESSAGE_CONTENT"
    message_id: str
    delta: str


@dataclass(frozen=True)
class ReasoningMessageEnd(Event):
    type = "REASONING_MESSAGE_END"
    message_id: str


@dataclass(frozen=True)
class ReasoningEnd(Event):
    type = "REASONING_END"
    message_id: str


@dataclass(frozen=True)
class ToolCallStart(Event):
    """`message_id` names the step, which is also the id of its text, if it has any."""

    type = "TOOL_CALL_START"
    tool_call_id: str
    tool_name: str
    message_id: str


@dataclass(frozen=True)
class ToolCallArgs(Event):
    type = "TOOL_CALL_ARGS"
    tool_call_id: str
    delta: str


@dataclass(frozen=True)
class ToolCallEnd(Event):
    """See TextMessageEnd about `vendor`."""

    type = "TOOL_CALL_END"
    tool_call_id: str
    vendor: dict[str, Any] | None = field(default=None, metadata={"wire": False})


@dataclass(frozen=True)
class ToolCallResult(Event):
    """`is_error` stays with us; on the wire the result's text says it."""

    type = "TOOL_CALL_RESULT"
    tool_call_id: str
    tool_name: str
    result: str
    is_error: bool = field(default=False, metadata={"wire": False})


@dataclass(frozen=True)
class RunFinished(Event):
    """`output` is the final answer: the deltas of its message joined."""

    type = "RUN_FINISHED"
    output: str
    usage: Usage = field(default=Usage(), metadata={"wire": False})


@dataclass(frozen=True)
class RunError(Event):
    """`output` is the text of the last message as far as it came, None when there was none."""

    type = "RUN_ERROR"
    code: ErrorCode = field(metadata={"wire": False})
    output: str | None = None
    usage: Usage = field(default=Usage(), metadata={"wire": False})

    @property
    def error(self) -> str:
        """The English sentence for the code; who knows languages translates by `code`."""
        return SENTENCES[self.code]

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "error": self.error}


def compact(events: Iterable[Event]) -> list[Event]:
    """The events with consecutive deltas of one message or one tool call joined into one."""
    alone = count()

    def owner(event: Event) -> Hashable:
        if isinstance(event, TextMessageContent | ReasoningMessageContent):
            return event.type, event.message_id
        if isinstance(event, ToolCallArgs):
            return event.type, event.tool_call_id
        return next(alone)

    groups = (list(group) for _, group in groupby(events, owner))
    return [_joined(group) if len(group) > 1 else group[0] for group in groups]


def _joined(deltas: list[Event]) -> Event:
    return replace(deltas[0], delta="".join(event.delta for event in deltas))
