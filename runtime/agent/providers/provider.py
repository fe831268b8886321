"""What the loop asks of a model: one method, a few kinds of chunk, one kind of failure."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.agent.events import Delta, ErrorCode
from runtime.agent.messages import Message, Usage, Vendor
from runtime.agent.providers.server_error import ServerError
from runtime.agent.stop import Stop
from runtime.agent.tools.tool import Tool


@dataclass(frozen=True)
class _Words(Delta):
    grows = "text"
    text: str

    @property
    def owner(self) -> Hashable:
        return type(self)


@dataclass(frozen=True)
class TextDelta(_Words):
    """A piece of the answer's text."""


@dataclass(frozen=True)
class ReasoningDelta(_Words):
    """A piece of what the model thought before it answered; no part of the answer."""


@dataclass(frozen=True)
class ToolCallDelta(Delta):
    """A piece of a tool call; those with the same `index` belong together."""

    grows = "arguments"
    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""

    @property
    def owner(self) -> Hashable | None:
        return None if self.id or self.name else self.index


@dataclass(frozen=True)
class VendorMembers(Delta):
    """What the server sent of its own with the step, and with each call by its `index`.

    It comes once, behind all other deltas; also when the step breaks off then. `origin` is the one
    that may have it back, see `messages.Vendor`.
    """

    message: dict[str, Any] = field(default_factory=dict)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    origin: str = ""

    def of_message(self) -> Vendor | None:
        """What came with the step."""
        return Vendor(self.origin, self.message) if self.message else None

    def of_call(self, index: int, call_id: str) -> Vendor | None:
        """What came with a call; its own id is among it where ours is another."""
        given = self.calls.get(index, {})
        members = {n: v for n, v in given.items() if (n, v) != ("id", call_id)}
        return Vendor(self.origin, members) if members else None


@dataclass(frozen=True)
class StepFinished(Delta):
    """The last chunk of a step that came to its end.

    `finish_reason` is the server's own word, which may say that the answer is not whole: see
    `finish_reasons`.
    """

    finish_reason: str
    usage: Usage | None = None


Chunk = TextDelta | ReasoningDelta | ToolCallDelta | VendorMembers | StepFinished


class ProviderError(Exception):
    """A provider that failed. `message` is for a log: no key in it, and never too long.

    `server_error` is what the server said in place of an answer, `retry_after` how many seconds it
    asked to be left alone; each if it did. What `is_transient` may be over a moment later.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        retry_after: float | None = None,
        *,
        server_error: ServerError | None = None,
        is_transient: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.server_error = server_error
        self.is_transient = is_transient

    def __str__(self) -> str:
        return self.message


def protocol_error(reason: str) -> ProviderError:
    """The failure of a provider whose answer cannot be read."""
    return ProviderError(ErrorCode.PROVIDER_PROTOCOL, reason)


class Provider(Protocol):
    """A model, wherever it runs.

    `name` tells an operator which, `refused` what it was found not to take, if anything.
    """

    name: str
    refused: str

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
        finish_reason says so. What a model has accepted costs tokens even if nothing comes of
        it: it is asked for again only if it `may_repeat`. Raises ProviderError when the step cannot
        be completed, Stopped as soon as it is told to stop.
        """
        ...
