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
from runtime.agent.step import Failed, RunState, Step
from runtime.agent.stop import Stop, Stopped
from runtime.agent.text import clean
from runtime.agent.tools.parallel_calls import Outcome, TookTooLong, side_by_side
from runtime.agent.tools.result_text import cut
from runtime.agent.tools.tool import Context, Tool, ToolError

log = logging.getLogger(__name__)


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
    run_id, bounds, code = run_id or str(uuid4()), bounds or Bounds(), None
    by_name = {tool.name: tool for tool in tools}
    this = _Run(run_id, [*messages], provider, by_name, bounds, context, stop or Stop())
    yield RunStarted(run_id)
    try:
        yield from this.steps()
    except Stopped as stopped:
        code = stopped.code
    except (ProviderError, Failed) as failure:
        log.warning("run %s failed: %s: %s", run_id, failure.code, failure)
        code = failure.code
    except Exception:
        log.exception("run %s failed", run_id)
        code = ErrorCode.INTERNAL
    output = "".join(this.state.answer)
    yield from this.step.close()
    # What was thought too late for the last step is a message of its own.
    last = Step(this.state, bounds.max_steps + 1)
    yield from last.think()
    yield from last.close()
    if code:
        yield RunError(run_id, code, output or None, this.usage)
    else:
        yield RunFinished(run_id, output, this.usage)


@dataclass
class _Run:
    """What is known of a run while it goes on."""

    id: str
    messages: list[Message]
    provider: Provider
    tools: dict[str, Tool]
    bounds: Bounds
    context: Context | None
    stop: Stop

    def __post_init__(self) -> None:
        self.usage = Usage()
        self.deadline = time.monotonic() + self.bounds.max_seconds
        call_ids = {call.id for message in self.messages for call in message.tool_calls}
        most = self.bounds.max_output_chars
        self.state = RunState(self.id, most, most, call_ids)
        self.step = Step(self.state, 0)

    def steps(self) -> Iterator[Event]:
        """Steps until no tool is called, or one of a front end's. Raises Failed, ProviderError."""
        for number in range(1, self.bounds.max_steps + 1):
            self.step = Step(self.state, number)
            yield from self._ask()
            message = self.step.message
            ours = [call for call in message.tool_calls if not self._is_left_to_others(call)]
            is_over = len(ours) < len(message.tool_calls) or not message.tool_calls
            if number == self.bounds.max_steps and not is_over:
                break
            self.messages.append(message)
            yield from self._answer(ours)
            if is_over:
                return
        raise Failed(ErrorCode.TOO_MANY_STEPS)

    def _ask(self) -> Iterator[Event]:
        self.seconds_left()
        yield from self.step.think()
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
        if (meaning := meaning_of(reason)) != "stop":
            yield from self.step.flush()
            if meaning == "length" and self.step.is_empty:
                raise Failed(ErrorCode.THOUGHT_TOO_LONG)
            code = CODES.get(meaning, ErrorCode.ANSWER_UNFINISHED)
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
        error = outcome.error
        if error is None:
            return ToolResult(call.id, call.name, outcome.result)
        reason = f"the tool gave {error}" if isinstance(error, TookTooLong) else str(error)
        if not isinstance(error, TookTooLong | ToolError):
            # Its words were not written for the model, nor for the user: they may hold a secret.
            log.warning("run %s: tool %s failed", self.id, call.name, exc_info=error)
            reason = "the tool failed"
        return ToolResult(call.id, call.name, cut(clean(f"Error: {reason}")), is_error=True)

    def seconds_left(self) -> float:
        """The wall time that is left. Raises Failed when there is none, Stopped."""
        self.stop.check()
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Failed(ErrorCode.OUT_OF_TIME)
        return left
