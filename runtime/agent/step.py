"""One answer of the model on its way: its chunks made into events that begin and end in order."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

from runtime.agent.events import (
    ErrorCode,
    Event,
    ReasoningEnd,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    ReasoningMessageStart,
    ReasoningStart,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallStart,
)
from runtime.agent.messages import ToolCall, Vendor
from runtime.agent.providers.provider import (
    Chunk,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    VendorMembers,
)
from runtime.agent.text import TextCleaner
from runtime.agent.think_tags import Piece, ThinkTags

# More calls in one step than anybody means; they would cost time and room without a bound.
MAX_CALLS_OF_A_STEP = 32


class Failed(Exception):
    """The run ends here, with this code."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


class Run(Protocol):
    """What a step needs of its run: see `loop`."""

    id: str
    answer: list[str]
    held_thoughts: list[str]
    thought_chars_left: int

    def afford(self, text: str) -> str: ...
    def afford_thought(self, text: str) -> str: ...
    def new_call_id(self, given: str | None) -> str: ...


@dataclass
class _Call:
    """A tool call as it comes in; it has begun as soon as its name is known."""

    id: str = ""
    name: str = ""
    given_id: str | None = None
    unsent: str = ""
    arguments: list[str] = field(default_factory=list)
    cleaner: TextCleaner = field(default_factory=TextCleaner)


