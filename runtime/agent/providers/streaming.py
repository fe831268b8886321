"""An accepted answer on its way: its objects made into chunks by a dialect's reader, to its end."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import urllib3

from runtime.agent.events import ErrorCode, compact
from runtime.agent.messages import Usage
from runtime.agent.providers.answer_body import DONE, drain, objects
from runtime.agent.providers.failures import failure_in
from runtime.agent.providers.provider import (
    Chunk,
    ProviderError,
    StepFinished,
    VendorMembers,
    protocol_error,
)
from runtime.agent.providers.read_deadline import ReadDeadline

# What may still follow an ending is the usage and [DONE], and some servers never send them.
SECONDS_AFTER_FINISH = 2.0


class Reader(ABC):
    """What both dialects' `StepReader` have: makes chunks of the objects one step consists of.

    `is_answer` says that they are an answer at all, `has_begun` that a chunk was given.
    `is_ending`: nothing but the usage can follow, as far as this server's ways are known; the end
    is [DONE], or the connection's, or the reader's own, which `is_done`. `unknown` is the last
    object that is no part of an answer.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.is_answer = self.has_begun = self.is_ending = self.is_done = False
        self.unknown: dict[str, Any] | None = None

    @abstractmethod
    def read(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of an object. Raises ProviderError for an error or rubbish."""

    def last(self) -> Iterator[Chunk]:
        """The chunks that were held back for what might have followed."""
        return iter(())

    @abstractmethod
    def vendor(self) -> VendorMembers:
        """What came that is the vendor's own."""

    def finished(self) -> StepFinished:
        """The chunk that ends the step."""
        return StepFinished(self.finish_reason or "stop", self.usage)

    def look_for_error(self, event: dict[str, Any], *known: str) -> None:
        """Raise the failure that an object tells of; note one without any of these members."""
        if failure := failure_in(event, self.has_begun):
            raise failure
        if not event.keys() & known:
            self.unknown = event


def chunks(
    response: urllib3.BaseHTTPResponse, reader: Reader, deadline: ReadDeadline
) -> Iterator[Chunk]:
    """What an accepted answer says, but for what the reader holds back.

    An answer without an end is a failure, unless it had a finish_reason. Raises ProviderError,
    HTTPError.
    """
    silence_seconds = deadline.silence_seconds
    for arrived in objects(response, deadline):
        yield from _together(arrived, reader)
        if reader.is_done:
            drain(response, deadline)
            break
        soon = min(silence_seconds, SECONDS_AFTER_FINISH)
        deadline.silence_seconds = soon if reader.is_ending else silence_seconds
    # What came that is part of no answer may say why there is none.
    told = "" if reader.unknown is None else f", but {json.dumps(reader.unknown)}"
    if not reader.finish_reason and reader.is_done:
        raise protocol_error(f"the answer has no finish_reason{told}")
    if not reader.finish_reason:
        message = f"the answer ended without a finish_reason{told}"
        is_transient = not reader.has_begun
        raise ProviderError(ErrorCode.PROVIDER_INTERRUPTED, message, is_transient=is_transient)
    if not reader.is_answer:
        raise protocol_error("an answer without choices")


def _together(arrived: Iterator[dict[str, Any] | str], reader: Reader) -> Iterator[Chunk]:
    """The chunks of what has arrived at one time, joined, up to the end or to a failure."""
    read: list[Chunk] = []
    failure = None
    try:
        for each in arrived:
            if each is DONE:
                reader.is_done = True
                # [DONE] is an ending, unless something came that may have been another one.
                reader.finish_reason = reader.finish_reason or (None if reader.unknown else "stop")
                break
            read += reader.read(each)
    except ProviderError as error:
        failure = error
    yield from compact(read)
    if failure:
        raise failure
