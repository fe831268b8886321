"""What a provider reads: messages, tool calls and their results, and the usage it reports."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import chain, takewhile
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


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
        call_id, name = result.tool_call_id, result.tool_name
        return cls("tool", result.content, tool_call_id=call_id, tool_name=name)

    @property
    def chars(self) -> int:
        """How much of a history's room the message takes."""
        calls = sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
        vendors = [owner.vendor for owner in (self, *self.tool_calls) if owner.vendor]
        return len(self.content) + calls + sum(len(str(each.members)) for each in vendors)


@dataclass(frozen=True)
class Usage:
    """Tokens as a provider counts them; None is unknown, which is not the same as 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None

    def __add__(self, other: "Usage") -> "Usage":
        pairs = zip(astuple(self), astuple(other), strict=True)
        known = ([count for count in pair if count is not None] for pair in pairs)
        return Usage(*(sum(counts) if counts else None for counts in known))


def cut_history(messages: Sequence[Message], max_chars: int) -> list[Message]:
    """The end of a conversation, as far as it fits in `max_chars`; no result without its call.

    System messages at the beginning stay, and count. So do, at any size, the last thing
    the user said and the last step behind it; then the newest of what was before. It is cut between
    two turns, or in the middle of one: that keeps what the user said, and its newest steps.
    """
    system = list(takewhile(lambda message: message.role == "system", messages))
    turns = _groups(messages[len(system) :], lambda message: message.role == "user")
    left = max_chars - chars_of(system)
    kept: list[list[Message]] = []
    for turn in reversed(turns):
        kept.append(_cut_turn(turn, left, is_last=turn is turns[-1]))
        # Behind the first turn that is cut nothing fits any more.
        left -= chars_of(turn)
    return [*system, *chain.from_iterable(reversed(kept))]


def _cut_turn(turn: list[Message], max_chars: int, is_last: bool) -> list[Message]:
    """What the user said and the newest steps behind it that fit, or nothing if none does."""
    said = turn[:1] if turn[0].role == "user" else []
    steps = _groups(turn[len(said) :], lambda message: message.role != "tool")
    left = max_chars - chars_of(said)
    kept: list[list[Message]] = []
    for step in reversed(steps):
        left -= chars_of(step)
        if left < 0 and (kept or not is_last):
            break
        kept.append(step)
    is_worth_it = is_last or kept or (left >= 0 and not steps)
    return [*said, *chain.from_iterable(reversed(kept))] if is_worth_it else []


def _groups(messages: Sequence[Message], begins: Callable[[Message], bool]) -> list[list[Message]]:
    """The messages, cut before each message that begins a group."""
    groups: list[list[Message]] = []
    for message in messages:
        if begins(message) or not groups:
            groups.append([])
        groups[-1].append(message)
    return groups


def chars_of(messages: Iterable[Message]) -> int:
    """How much of a history's room the messages take."""
    return sum(message.chars for message in messages)