class Step:
    """One answer of the model: its chunks made into events that begin and end in order."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number
        self._message_id = id_of(run.id, str(number))
        self._cleaner, self._thought_cleaner = TextCleaner(), TextCleaner()
        self._text: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._open: list[TextMessageEnd | ToolCallEnd] = []
        self._members = VendorMembers()
        self._tags = ThinkTags()
        self._thought_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the model has neither said anything nor called a tool."""
        return not self._calls and not self._text

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def vendor(self) -> Vendor | None:
        """What the server sent of its own with the step."""
        members = self._members
        return Vendor(members.origin, members.message) if members.message else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls in the order they began."""
        return tuple(
            ToolCall(call.id, call.name, "".join(call.arguments), self._vendor_of(number))
            for number, call in self._calls.items()
        )

    def add(self, chunk: Chunk) -> Iterator[Event]:
        """The events a chunk gives, which may be none."""
        match chunk:
            case TextDelta():
                return self._add_pieces(self._tags.split(self._cleaner.clean(chunk.text)))
            case ToolCallDelta():
                return self._add_call(chunk)
            case VendorMembers():
                self._members = chunk
            case ReasoningDelta():
                return self._add_thought(self._thought_cleaner.clean(chunk.text))
        return iter(())

    def flush(self) -> Iterator[Event]:
        """The events of a text's end that may have become a tag."""
        yield from self._add_pieces(self._tags.finish())

    def think(self, thought: str) -> Iterator[Event]:
        """The events of a thought that came too late for the step before."""
        self._run.thought_chars_left += len(thought)  # it was counted then
        yield from self._add_thought(thought)

    def _add_pieces(self, pieces: Iterable[Piece]) -> Iterator[Event]:
        for piece in pieces:
            add = self._add_thought if piece.is_thought else self._add_text
            yield from add(piece.text)

    def _add_thought(self, text: str) -> Iterator[Event]:
        kept = self._run.afford_thought(text)
        if not kept:
            return
        if not self.is_empty:
            # Clients of AG-UI look for a call's message where they put the last one, so that no
            # other may stand between.
            self._run.held_thoughts.append(kept)
            return
        if self._thought_id is None:
            self._thought_id = id_of(self._run.id, f"{self._number} thought")
            yield ReasoningStart(self._run.id, self._thought_id)
            yield ReasoningMessageStart(self._run.id, self._thought_id)
        yield ReasoningMessageContent(self._run.id, self._thought_id, kept)

    def _end_thought(self) -> Iterator[Event]:
        if self._thought_id is not None:
            yield ReasoningMessageEnd(self._run.id, self._thought_id)
            yield ReasoningEnd(self._run.id, self._thought_id)
            self._thought_id = None

    def _vendor_of(self, number: int) -> Vendor | None:
        call, members = self._calls[number], self._members.calls.get(number, {})
        members = {n: v for n, v in members.items() if (n, v) != ("id", call.id)}
        return Vendor(self._members.origin, members) if members else None

    def finish(self) -> Iterator[Event]:
        """The events that complete a step which came to its end. Raises Failed if it is empty."""
        yield from self.flush()
        for call in self._calls.values():
            if not call.name:
                yield from self._begin(call, "unknown")
            if not call.arguments:
                yield from self._add_arguments(call, "{}")
        if self.is_empty:
            raise Failed(ErrorCode.NO_ANSWER)
        yield from self.close()

    def close(self) -> Iterator[Event]:
        """The ends of everything that is open, whether or not the step came to its end."""
        yield from self._end_thought()
        vendors = {call.id: self._vendor_of(number) for number, call in self._calls.items()}
        step = self.vendor
        while self._open:
            end = self._open.pop(0)
            call = vendors.get(end.tool_call_id) if isinstance(end, ToolCallEnd) else None
            yield replace(end, vendor=_kept(step, call))
            step = None

    def _add_text(self, text: str) -> Iterator[Event]:
        affordable = self._run.afford(text)
        if affordable:
            yield from self._end_thought()
        if affordable and not self._text:
            self._run.answer = self._text
            self._open.insert(0, TextMessageEnd(self._run.id, self._message_id))
            yield TextMessageStart(self._run.id, self._message_id)
        if affordable:
            self._text.append(affordable)
            yield TextMessageContent(self._run.id, self._message_id, affordable)
        if len(affordable) < len(text):
            raise Failed(ErrorCode.ANSWER_TOO_LONG)

    def _add_call(self, chunk: ToolCallDelta) -> Iterator[Event]:
        yield from self.flush()
        yield from self._end_thought()
        call = self._calls.setdefault(chunk.index, _Call())
        if len(self._calls) > MAX_CALLS_OF_A_STEP:
            del self._calls[chunk.index]
            raise Failed(ErrorCode.ANSWER_TOO_LONG)
        call.given_id = call.given_id or chunk.id
        arguments = call.cleaner.clean(chunk.arguments)
        if not call.name and not chunk.name:
            call.unsent += arguments
            return
        if not call.name:
            yield from self._begin(call, chunk.name)
        yield from self._add_arguments(call, arguments)

    def _begin(self, call: _Call, name: str) -> Iterator[Event]:
        call.id = self._run.new_call_id(call.given_id)
        # A name no server would take back in the history is a tool we do not have either.
        call.name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]
        self._open.append(ToolCallEnd(self._run.id, call.id))
        yield ToolCallStart(self._run.id, call.id, call.name, self._message_id)
        yield from self._add_arguments(call, call.unsent)

    def _add_arguments(self, call: _Call, arguments: str) -> Iterator[Event]:
        affordable = self._run.afford(arguments)
        if affordable:
            call.arguments.append(affordable)
            yield ToolCallArgs(self._run.id, call.id, affordable)
        if len(affordable) < len(arguments):
            raise Failed(ErrorCode.ANSWER_TOO_LONG)


def id_of(run_id: str, name: str) -> str:
    """The id of a message of a run, which can always be made again."""
    return str(uuid5(NAMESPACE_OID, f"{run_id} {name}"))


def thought_events(run_id: str, message_id: str, thoughts: Sequence[str]) -> Iterator[Event]:
    """A whole message of thoughts."""
    yield ReasoningStart(run_id, message_id)
    yield ReasoningMessageStart(run_id, message_id)
    yield ReasoningMessageContent(run_id, message_id, "".join(thoughts))
    yield ReasoningMessageEnd(run_id, message_id)
    yield ReasoningEnd(run_id, message_id)


def _kept(step: Vendor | None, call: Vendor | None) -> dict[str, Any] | None:
    """What an end tells of a step and of its own call, as events have it."""
    given = {"message": step, "call": call}
    members = {name: dict(vendor.members) for name, vendor in given.items() if vendor}
    origin = next((vendor.origin for vendor in given.values() if vendor), None)
    return {"origin": origin, **members} if members else None
