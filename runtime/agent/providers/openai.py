"""Any server that speaks OpenAI's chat completions, over urllib3, always asked to stream."""

import json
import logging
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message
from runtime.agent.providers import Chunk, ProviderError
from runtime.agent.providers.completions import (
    StepReader,
    error_message,
    parse,
    protocol_error,
    request_body,
)
from runtime.agent.providers.patience import Patience, patient_pool
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
        self._takes_stream_options = True

    def stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        deadline: float,
        silence_seconds: float,
    ) -> Iterator[Chunk]:
        """One step of the model; see `Provider.stream`."""
        body = request_body(self.model, messages, tools)
        for attempt in range(self._attempts):
            try:
                yield from self._attempt(body, Patience(silence_seconds, deadline))
                return
            except _Transient as failure:
                if attempt + 1 == self._attempts:
                    raise
                self._wait(failure, attempt, deadline)

    def _wait(self, failure: "_Transient", attempt: int, deadline: float) -> None:
        """Sleep until the next attempt is due. Raises the failure when that is too late."""
        # Many runs fail at the same moment; they should not all come back at the same moment.
        seconds = self._backoff_seconds * 2**attempt * random.uniform(0.5, 1)
        if failure.retry_after is not None:
            seconds = failure.retry_after
        if time.monotonic() + seconds >= deadline:
            raise failure
        log.info("provider: %s; again in %.1f s", failure, seconds)
        time.sleep(seconds)

    def _attempt(self, body: dict[str, Any], patience: Patience) -> Iterator[Chunk]:
        reader = StepReader()
        try:
            with closing(self._open(body, patience)) as response:
                yield from _chunks(response, reader, patience)
        except HTTPError as error:
            if not reader.finish_reason:
                failure = _failure(error, patience, reader)
                failure.message = self._for_log(failure.message)
                raise failure from error
        except ProviderError as error:
            error.message = self._for_log(error.message)
            raise
        yield reader.finished()

    def _open(self, body: dict[str, Any], patience: Patience) -> urllib3.BaseHTTPResponse:
        """The answer to a request that was accepted. Raises ProviderError or HTTPError."""
        if not self._takes_stream_options:
            body = {name: value for name, value in body.items() if name != "stream_options"}
        response = self._post(body, patience)
        if response.status == 200:
            return response
        with closing(response):
            text = _read(response, MAX_ERROR_BYTES)
        if response.status in (400, 422) and "stream_options" in body and "stream_options" in text:
            self._takes_stream_options = False
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


def _failure(error: HTTPError, patience: Patience, reader: StepReader) -> ProviderError:
    message = f"{type(error).__name__}: {error}"
    if patience.seconds_left <= 0:
        return ProviderError(ErrorCode.OUT_OF_TIME, message)
    if isinstance(error, ReadTimeoutError):
        return ProviderError(ErrorCode.PROVIDER_TIMEOUT, message)
    if reader.has_begun:
        return ProviderError(ErrorCode.PROVIDER_INTERRUPTED, message)
    return _Transient(ErrorCode.PROVIDER_UNAVAILABLE, message)


def _refusal(response: urllib3.BaseHTTPResponse, text: str) -> ProviderError:
    status = response.status
    # Servers like to quote the key, or half of it, when they refuse it.
    said = "" if status in (401, 403) else f": {error_message(text)}"
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
    for payload in _payloads(response):
        if payload == DONE:
            reader.finish_reason = reader.finish_reason or "stop"
            _drain(response, patience)
            break
        yield from reader.read(parse(payload))
        if reader.finish_reason:
            patience.silence_seconds = min(patience.silence_seconds, SECONDS_AFTER_FINISH)
    if not reader.finish_reason:
        kind = ProviderError if reader.has_begun else _Transient
        raise kind(ErrorCode.PROVIDER_INTERRUPTED, "the answer ended without a finish_reason")
    if not reader.has_choice:
        raise protocol_error("an answer without choices")


def _payloads(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """The data of each event of a stream, or a whole JSON body and then DONE."""
    content_type = response.headers.get("Content-Type", "").lower()
    if "html" in content_type:
        raise protocol_error("a web page instead of an answer")
    if "json" in content_type:
        yield _read(response, MAX_LINE_BYTES)
        yield DONE
        return
    for line in _lines(response):
        field, _, value = line.decode("utf-8", "replace").partition(":")
        if field == "data" and value.strip():
            yield value.strip()


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Each line as soon as it is complete."""
    size, pending = 0, bytearray()
    while piece := response.read1(READ_BYTES):
        size += len(piece)
        pending += piece
        if b"\n" in piece:
            *lines, pending = pending.split(b"\n")
            yield from lines
        if len(pending) > MAX_LINE_BYTES:
            raise protocol_error(f"a line of more than {MAX_LINE_BYTES} bytes")
        if size > MAX_ANSWER_BYTES:
            raise ProviderError(ErrorCode.ANSWER_TOO_LONG, f"more than {MAX_ANSWER_BYTES} bytes")
    # The last line may lack its newline; one that was cut short is none.
    if pending.rstrip().endswith((b"}", DONE.encode())):
        yield pending


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
