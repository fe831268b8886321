"""What a provider reads: messages, tool calls and their results, and the usage it reports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]

INTERRUPTED_RESULT = "Error: the run was interrupted before this call gave a result."


@dataclass(frozen=True)
class Vendor:
    """What a server sent of its own with a message or a call, to be sent back to it and no other.

    `origin` names the server, its model and the dialect. `members` are as they came; those of a
    call have its own `id` where ours is another.
    """

    origin: str
    members: Mapping[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A model's wish to have a tool run; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    vendor: Vendor | None = None


@dataclass(frozen=True)
class ToolResult:
    """What a tool call gave. An error is a result too: the model reads it and goes on."""

    tool_call_id: str
    tool_name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True)
class Message:
    """One message of a conversation; `tool_call_id` and `tool_name` belong to the role `tool`."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    vendor: Vendor | None = None

    @classmethod
    def from_result(cls, result: ToolResult) -> "Message":
        """The message that tells the model a call's result."""
        return cls(
            "tool",
            result.content,
            tool_call_id=result.tool_call_id,
            tool_name=result.tool_name,
        )

    @property
    def chars(self) -> int:
        """How much of a history's room the message takes."""
        calls = sum(
            len(call.name) + len(call.arguments) + _vendor_chars(call) for call in self.tool_calls
        )
        return len(self.content) + calls + _vendor_chars(self)


def _vendor_chars(owner: ToolCall | Message) -> int:
    return len(str(owner.vendor.members)) if owner.vendor else 0


@dataclass(frozen=True)
class Usage:
    """Tokens as a provider counts them; None is unknown, which is not the same as 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            _add(self.input_tokens, other.input_tokens),
            _add(self.output_tokens, other.output_tokens),
        )


def _add(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other


def cut_history(messages: Sequence[Message], max_chars: int) -> list[Message]:
    """The end of a conversation, as far as it fits in `max_chars`; no result without its call.

    System messages at the beginning stay, and count. So do, whatever their size, the last thing
    the user said and the last step behind it; then the newest of what was before. It is cut between
    two turns, or in the middle of one: that keeps what the user said, and its newest steps.
    """
    system, turns = _turns(messages)
    left = max_chars - _chars(system)
    kept: list[list[Message]] = []
    for turn in reversed(turns):
        kept.append(_cut_turn(turn, left, is_last=turn is turns[-1]))
        # Behind the first one that is cut nothing fits any more.
        left -= _chars(turn)
    return [*system, *(message for turn in reversed(kept) for message in turn)]


def _cut_turn(turn: list[Message], max_chars: int, is_last: bool) -> list[Message]:
    """What the user said and the newest steps behind it that fit, or nothing if none does."""
    begins = 1 if turn[0].role == "user" else 0
    said, steps = turn[:begins], _steps(turn[begins:])
    left = max_chars - _chars(said)
    kept: list[list[Message]] = []
    for step in reversed(steps):
        left -= _chars(step)
        if left < 0 and (kept or not is_last):
            break
        kept.append(step)
    is_worth_it = is_last or kept or (left >= 0 and not steps)
    return [*said, *(message for step in reversed(kept) for message in step)] if is_worth_it else []


def _steps(messages: Sequence[Message]) -> list[list[Message]]:
    """Each message with the results that follow it."""
    steps: list[list[Message]] = []
    for message in messages:
        if message.role == "tool" and steps:
            steps[-1].append(message)
        else:
            steps.append([message])
    return steps


def _chars(messages: Iterable[Message]) -> int:
    return sum(message.chars for message in messages)


def _turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system messages at the beginning, and the rest in turns: each begins with a user's."""
    system: list[Message] = []
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "system" and not turns:
            system.append(message)
        elif message.role == "user" or not turns:
            turns.append([message])
        else:
            turns[-1].append(message)
    return system, turns


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
