"""Requests to one server over HTTP, and the payloads of its answers; knows no dialect."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from runtime.agent.events import ErrorCode
from runtime.agent.providers.address import Address
from runtime.agent.providers.endings import refused
from runtime.agent.providers.patience import Patience, patient_pool
from runtime.agent.providers.provider import ProviderError, protocol_error
from runtime.agent.providers.refusal import Refusal, json_or_text

MAX_LINE_BYTES = 1 << 20
# A stream repeats some 300 bytes of frame around every token.
MAX_ANSWER_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10
# What a log line may have of a server's words.
MAX_ERROR_CHARS = 300
# What of a page that is no answer says whose it is.
MAX_PAGE_CHARS = 200
# The end of a chunked body follows [DONE] at once; with it read, the connection can be kept.
SECONDS_AFTER_DONE = 0.05
# As much of a key's start or end is what servers leave to be seen of one that they mask.
QUOTED_CHARS = 4
READ_BYTES = 1 << 16
# What a line of an event stream begins with.
FIELD = re.compile(r"(?:data|event|id|retry)?:|data$")

DONE = "[DONE]"


class Transport:
    """One server. Safe for many threads: they share a pool of connections.

    `proxy` is the URL of a proxy that stands before it, if any.
    """

    def __init__(
        self, address: Address, proxy: str | None, connect_seconds: float, max_connections: int
    ) -> None:
        self.address = address
        self._connect_seconds = connect_seconds
        self._pool = patient_pool(max_connections, proxy)

    def post(self, path: str, body: dict[str, Any], patience: Patience) -> urllib3.BaseHTTPResponse:
        """The answer to a request that was accepted. Raises ProviderError or HTTPError."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        timeout = urllib3.Timeout(
            connect=min(self._connect_seconds, max(patience.seconds_left, 0.001)),
            read=patience.silence_seconds,
        )
        with patience.applied():
            # A redirect could lead the key to another host.
            response = self._pool.request(
                "POST",
                self.address.url(path),
                body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
                headers={**headers, **self.address.headers},
                timeout=timeout,
                redirect=False,
                retries=False,
                preload_content=False,
            )
        if response.status != 200:
            raise _refusal(response)
        return response

    def for_log(self, message: str) -> str:
        """The message on one line and cut, without the key: servers quote its start or its end.

        A word that is masked is masked as a whole. Cut last, or half a key might be left where
        the cut goes through it.
        """
        words = message.split()
        for secret in self.address.headers.values():
            key = secret.split()[-1]
            parts = key[:QUOTED_CHARS], key[-QUOTED_CHARS:], "**"
            words = ["***" if any(each in word for each in parts) else word for word in words]
        return " ".join(words)[:MAX_ERROR_CHARS]


def in_words(error: HTTPError, host: str) -> str:
    """What went wrong on the way to a host and why, without a library's names for it."""
    what = f"the connection to {host} broke off"
    if isinstance(error, ReadTimeoutError):
        what = f"{host} has been silent for too long"
    elif isinstance(error, ConnectTimeoutError | ProxyError | SSLError):
        what = f"cannot connect to {host}"
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    reasons = [str(each.strerror or each) for each in causes if isinstance(each, OSError)]
    return ": ".join([what, *filter(None, reasons[-1:])])


def _refusal(response: urllib3.BaseHTTPResponse) -> ProviderError:
    status = response.status
    try:
        text = _read(response, MAX_ERROR_BYTES)
    finally:
        response.close()
    refusal = Refusal.read(text, status)
    # Servers like to quote the key, or half of it, when they refuse it.
    said = "" if status == 401 else f": {refusal.message}"
    if 300 <= status < 400:
        said = f", which leads to {_place(response.headers.get('Location', ''))}"
    retry_after = _retry_after(response.headers.get("Retry-After", ""))
    return refused(refusal, f"the server answered {status}{said}", retry_after)


def _place(location: str) -> str:
    """A redirect's target without what it may have of a secret."""
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:MAX_PAGE_CHARS]


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


def payloads(
    response: urllib3.BaseHTTPResponse, patience: Patience
) -> Iterator[Iterator[dict[str, Any] | str]]:
    """The objects that a body has, and DONE where it says so; together what came together.

    What a body is, its beginning says: gateways send streams and objects under any type. It is a
    stream of events (WHATWG HTML §9.2), or of an object a line, or one JSON value, which a DONE
    ends. What of it is no JSON raises ProviderError.
    """
    pieces = _pieces(response)
    first = _beginning(pieces)
    if first.startswith(b"<"):
        page = _rest(first, pieces, MAX_PAGE_CHARS)
        raise protocol_error(f"a page instead of an answer: {page}")
    if first.startswith((b"{", b"[")) and not _is_of_lines(first):
        yield iter([_as_object(json_or_text(_rest(first, pieces, MAX_LINE_BYTES))), DONE])
        return
    events = _Events()
    for lines in _lines(first, pieces, patience):
        yield events.read(lines)
    if first.startswith(b"{") and events.count == 1:
        yield iter([DONE])
    if first and not (events.are_there or events.count):
        text = first[:MAX_PAGE_CHARS].decode("utf-8", "replace")
        raise protocol_error(f"a text instead of an answer: {text}")


