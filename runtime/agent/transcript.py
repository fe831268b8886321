"""A run's events, folded back into what was said, thought and called in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.agent.messages import Message, ToolCall, ToolResult, Vendor

INTERRUPTED_RESULT = "Error: the run was interrupted before this call gave a result."


@dataclass
class Call:
    """A tool call as far as it came; `result` is None until there is one."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list)
    result: str | None = None
    vendor: Vendor | None = None

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def message(self) -> Message:
        """The message that tells the model its result."""
        result = INTERRUPTED_RESULT if self.result is None else self.result
        return Message.from_result(ToolResult(self.id, self.name, result))


@dataclass
class Thought:
    """What the model thought at one time, which is no part of what it said."""

    id: str
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class Step:
    """One answer of the model as far as it came: its text, and the tools it called."""

    message_id: str
    pieces: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    thoughts: list[Thought] = field(default_factory=list)
    afterthoughts: list[Thought] = field(default_factory=list)
    vendor: Vendor | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def reasoning(self) -> str | None:
        """What the model thought, if that is known."""
        return "\n\n".join(each.text for each in self.thoughts + self.afterthoughts) or None

    def take(self, end: Mapping[str, Any]) -> None:
        """Take what the end of the text, or of a call, says that the server sent of its own."""
        vendor = end.get("vendor") or {}
        if "message" in vendor:
            self.vendor = Vendor(vendor["origin"], vendor["message"])
        if "call" in vendor:
            call = next(call for call in self.calls if call.id == end["tool_call_id"])
            call.vendor = Vendor(vendor["origin"], vendor["call"])

    def messages(self) -> list[Message]:
        calls = tuple(
            ToolCall(call.id, call.name, call.arguments, call.vendor) for call in self.calls
        )
        answer = Message("assistant", self.text, calls, vendor=self.vendor)
        return [answer, *(call.message() for call in self.calls)]


def steps_of(
    events: Iterable[Mapping[str, Any]], results: Mapping[str, str] | None = None
) -> list[Step]:
    """Fold one run's events, in their wire form, into the steps that they tell of.

    The text and the tool calls that share a `message_id` are one step. `results` has, by the
    call's id, those that were given after the run's end. An event may have a `vendor` beside its
    wire form: see `Event`.
    """
    steps: dict[str, Step] = {}
    calls: dict[str, Call] = {}
    step_of: dict[str, str] = {}
    thoughts: dict[str, Thought] = {}

    def step_with(message_id: str) -> Step:
        step = steps.setdefault(message_id, Step(message_id))
        step.thoughts += thoughts.values()
        thoughts.clear()
        return step

    for event in events:
        match event["type"]:
            case "REASONING_MESSAGE_CONTENT":
                thought = thoughts.setdefault(event["message_id"], Thought(event["message_id"]))
                thought.pieces.append(event["delta"])
            case "TEXT_MESSAGE_CONTENT":
                step_with(event["message_id"]).pieces.append(event["delta"])
            case "TOOL_CALL_START":
                call = Call(event["tool_call_id"], event["tool_name"])
                calls[call.id], step_of[call.id] = call, event["message_id"]
                step_with(event["message_id"]).calls.append(call)
            case "TOOL_CALL_ARGS":
                calls[event["tool_call_id"]].pieces.append(event["delta"])
            case "TEXT_MESSAGE_END" | "TOOL_CALL_END" if event.get("vendor"):
                ended = event.get("message_id") or step_of[event["tool_call_id"]]
                steps[ended].take(event)
            case "TOOL_CALL_RESULT":
                calls[event["tool_call_id"]].result = event["result"]
    if thoughts and steps:
        next(reversed(steps.values())).afterthoughts += thoughts.values()
    elif thoughts:  # that nothing came of
        step_with(next(iter(thoughts)))
    for call_id in calls.keys() & (results or {}).keys():
        calls[call_id].result = results[call_id]
    return list(steps.values())


def from_events(
    events: Iterable[Mapping[str, Any]], results: Mapping[str, str] | None = None
) -> list[Message]:
    """The messages that a later run needs of one run's events.

    Each step becomes one assistant message, followed by the result of each call. A run that
    failed half-way or never ended keeps its partial text, and its open calls get a result that
    says so, unless it is among the `results`, as in `steps_of`.
    """
    steps = [step for step in steps_of(events, results) if step.pieces or step.calls]
    return [message for step in steps for message in step.messages()]


def unanswered(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the calls that a run, whose events these are, has left to others to answer."""
    if not events or events[-1]["type"] != "RUN_FINISHED":
        return []
    calls = [call for step in steps_of(events) for call in step.calls]
    return [call.id for call in calls if call.result is None]
