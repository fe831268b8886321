"""What the loop asks of a model: one method, three kinds of chunk, one kind of failure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, Usage
from runtime.agent.stop import Stop
from runtime.agent.tools import Tool


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """A piece of a tool call; those with the same `index` belong together."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True)
class StepFinished:
    """The last chunk of a step that came to its end."""

    finish_reason: str
    usage: Usage | None = None


Chunk = TextDelta | ToolCallDelta | StepFinished


class ProviderError(Exception):
    """A provider that failed. `message` is for a log: no key in it, and never too long.

    `retry_after` is how many seconds the provider asked to be left alone, if it did.
    """

    def __init__(self, code: ErrorCode, message: str, retry_after: float | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


class Provider(Protocol):
    """A model, wherever it runs."""

    def stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        deadline: float,
        silence_seconds: float,
        stop: Stop,
        max_output_tokens: int | None = None,
        may_repeat: bool = True,
    ) -> Iterator[Chunk]:
        """One step of the model: what it says, ended by exactly one StepFinished.

        A generator: closing it lets go of everything at once. `deadline` is an instant of
        `time.monotonic`. A model that would say more than `max_output_tokens` stops there, and its
        finish_reason is `length`. What a model has accepted costs tokens even if nothing comes of
        it: it is asked for again only if it `may_repeat`. Raises ProviderError when the step cannot
        be completed, Stopped as soon as it is told to stop.
        """
        ...
