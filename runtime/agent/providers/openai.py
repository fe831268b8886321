"""Any server that speaks OpenAI's chat completions, over urllib3, always asked to stream."""

import json
import logging
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message
from runtime.agent.providers import Chunk, ProviderError, TextDelta, ToolCallDelta
from runtime.agent.providers.completions import (
    StepReader,
    error_message,
    in_dialect,
    parse,
    protocol_error,
    refused_option,
    request_body,
)
from runtime.agent.providers.patience import Patience, patient_pool
from runtime.agent.stop import Stop
from runtime.agent.tools import Tool

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20
# A stream repeats some 300 bytes of frame around every token.
MAX_ANSWER_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10
# What a log line may have of a server's words.
MAX_ERROR_CHARS = 300
# What may still follow a finish_reason is the usage and [DONE], and some servers never send them.
SECONDS_AFTER_FINISH = 2.0
# The end of a chunked body follows [DONE] at once; with it read, the connection can be kept.
SECONDS_AFTER_DONE = 0.05

# As much of a key's start or end is what servers leave to be seen of one that they mask.
QUOTED_CHARS = 4

READ_BYTES = 1 << 16
DONE = "[DONE]"


class OpenAIProvider:
    """One model on one server. Safe for many threads: they share a pool of connections.

    `base_url` is what comes before `/chat/completions`; `api_key` may be None for a local
    server. A request that fails before anything of the answer was passed on is made up to
    `attempts` times within the run's deadline; `backoff_seconds` doubles each time, and a
    server's Retry-After goes before it. Raises ValueError when URL or key cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        model: str,
        *,
        attempts: int = 4,
        connect_seconds: float = 5.0,
        backoff_seconds: float = 0.5,
        max_connections: int = 64,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ValueError(f"{base_url!r} is no http or https URL")
        # http.client would put the key into its own complaint.
        if api_key and not re.fullmatch(r"[\x21-\x7e]+", api_key):
            raise ValueError("the API key has characters that no header can carry")
        self.model = model
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._api_key = api_key
        self._attempts = attempts
        self._connect_seconds = connect_seconds
        self._backoff_seconds = backoff_seconds
        self._pool = patient_pool(max_connections)
        self._refused: set[str] = set()

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
        """One step of the model; see `Provider.stream`.

        What arrives together is given together: the deltas of one read are joined.
        """
        body = request_body(self.model, messages, tools, max_output_tokens)
        for attempt in range(self._attempts):
            patience = Patience(silence_seconds, deadline)
            try:
                with stop.waking(patience.abandon):
                    yield from self._attempt(body, patience)
                return
            except _Transient as failure:
                is_accepted = failure.code == ErrorCode.PROVIDER_INTERRUPTED
                if attempt + 1 == self._attempts or (is_accepted and not may_repeat):
                    raise
                self._wait(failure, attempt, deadline, stop)
            except ProviderError:
                stop.check()  # A connection that was closed for it looks like a failure.
                raise

    def _wait(self, failure: "_Transient", attempt: int, deadline: float, stop: Stop) -> None:
        """Sleep until the next attempt is due. Raises the failure if that is too late, Stopped."""
        stop.check()
        # Many runs fail at the same moment; they should not all come back at the same moment.
        seconds = self._backoff_seconds * 2**attempt * random.uniform(0.5, 1)
        if failure.retry_after is not None:
            seconds = failure.retry_after
        if time.monotonic() + seconds >= deadline:
            raise failure
        log.info("provider: %s; again in %.1f s", failure, seconds)
        stop.wait(seconds)

    def _attempt(self, body: dict[str, Any], patience: Patience) -> Iterator[Chunk]:
        reader, is_accepted = StepReader(), False
        try:
            with closing(self._open(body, patience)) as response:
                is_accepted = True
                yield from _chunks(response, reader, patience)
        except HTTPError as error:
            if not reader.finish_reason:
                failure = _failure(error, patience, reader, is_accepted)
                failure.message = self._for_log(failure.message)
                raise failure from error
        except ProviderError as error:
            error.message = self._for_log(error.message)
            raise
        yield reader.finished()

    def _open(self, body: dict[str, Any], patience: Patience) -> urllib3.BaseHTTPResponse:
        """The answer to a request that was accepted. Raises ProviderError or HTTPError."""
        sent = in_dialect(body, self._refused)
        response = self._post(sent, patience)
        if response.status == 200:
            return response
        with closing(response):
            text = _read(response, MAX_ERROR_BYTES)
        option = refused_option(sent, text) if response.status in (400, 422) else None
        if option:
            self._refused.add(option)
            return self._open(body, patience)
        raise _refusal(response, text)

    def _post(self, body: dict[str, Any], patience: Patience) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        timeout = urllib3.Timeout(
            connect=min(self._connect_seconds, max(patience.seconds_left, 0.001)),
            read=patience.silence_seconds,
        )
        with patience.applied():
            # A redirect could lead the key to another host.
            return self._pool.request(
                "POST",
                self._url,
                body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
                headers=headers,
                timeout=timeout,
                redirect=False,
                retries=False,
                preload_content=False,
            )

    def _for_log(self, message: str) -> str:
        """The message on one line and cut, without the key: servers quote its start or its end.

        A word that is masked is masked as a whole. Cut last, or half a key might be left where
        the cut goes through it.
        """
        words = message.split()
        if self._api_key:
            secrets = self._api_key[:QUOTED_CHARS], self._api_key[-QUOTED_CHARS:], "**"
            words = ["***" if any(each in word for each in secrets) else word for word in words]
        return " ".join(words)[:MAX_ERROR_CHARS]


class _Transient(ProviderError):
    """A failure before anything was passed on, which may be over a moment later."""


def _failure(
    error: HTTPError, patience: Patience, reader: StepReader, is_accepted: bool
) -> ProviderError:
    message = f"{type(error).__name__}: {error}"
    if patience.seconds_left <= 0:
        return ProviderError(ErrorCode.OUT_OF_TIME, message)
    if isinstance(error, ReadTimeoutError):
        return ProviderError(ErrorCode.PROVIDER_TIMEOUT, message)
    if reader.has_begun:
        return ProviderError(ErrorCode.PROVIDER_INTERRUPTED, message)
    code = ErrorCode.PROVIDER_INTERRUPTED if is_accepted else ErrorCode.PROVIDER_UNAVAILABLE
    return _Transient(code, message)


def _refusal(response: urllib3.BaseHTTPResponse, text: str) -> ProviderError:
    status = response.status
    # Servers like to quote the key, or half of it, when they refuse it.
    said = ": is OPENAI_API_KEY right?" if status in (401, 403) else f": {error_message(text)}"
    message = f"the server answered {status}{said}"
    retry_after = _retry_after(response.headers.get("Retry-After", ""))
    if status in (429, 529):
        return _Transient(ErrorCode.PROVIDER_BUSY, message, retry_after)
    if status >= 500:
        return _Transient(ErrorCode.PROVIDER_UNAVAILABLE, message, retry_after)
    return ProviderError(ErrorCode.PROVIDER_REJECTED, message)


def _retry_after(value: str) -> float | None:
    """Seconds until a Retry-After, which is a number or an HTTP date (RFC 9110 §10.2.3)."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # "-0000" gives a naive time that is meant in UTC.
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _chunks(
    response: urllib3.BaseHTTPResponse, reader: StepReader, patience: Patience
) -> Iterator[Chunk]:
    """What an accepted answer says. Raises ProviderError, also when its end is missing."""
    for payloads in _payloads(response, patience):
        arrived = _Arrived(reader)
        yield from arrived.chunks(payloads)
        if arrived.failure:
            raise arrived.failure
        if arrived.is_done:
            reader.finish_reason = reader.finish_reason or "stop"
            _drain(response, patience)
            break
        if reader.finish_reason:
            patience.silence_seconds = min(patience.silence_seconds, SECONDS_AFTER_FINISH)
    if not reader.finish_reason:
        kind = ProviderError if reader.has_begun else _Transient
        raise kind(ErrorCode.PROVIDER_INTERRUPTED, "the answer ended without a finish_reason")
    if not reader.has_choice:
        raise protocol_error("an answer without choices")


