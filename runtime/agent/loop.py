"""The loop: ask the model, run the tools it calls, ask again, until it answers.

Everything the model begins in a step is ended when the step ends, the text first, then its calls in
the order they began; what it thinks is ended before what it says next. The calls then run side by
side, and their results come in that order. Those of tools without a function get no result: the run
ends, and the messages of the next one bring it.
"""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from runtime.agent.calls import Outcome, TookTooLong, side_by_side
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
from runtime.agent.messages import Message, ToolCall, ToolResult, Usage, Vendor, cut_history
from runtime.agent.providers import (
    Chunk,
    Provider,
    ProviderError,
    ReasoningDelta,
    StepFinished,
    TextDelta,
    ToolCallDelta,
    VendorMembers,
)
from runtime.agent.providers.endings import CODES, kind_of
from runtime.agent.results import cut
from runtime.agent.stop import Stop, Stopped
from runtime.agent.text import TextCleaner, clean
from runtime.agent.thoughts import Piece, ThinkTags
from runtime.agent.tools import Context, Tool, ToolError

log = logging.getLogger(__name__)

# More calls in one step than anybody means; they would cost time and room without a bound.
MAX_CALLS_OF_A_STEP = 32
# OpenAI refuses a longer id when it comes back in the history.
MAX_ID_CHARS = 40


@dataclass(frozen=True)
class Bounds:
    """How far a run may go; it ends in RUN_ERROR where it would go further.

    `max_output_chars` counts all text and tool arguments the model writes in the run. Of more than
    `max_history_chars` the model is sent the end: see `cut_history`.
    The calls of one step run side by side, `tools_at_once` of them. A tool that takes longer than
    `tool_seconds` gives an error as its result.
    """

    max_steps: int = 10
    max_seconds: float = 300
    silence_seconds: float = 60
    max_output_chars: int = 100_000
    max_history_chars: int = 60_000
    tool_seconds: float = 30
    tools_at_once: int = 4


def run(
    messages: Sequence[Message],
    provider: Provider,
    tools: Sequence[Tool],
    bounds: Bounds | None = None,
    *,
    run_id: str | None = None,
    context: Context | None = None,
    stop: Stop | None = None,
) -> Iterator[Event]:
    """Answer the last message: the events of one run, from RUN_STARTED to exactly one ending.

    Never raises: a failure is a RUN_ERROR, after the end of what was open, and so is a `stop`,
    by when the provider's connection is closed. Closing the generator closes it at once too, and
    emits nothing more.
    """
    this = _Run(
        run_id or str(uuid4()), messages, provider, tools, bounds or Bounds(), context, stop
    )
    yield RunStarted(this.id)
    try:
        yield from this.steps()
        ending: Event = RunFinished(this.id, this.output, this.usage)
    except Stopped as stopped:
        ending = RunError(this.id, stopped.code, this.output or None, this.usage)
    except (ProviderError, _Failed) as failure:
        log.warning("run %s failed: %s: %s", this.id, failure.code, failure)
        ending = RunError(this.id, failure.code, this.output or None, this.usage)
    except Exception:
        log.exception("run %s failed", this.id)
        ending = RunError(this.id, ErrorCode.INTERNAL, this.output or None, this.usage)
    yield from this.step.close()
    yield from this.last_thoughts()
    yield ending


class _Failed(Exception):
    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


