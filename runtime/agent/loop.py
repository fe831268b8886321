"""The loop: ask the model, run the tools it calls, ask again, until it answers.

Everything the model begins in a step is ended when the step ends, the text first, then its calls in
the order they began; what it thinks is ended before what it says next. The calls then run side by
side, and their results come in that order. Those of tools without a function get no result: the run
ends, and the messages of the next one bring it.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from runtime.agent.events import ErrorCode, Event, RunError, RunFinished, RunStarted, ToolCallResult
from runtime.agent.messages import Message, ToolCall, ToolResult, Usage, cut_history
from runtime.agent.providers.finish_reasons import CODES, meaning_of
from runtime.agent.providers.provider import Provider, ProviderError, StepFinished, VendorMembers
from runtime.agent.step import Failed, Step, id_of, thought_events
from runtime.agent.stop import Stop, Stopped
from runtime.agent.text import clean
from runtime.agent.tools.parallel_calls import Outcome, TookTooLong, side_by_side
from runtime.agent.tools.result_text import cut
from runtime.agent.tools.tool import Context, Tool, ToolError

log = logging.getLogger(__name__)

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
    except (ProviderError, Failed) as failure:
        log.warning("run %s failed: %s: %s", this.id, failure.code, failure)
        ending = RunError(this.id, failure.code, this.output or None, this.usage)
    except Exception:
        log.exception("run %s failed", this.id)
        ending = RunError(this.id, ErrorCode.INTERNAL, this.output or None, this.usage)
    yield from this.step.close()
    yield from this.last_thoughts()
    yield ending


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
        self.step = Step(self, 0)

    @property
    def output(self) -> str:
        """The text of the last message so far."""
        return "".join(self.answer)

    def steps(self) -> Iterator[Event]:
        """Steps until one calls no tool, or one that is not ours. Raises Failed, ProviderError."""
        for steps_left in reversed(range(self.bounds.max_steps)):
            self.step = Step(self, self.bounds.max_steps - steps_left)
            yield from self._ask()
            calls = self.step.tool_calls
            if not calls:
                return
            ours = [call for call in calls if not self._is_left_to_others(call)]
            if not steps_left and ours == [*calls]:
                raise Failed(ErrorCode.TOO_MANY_STEPS)
            self.messages.append(
                Message("assistant", self.step.text, calls, vendor=self.step.vendor)
            )
            yield from self._answer(ours)
            if ours != [*calls]:
                return
        raise Failed(ErrorCode.TOO_MANY_STEPS)

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
        if (kind := meaning_of(reason)) != "stop":
            yield from self.step.flush()
            if kind == "length" and self.step.is_empty:
                raise Failed(ErrorCode.THOUGHT_TOO_LONG)
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
        """The wall time that is left. Raises Failed when there is none, Stopped."""
        self.stop.check()
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Failed(ErrorCode.OUT_OF_TIME)
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
            yield from thought_events(self.id, id_of(self.id, "last thought"), self.held_thoughts)

    def afford(self, text: str) -> str:
        """As much of the text as the bound on the run's output still allows."""
        text = text[: self.chars_left]
        self.chars_left -= len(text)
        return text
