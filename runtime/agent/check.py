"""Asks a configured model once without tools and once with them, and says what it takes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from runtime.agent.messages import Message
from runtime.agent.providers.provider import (
    Provider,
    ProviderError,
    StepFinished,
    TextDelta,
    ToolCallDelta,
)
from runtime.agent.stop import Stop
from runtime.agent.tools.tool import Tool

# Enough for a model that is loaded into memory by the first question.
SECONDS = 120.0
GREETING = "Answer with one word: hello."
QUESTION = "What time is it, and what is 6 * 7? Call your tools before you answer."


@dataclass(frozen=True)
class Finding:
    """What one question showed, in a sentence for an operator."""

    is_good: bool
    sentence: str


def check(provider: Provider, tools: Sequence[Tool]) -> Iterator[Finding]:
    """Ask the model, and say of each question what came of it.

    Waits up to two minutes for each. Of tools the model may say that it takes none: that is good.
    """
    without = _asked(provider, GREETING, [], "without tools")
    yield without
    if without.is_good and tools:
        yield _asked(provider, QUESTION, tools, "with tools")


def _asked(provider: Provider, question: str, tools: Sequence[Tool], how: str) -> Finding:
    began, chars, calls, finished = time.monotonic(), 0, [], None
    stream = provider.stream(
        [Message("user", question)],
        tools,
        deadline=began + SECONDS,
        silence_seconds=SECONDS,
        stop=Stop(),
    )
    try:
        with closing(stream):
            for chunk in stream:
                match chunk:
                    case TextDelta(text):
                        chars += len(text)
                    case ToolCallDelta(name=str(name)):
                        calls.append(name)
                    case StepFinished():
                        finished = chunk
    except ProviderError as failure:
        return Finding(False, f"{how}: {failure}")
    said = f"{_said(chars, calls, bool(tools))} in {time.monotonic() - began:.1f} s"
    refused = f"; asked otherwise, for it refuses {names}" if (names := provider.refused) else ""
    return Finding(True, f"{how}: {said}; {_usage(finished)}{refused}")


def _said(chars: int, calls: Sequence[str], has_tools: bool) -> str:
    if calls:
        return f"called {', '.join(calls)}"
    return f"answered {chars} characters" + (", and called no tool," if has_tools else "")


def _usage(finished: StepFinished | None) -> str:
    usage = finished and finished.usage
    if not usage or usage.input_tokens is None or usage.output_tokens is None:
        return "it does not tell its tokens, which are estimated"
    return f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