class _Run:
    """What is known of a run while it goes on."""

    def __init__(
        self,
        run_id: str,
        messages: Sequence[Message],
        provider: Provider,
        tools: Sequence[Tool],
        bounds: Bounds,
        context: Context | None,
        stop: Stop | None,
    ) -> None:
        self.id = run_id
        self.messages = list(messages)
        self.provider = provider
        self.tools = {tool.name: tool for tool in tools}
        self.bounds = bounds
        self.context = context
        self.stop = stop or Stop()
        self.deadline = time.monotonic() + bounds.max_seconds
        self.usage = Usage()
        self.chars_left = bounds.max_output_chars
        # Thoughts have a bound of their own, beyond which they are not kept: they are no answer.
        self.thought_chars_left = bounds.max_output_chars
        self.held_thoughts: list[str] = []
        self.answer: list[str] = []
        self.call_ids = {call.id for message in messages for call in message.tool_calls}
        self.step = _Step(self, 0)

    @property
    def output(self) -> str:
        """The text of the last message so far."""
        return "".join(self.answer)

    def steps(self) -> Iterator[Event]:
        """Steps until one calls no tool, or one that is not ours. Raises _Failed, ProviderError."""
        for steps_left in reversed(range(self.bounds.max_steps)):
            self.step = _Step(self, self.bounds.max_steps - steps_left)
            yield from self._ask()
            calls = self.step.tool_calls
            if not calls:
                return
            ours = [call for call in calls if not self._is_left_to_others(call)]
            if not steps_left and ours == [*calls]:
                raise _Failed(ErrorCode.TOO_MANY_STEPS)
            self.messages.append(
                Message("assistant", self.step.text, calls, vendor=self.step.vendor)
            )
            yield from self._answer(ours)
            if ours != [*calls]:
                return
        raise _Failed(ErrorCode.TOO_MANY_STEPS)

    def _ask(self) -> Iterator[Event]:
        self.seconds_left()
        held, self.held_thoughts = self.held_thoughts, []
        for thought in held:
            yield from self.step.think(thought)
        stream = self.provider.stream(
            cut_history(self.messages, self.bounds.max_history_chars),
            list(self.tools.values()),
            deadline=self.deadline,
            silence_seconds=self.bounds.silence_seconds,
            stop=self.stop,
        )
        reason = "stop"
        with closing(stream):
            for chunk in stream:
                # What came last of a run that is told to stop is kept too.
                if not isinstance(chunk, VendorMembers):
                    self.seconds_left()
                if isinstance(chunk, StepFinished):
                    self.usage += chunk.usage or Usage()
                    reason = chunk.finish_reason
                else:
                    yield from self.step.add(chunk)
        if (kind := kind_of(reason)) != "stop":
            yield from self.step.flush()
            if kind == "length" and self.step.is_empty:
                raise _Failed(ErrorCode.THOUGHT_TOO_LONG)
            code = CODES.get(kind, ErrorCode.ANSWER_UNFINISHED)
            raise ProviderError(code, f"the model ended with {reason[:80]!r}")
        yield from self.step.finish()

    def _is_left_to_others(self, call: ToolCall) -> bool:
        tool = self.tools.get(call.name)
        return tool is not None and tool.function is None

    def _answer(self, calls: Sequence[ToolCall]) -> Iterator[Event]:
        outcomes = side_by_side(
            [partial(self._call, call) for call in calls],
            at_once=self.bounds.tools_at_once,
            seconds=lambda: min(self.bounds.tool_seconds, self.seconds_left()),
            stop=self.stop,
        )
        with closing(outcomes):
            for call, outcome in zip(calls, outcomes, strict=True):
                result = self._result(call, outcome)
                self.messages.append(Message.from_result(result))
                yield ToolCallResult(self.id, call.id, call.name, result.content, result.is_error)

    def _call(self, call: ToolCall) -> str:
        """What the tool gives. Raises ToolError, or what the tool raises."""
        tool = self.tools.get(call.name)
        if tool is None:
            raise ToolError(f"there is no such tool, only {', '.join(self.tools)}")
        return tool.call(call.arguments, self.context)

    def _result(self, call: ToolCall, outcome: Outcome[str]) -> ToolResult:
        """What the tool gave, or the error as the model should read it."""
        if outcome.error is None:
            return ToolResult(call.id, call.name, outcome.result)
        if isinstance(outcome.error, TookTooLong):
            reason = f"the tool gave {outcome.error}"
        elif isinstance(outcome.error, ToolError):
            reason = str(outcome.error)
        else:
            # Its words were not written for the model, nor for the user: they may hold a secret.
            log.warning("run %s: tool %s failed", self.id, call.name, exc_info=outcome.error)
            reason = "the tool failed"
        return self._error(call, reason)

    def _error(self, call: ToolCall, reason: str) -> ToolResult:
        return ToolResult(call.id, call.name, cut(clean(f"Error: {reason}")), is_error=True)

    def seconds_left(self) -> float:
        """The wall time that is left. Raises _Failed when there is none, Stopped."""
        self.stop.check()
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _Failed(ErrorCode.OUT_OF_TIME)
        return left

    def new_call_id(self, given: str | None) -> str:
        """The provider's id for a call if it can be used, and was not before; or a new one."""
        call_id = clean(given or "")
        if not call_id or len(call_id) > MAX_ID_CHARS or call_id in self.call_ids:
            call_id = f"call_{uuid4().hex[:24]}"
        self.call_ids.add(call_id)
        return call_id

    def afford_thought(self, text: str) -> str:
        """As much of a thought as is still kept."""
        text = text[: self.thought_chars_left]
        self.thought_chars_left -= len(text)
        return text

    def last_thoughts(self) -> Iterator[Event]:
        """The thoughts of the last step that came when it had begun to speak."""
        if self.held_thoughts:
            yield from thought_events(self.id, _id_of(self.id, "last thought"), self.held_thoughts)

    def afford(self, text: str) -> str:
        """As much of the text as the bound on the run's output still allows."""
        text = text[: self.chars_left]
        self.chars_left -= len(text)
        return text


@dataclass
class _Call:
    """A tool call as it comes in; it has begun as soon as its name is known."""

    id: str = ""
    name: str = ""
    given_id: str | None = None
    unsent: str = ""
    arguments: list[str] = field(default_factory=list)
    cleaner: TextCleaner = field(default_factory=TextCleaner)


class _Step:
    """One answer of the model: its chunks made into events that begin and end in order."""

    def __init__(self, run: _Run, number: int) -> None:
        self._run = run
        self._number = number
        self._message_id = _id_of(run.id, str(number))
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
            self._thought_id = _id_of(self._run.id, f"{self._number} thought")
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
        """The events that complete a step which came to its end. Raises _Failed if it is empty."""
        yield from self.flush()
        for call in self._calls.values():
            if not call.name:
                yield from self._begin(call, "unknown")
            if not call.arguments:
                yield from self._add_arguments(call, "{}")
        if self.is_empty:
            raise _Failed(ErrorCode.NO_ANSWER)
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
            raise _Failed(ErrorCode.ANSWER_TOO_LONG)

    def _add_call(self, chunk: ToolCallDelta) -> Iterator[Event]:
        yield from self.flush()
        yield from self._end_thought()
        call = self._calls.setdefault(chunk.index, _Call())
        if len(self._calls) > MAX_CALLS_OF_A_STEP:
            del self._calls[chunk.index]
            raise _Failed(ErrorCode.ANSWER_TOO_LONG)
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
            raise _Failed(ErrorCode.ANSWER_TOO_LONG)


def _id_of(run_id: str, name: str) -> str:
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