class _Arrived:
    """What has arrived at one time: its chunks, joined, and whether it ends the answer."""

    def __init__(self, reader: StepReader) -> None:
        self.failure: ProviderError | None = None
        self.is_done = False
        self._reader = reader

    def chunks(self, payloads: list[str]) -> Iterator[Chunk]:
        """The chunks up to the end, or up to what nobody can read, which is kept as `failure`."""
        read: list[Chunk] = []
        try:
            for payload in payloads:
                if payload == DONE:
                    self.is_done = True
                    break
                read += self._reader.read(parse(payload))
        except ProviderError as error:
            self.failure = error
        return (_joined(list(group)) for _, group in groupby(read, _owner))


def _owner(chunk: Chunk) -> object:
    """What a chunk goes on with: the text, or a call, unless it tells more than arguments."""
    if isinstance(chunk, TextDelta):
        return TextDelta
    is_fragment = isinstance(chunk, ToolCallDelta) and not chunk.id and not chunk.name
    return chunk.index if is_fragment else chunk


def _joined(chunks: list[Chunk]) -> Chunk:
    first = chunks[0]
    if len(chunks) == 1:
        return first
    if isinstance(first, TextDelta):
        return TextDelta("".join(chunk.text for chunk in chunks))
    return replace(first, arguments="".join(chunk.arguments for chunk in chunks))