def _as_object(value: Any) -> dict[str, Any]:
    """The value that JSON, or a text that is none, had. Raises ProviderError for no object."""
    if isinstance(value, list) and len(value) == 1:
        # One server has its errors in a list.
        value = value[0]
    if not isinstance(value, dict):
        raise protocol_error(f"no JSON object: {str(value)[:MAX_PAGE_CHARS]}")
    return value


def _is_of_lines(first: bytes) -> bool:
    """Whether the first line is an object of its own, and not the beginning of a longer one."""
    line, newline, _ = first.partition(b"\n")
    return bool(newline) and isinstance(json_or_text(line.decode("utf-8", "replace")), dict)


def drain(response: urllib3.BaseHTTPResponse, patience: Patience) -> None:
    """Read the end of a body, so that its connection goes back to the pool."""
    patience.deadline = min(patience.deadline, time.monotonic() + SECONDS_AFTER_DONE)
    with suppress(HTTPError):
        while response.read1(READ_BYTES):
            pass


def _pieces(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    size = 0
    while piece := response.read1(READ_BYTES):
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise ProviderError(ErrorCode.ANSWER_TOO_LONG, f"more than {MAX_ANSWER_BYTES} bytes")
        yield piece


def _beginning(pieces: Iterator[bytes]) -> bytes:
    """The body's beginning without blanks: a piece of it, or where it is JSON its first line."""
    begun = bytearray()
    for piece in pieces:
        begun += piece if begun else piece.removeprefix(b"\xef\xbb\xbf").lstrip()
        is_json = begun.startswith((b"{", b"["))
        if begun and not (is_json and b"\n" not in piece and len(begun) < MAX_LINE_BYTES):
            break
    return bytes(begun)


def _rest(first: bytes, pieces: Iterator[bytes], limit: int) -> str:
    """The body as text, as far as the limit."""
    body = bytearray(first)
    while len(body) < limit and (piece := next(pieces, b"")):
        body += piece
    return body[:limit].decode("utf-8", "replace")


def _read(response: urllib3.BaseHTTPResponse, limit: int) -> str:
    return _rest(b"", _pieces(response), limit)


def _lines(first: bytes, pieces: Iterator[bytes], patience: Patience) -> Iterator[list[str]]:
    """Lines as soon as they are complete; together those that had arrived together."""
    pending = bytearray(first)
    while True:
        # One read may not give all that is here.
        if b"\n" in pending and (len(pending) > READ_BYTES or not patience.has_arrived()):
            lines, _, pending = pending.rpartition(b"\n")
            yield lines.decode("utf-8", "replace").split("\n")
        if len(pending) > MAX_LINE_BYTES:
            raise protocol_error(f"a line of more than {MAX_LINE_BYTES} bytes")
        piece = next(pieces, b"")
        if not piece:
            break
        pending += piece
    lines, _, last = pending.rpartition(b"\n")
    # The last line may lack its newline; one that was cut short is none.
    whole = pending if last.rstrip().endswith((b"}", DONE.encode())) else lines
    yield whole.decode("utf-8", "replace").split("\n")


class _Events:
    """The events of one stream, as its lines come. `are_there`: it is a stream of events at all.

    An event is one object, whose JSON may be on several lines of data; `count` is how many came.
    That of an event that is called an error is made an object that says so.
    """

    def __init__(self) -> None:
        self.are_there = False
        self.count = 0
        self._held = ""
        self._is_error = False

    def read(self, lines: list[str]) -> Iterator[dict[str, Any] | str]:
        """The objects that are whole with some more lines. Raises ProviderError for no JSON."""
        self.are_there = self.are_there or any(FIELD.match(line) for line in lines)
        for line in lines:
            if line.startswith("data:"):
                yield from self._data(line[len("data:") :].strip())
            elif line.startswith("{") or line.strip() == DONE:
                yield from self._data(line.strip())
            elif line.startswith("event:"):
                self._is_error = line[len("event:") :].strip() in ("error", "exception", "fatal")
            elif not line.strip():
                yield from self._end()

    def _data(self, data: str) -> Iterator[dict[str, Any] | str]:
        if data == DONE:
            yield DONE
            return
        self._held = f"{self._held}\n{data}".strip()
        value = json_or_text(self._held)
        is_begun = isinstance(value, str) and self._held.startswith(("{", "["))
        # Not at the end of the event: some servers send no blank lines.
        if self._held and not (is_begun and len(self._held) < MAX_LINE_BYTES):
            yield self._object(value)

    def _end(self) -> Iterator[dict[str, Any]]:
        if self._held:
            yield self._object(self._held)
        self._is_error = False

    def _object(self, value: Any) -> dict[str, Any]:
        self._held = ""
        self.count += 1
        if not self._is_error:
            return _as_object(value)
        return value if isinstance(value, dict) and "error" in value else {"error": value}
