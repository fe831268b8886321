"""One answer of the model on its way: its chunks made into events that begin and end in order."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import NAMESPACE_OID, uuid4, uuid5

from runtime.agent import events
from runtime.agent.events import ErrorCode, Event
from runtime.agent.messages import Message, ToolCall
from runtime.agent.providers.provider import (
    Chunk,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    VendorMembers,
)
from runtime.agent.text import TextCleaner, clean
from runtime.agent.think_tags import Piece, ThinkTags

# No model means more calls in one step. They would cost time and room without a bound.
MAX_CALLS_OF_A_STEP = 32
# OpenAI refuses a longer id when it comes back in the history.
MAX_ID_CHARS = 40


class Failed(Exception):
    """The run ends here, with this code."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


@dataclass
class RunState:
    """What the steps of one run share: how much they may still write, and the ids that are taken.

    Thoughts have a bound of their own, beyond which they are not kept: they are no answer.
    `held_thoughts` came when their step had begun to speak; `answer` is the text of the last
    message.
    """

    run_id: str
    chars_left: int
    thought_chars_left: int
    call_ids: set[str]
    held_thoughts: str = ""
    answer: list[str] = field(default_factory=list)

    def new_call_id(self, given: str | None) -> str:
        """The provider's id for a call if it can be used, and was not before; or a new one."""
        call_id = clean(given or "")
        if not call_id or len(call_id) > MAX_ID_CHARS or call_id in self.call_ids:
            call_id = f"call_{uuid4().hex[:24]}"
        self.call_ids.add(call_id)
        return call_id


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

    def __init__(self, state: RunState, number: int) -> None:
        self._state = state
        self._run_id = state.run_id
        self._number = number
        self._message_id = self._id_of(str(number))
        self._cleaner, self._thought_cleaner = TextCleaner(), TextCleaner()
        self._text: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._open: list[events.TextMessageEnd | events.ToolCallEnd] = []
        self._members = VendorMembers()
        self._tags = ThinkTags()
        self._thought_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the model has neither said anything nor called a tool."""
        return not self._calls and not self._text

    @property
    def message(self) -> Message:
        """The step as the model said it, with its calls in the order they began."""
        members = self._members
        calls = tuple(
            ToolCall(call.id, call.name, "".join(call.arguments), members.of_call(number, call.id))
            for number, call in self._calls.items()
        )
        return Message("assistant", "".join(self._text), calls, vendor=members.of_message())

    def add(self, chunk: Chunk) -> Iterator[Event]:
        """The events a chunk gives, which may be none."""
        match chunk:
            case TextDelta():
                return self._add_pieces(self._tags.split(self._cleaner.clean(chunk.text)))
            case ToolCallDelta():
                return self._add_call(chunk)
            case ReasoningDelta():
                return self._add_thought(self._thought_cleaner.clean(chunk.text))
            case VendorMembers():
                self._members = chunk
        return iter(())

    def flush(self) -> Iterator[Event]:
        """The events of a text's end that may have become a tag."""
        yield from self._add_pieces(self._tags.finish())

    def think(self) -> Iterator[Event]:
        """The events of the thoughts that came too late for the step before."""
        held, self._state.held_thoughts = self._state.held_thoughts, ""
        self._state.thought_chars_left += len(held)  # it was counted then
        yield from self._add_thought(held)

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
        numbers = {call.id: number for number, call in self._calls.items()}
        message = self._members.of_message()
        while self._open:
            end = self._open.pop(0)
            is_call = isinstance(end, events.ToolCallEnd)
            call_id = end.tool_call_id if is_call else ""
            call = self._members.of_call(numbers[call_id], call_id) if is_call else None
            told = {"message": message, "call": call}
            members = {name: dict(vendor.members) for name, vendor in told.items() if vendor}
            origin = {"origin": self._members.origin}
            yield replace(end, vendor=origin | members if members else None)
            message = None

    def _id_of(self, name: str) -> str:
        """The id of a message of the run, which can always be made again."""
        return str(uuid5(NAMESPACE_OID, f"{self._run_id} {name}"))

    def _add_pieces(self, pieces: Iterable[Piece]) -> Iterator[Event]:
        for piece in pieces:
            add = self._add_thought if piece.is_thought else self._add_text
            yield from add(piece.text)

    def _add_thought(self, text: str) -> Iterator[Event]:
        kept = text[: self._state.thought_chars_left]
        self._state.thought_chars_left -= len(kept)
        if not self.is_empty:
            # Clients of AG-UI look for a call's message where they put the last one: no other may
            # stand between.
            self._state.held_thoughts += kept
        elif kept:
            if self._thought_id is None:
                self._thought_id = self._id_of(f"{self._number} thought")
                yield events.ReasoningStart(self._run_id, self._thought_id)
                yield events.ReasoningMessageStart(self._run_id, self._thought_id)
            yield events.ReasoningMessageContent(self._run_id, self._thought_id, kept)

    def _end_thought(self) -> Iterator[Event]:
        if self._thought_id is not None:
            yield events.ReasoningMessageEnd(self._run_id, self._thought_id)
            yield events.ReasoningEnd(self._run_id, self._thought_id)
            self._thought_id = None

    def _add_text(self, text: str) -> Iterator[Event]:
        affordable = text[: self._state.chars_left]
        if affordable and not self._text:
            yield from self._end_thought()
            self._state.answer = self._text
            self._open.insert(0, events.TextMessageEnd(self._run_id, self._message_id))
            yield events.TextMessageStart(self._run_id, self._message_id)
        yield from self._write(
            text, self._text, partial(events.TextMessageContent, self._run_id, self._message_id)
        )

    def _write(self, text: str, to: list[str], event: Callable[[str], Event]) -> Iterator[Event]:
        """The event of as much of a text as may still be written. Raises Failed if it is cut."""
        affordable = text[: self._state.chars_left]
        self._state.chars_left -= len(affordable)
        if affordable:
            to.append(affordable)
            yield event(affordable)
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
        call.id = self._state.new_call_id(call.given_id)
        # A name no server would take back in the history is a tool we do not have either.
        call.name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]
        self._open.append(events.ToolCallEnd(self._run_id, call.id))
        yield events.ToolCallStart(self._run_id, call.id, call.name, self._message_id)
        yield from self._add_arguments(call, call.unsent)

    def _add_arguments(self, call: _Call, arguments: str) -> Iterator[Event]:
        yield from self._write(
            arguments, call.arguments, partial(events.ToolCallArgs, self._run_id, call.id)
        )