def _payloads(response: urllib3.BaseHTTPResponse, patience: Patience) -> Iterator[list[str]]:
    """The data of a stream's events, or a whole JSON body and DONE; together what came together."""
    content_type = response.headers.get("Content-Type", "").lower()
    if "html" in content_type:
        raise protocol_error("a web page instead of an answer")
    if "json" in content_type:
        yield [_read(response, MAX_LINE_BYTES), DONE]
        return
    for lines in _lines(response, patience):
        payloads = [line[len("data:") :].strip() for line in lines if line.startswith("data:")]
        yield [payload for payload in payloads if payload]


def _lines(response: urllib3.BaseHTTPResponse, patience: Patience) -> Iterator[list[str]]:
    """Lines as soon as they are complete; together those that had arrived together."""
    size, pending = 0, bytearray()
    while piece := response.read1(READ_BYTES):
        size += len(piece)
        pending += piece
        # One read may not give all that is here.
        if b"\n" in pending and (len(pending) > READ_BYTES or not patience.has_arrived()):
            lines, _, pending = pending.rpartition(b"\n")
            yield lines.decode("utf-8", "replace").split("\n")
        if len(pending) > MAX_LINE_BYTES:
            raise protocol_error(f"a line of more than {MAX_LINE_BYTES} bytes")
        if size > MAX_ANSWER_BYTES:
            raise ProviderError(ErrorCode.ANSWER_TOO_LONG, f"more than {MAX_ANSWER_BYTES} bytes")
    lines, _, last = pending.rpartition(b"\n")
    # The last line may lack its newline; one that was cut short is none.
    whole = pending if last.rstrip().endswith((b"}", DONE.encode())) else lines
    yield whole.decode("utf-8", "replace").split("\n")


def _read(response: urllib3.BaseHTTPResponse, limit: int) -> str:
    """The body as text, as far as the limit."""
    body = bytearray()
    while len(body) < limit and (piece := response.read1(READ_BYTES)):
        body += piece
    return body[:limit].decode("utf-8", "replace")


def _drain(response: urllib3.BaseHTTPResponse, patience: Patience) -> None:
    """Read the end of a body, so that its connection goes back to the pool."""
    patience.deadline = min(patience.deadline, time.monotonic() + SECONDS_AFTER_DONE)
    with suppress(HTTPError):
        while response.read1(READ_BYTES):
            pass
