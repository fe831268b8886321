"""An accepted answer on its way: payloads made into chunks by a dialect's reader, to its end."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any, Protocol

import urllib3

from runtime.agent.events import ErrorCode
from runtime.agent.providers.patience import Patience
from runtime.agent.providers.provider import (
    Chunk,
    ProviderError,
    ReasoningDelta,
    StepFinished,
    TextDelta,
    ToolCallDelta,
    VendorMembers,
    protocol_error,
)
from runtime.agent.providers.transport import DONE, drain, payloads

# What may still follow an ending is the usage and [DONE], and some servers never send them.
SECONDS_AFTER_FINISH = 2.0


class Reader(Protocol):
    """What both dialects' `StepReader` have."""

    finish_reason: str | None
    has_choice: bool
    has_begun: bool
    is_ending: bool
    is_done: bool
    unknown: dict[str, Any] | None

    def read(self, event: dict[str, Any]) -> Iterator[Chunk]: ...
    def last(self) -> Iterator[Chunk]: ...
    def vendor(self) -> VendorMembers: ...
    def finished(self) -> StepFinished: ...


def chunks(
    response: urllib3.BaseHTTPResponse, reader: Reader, patience: Patience
) -> Iterator[Chunk]:
    """What an accepted answer says, but for what the reader holds back.

    An answer without an end is a failure, unless it had a finish_reason. Raises ProviderError,
    HTTPError.
    """
    silence_seconds = patience.silence_seconds
    for arrived in payloads(response, patience):
        batch = _Batch(reader)
        yield from batch.chunks(arrived)
        if batch.failure:
            raise batch.failure
        if batch.is_done or reader.is_done:
            _end(reader)
            drain(response, patience)
            break
        soon = min(silence_seconds, SECONDS_AFTER_FINISH)
        patience.silence_seconds = soon if reader.is_ending else silence_seconds
    if not reader.finish_reason:
        raise ProviderError(
            ErrorCode.PROVIDER_INTERRUPTED,
            f"the answer ended without a finish_reason{_told(reader)}",
            is_transient=not reader.has_begun,
        )
    if not reader.has_choice:
        raise protocol_error("an answer without choices")


def _end(reader: Reader) -> None:
    """Take [DONE] for an ending, unless something came that may have been another one."""
    if reader.finish_reason is None and reader.unknown is not None:
        raise protocol_error(f"the answer has no finish_reason{_told(reader)}")
    reader.finish_reason = reader.finish_reason or "stop"


def _told(reader: Reader) -> str:
    """What came that is part of no answer, and may say why there is none."""
    return "" if reader.unknown is None else f", but {json.dumps(reader.unknown)}"


class _Batch:
    """What has arrived at one time: its chunks, joined, and whether it ends the answer."""

    def __init__(self, reader: Reader) -> None:
        self.failure: ProviderError | None = None
        self.is_done = False
        self._reader = reader

    def chunks(self, arrived: Iterator[dict[str, Any] | str]) -> Iterator[Chunk]:
        """The chunks up to the end, or up to what nobody can read, which is kept as `failure`."""
        read: list[Chunk] = []
        try:
            for payload in arrived:
                if payload == DONE:
                    self.is_done = True
                    break
                read += self._reader.read(payload)
        except ProviderError as error:
            self.failure = error
        return (_joined(list(group)) for _, group in groupby(read, _owner))


def _owner(chunk: Chunk) -> object:
    """What a chunk goes on with: the text, or a call, unless it tells more than arguments."""
    if isinstance(chunk, TextDelta | ReasoningDelta):
        return type(chunk)
    is_fragment = isinstance(chunk, ToolCallDelta) and not chunk.id and not chunk.name
    return chunk.index if is_fragment else chunk


def _joined(group: list[Chunk]) -> Chunk:
    first = group[0]
    if len(group) == 1:
        return first
    if isinstance(first, TextDelta | ReasoningDelta):
        return type(first)("".join(chunk.text for chunk in group))
    return replace(first, arguments="".join(chunk.arguments for chunk in group))
