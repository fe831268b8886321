"""AG-UI's events of one run. `to_dict()` is the wire form: snake_case, absent fields left out.

The text and the tool calls of one step of the model share its `message_id`; a TOOL_CALL_RESULT
has none, because it is found by its `tool_call_id`. The order of events is made in `loop` and
`step`; tests/agent/order.py checks it.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from runtime.agent.messages import Usage


class ErrorCode(StrEnum):
    """Every way a run can fail: a code for programs, and its English `sentence` for the log."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> "ErrorCode":
        made = str.__new__(cls, code)
        made._value_, made.sentence = code, sentence
        return made

    PROVIDER_UNAVAILABLE = "provider_unavailable", "The model cannot be reached at the moment."
    PROVIDER_BUSY = "provider_busy", "The model has too many requests at the moment."
    PROVIDER_TIMEOUT = "provider_timeout", "The model has been silent for too long."
    PROVIDER_INTERRUPTED = "provider_interrupted", "The model's answer broke off."
    PROVIDER_PROTOCOL = "provider_protocol", "The model sent an answer that makes no sense."
    PROVIDER_REJECTED = "provider_rejected", "The model refused the request."
    PROVIDER_MISCONFIGURED = (
        "provider_misconfigured",
        "The model's server does not take what is configured.",
    )
    REQUEST_FILTERED = "request_filtered", "The model's server refuses what was said."
    NO_ANSWER = "no_answer", "The model gave no answer."
    ANSWER_FILTERED = "answer_filtered", "The model's filter withheld the rest of the answer."
    ANSWER_UNFINISHED = "answer_unfinished", "The model ended before its answer was whole."
    CONVERSATION_TOO_LONG = (
        "conversation_too_long",
        "The conversation has become too long for the model.",
    )
    ANSWER_TOO_LONG = "answer_too_long", "The answer became too long."
    THOUGHT_TOO_LONG = "thought_too_long", "The model spent on thinking all that it may write."
    TOO_MANY_STEPS = "too_many_steps", "The run took too many steps."
    OUT_OF_TIME = "out_of_time", "The run took too long."
    INTERRUPTED = "interrupted", "The run was interrupted."
    STOPPED = "stopped", "Stopped, as was asked for."
    OUT_OF_TOKENS = "out_of_tokens", "Today's allowance is used up."
    INTERNAL = "internal", "Something went wrong on our side."


class Delta:
    """What may be a piece of something: those with one `owner` are, by the member that `grows`.

    The owner is named by the member `owned_by`; None stands alone.
    """

    grows: ClassVar[str] = ""
    owned_by: ClassVar[str] = ""

    @property
    def owner(self) -> Hashable | None:
        return (self.type, getattr(self, self.owned_by)) if self.owned_by else None


@dataclass(frozen=True)
class Event(Delta):
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
    grows, owned_by = "delta", "message_id"
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
    grows, owned_by = "delta", "message_id"
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
    grows, owned_by = "delta", "tool_call_id"
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
        return self.code.sentence

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "error": self.error}


D = TypeVar("D", bound="Delta")


def compact(deltas: Iterable[D]) -> list[D]:
    """The events, or the chunks, with what follows each other of one owner joined into one."""
    made: list[D] = []
    for owner, group in groupby(deltas, attrgetter("owner")):
        first, *rest = group
        if owner is None or not rest:
            made += [first, *rest]
        else:
            texts = (getattr(each, first.grows) for each in (first, *rest))
            made.append(replace(first, **{first.grows: "".join(texts)}))
    return made
