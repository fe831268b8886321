"""A model's answer as it comes over HTTP, read as the objects that it consists of."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from runtime.agent.events import ErrorCode
from runtime.agent.providers.provider import ProviderError, protocol_error
from runtime.agent.providers.read_deadline import ReadDeadline
from runtime.agent.providers.server_error import json_or_text

MAX_LINE_BYTES = 1 << 20
# A stream repeats some 300 bytes of frame around every token.
MAX_ANSWER_BYTES = 64 << 20
# What of a page that is no answer says whose it is.
MAX_PAGE_CHARS = 200
# The end of a chunked body follows [DONE] at once; with it read, the connection can be kept.
SECONDS_AFTER_DONE = 0.05
READ_BYTES = 1 << 16
# What a line of an event stream begins with.
FIELD = re.compile(r"(?:data|event|id|retry)?:|data$")

DONE = "[DONE]"
# An object may be on so many lines: each that could end it has what came so far read again.
MAX_HELD_LINES = 1000


def body_of(response: urllib3.BaseHTTPResponse, limit: int) -> str:
    """A body as text, as far as the limit."""
    return _rest(b"", _pieces(response), limit)


def objects(
    response: urllib3.BaseHTTPResponse, deadline: ReadDeadline
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
        whole = _as_object(json_or_text(_rest(first, pieces, MAX_LINE_BYTES)))
        yield iter([whole] if _is_a_piece(whole) else [whole, DONE])
        return
    events = _Events()
    for lines in _lines(first, pieces, deadline):
        yield events.read(lines)
    if first.startswith(b"{") and events.count == 1:
        line = json_or_text(first.partition(b"\n")[0].decode("utf-8", "replace"))
        yield iter([] if _is_a_piece(line) else [DONE])
    if first and not (events.are_there or events.count):
        text = first[:MAX_PAGE_CHARS].decode("utf-8", "replace")
        raise protocol_error(f"a text instead of an answer: {text}")


def _as_object(value: Any) -> dict[str, Any]:
    """The value that JSON, or a text that is none, had. Raises ProviderError for no object."""
    if isinstance(value, list) and value and (len(value) == 1 or "error" in (value[0] or ())):
        # One server has its errors in a list.
        value = value[0]
    if not isinstance(value, dict):
        raise protocol_error(f"no JSON object: {str(value)[:MAX_PAGE_CHARS]}")
    return value


def _is_a_piece(value: Any) -> bool:
    """Whether an object that came alone is of a stream that broke off, and no whole answer."""
    choices = value.get("choices") if isinstance(value, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and bool(first.get("delta")) and not first.get("message")


def _is_of_lines(first: bytes) -> bool:
    """Whether the first line is an object of its own, and not the beginning of a longer one."""
    line, newline, _ = first.partition(b"\n")
    return bool(newline) and isinstance(json_or_text(line.decode("utf-8", "replace")), dict)


def drain(response: urllib3.BaseHTTPResponse, deadline: ReadDeadline) -> None:
    """Read the end of a body, so that its connection goes back to the pool."""
    deadline.instant = min(deadline.instant, time.monotonic() + SECONDS_AFTER_DONE)
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


def _lines(first: bytes, pieces: Iterator[bytes], deadline: ReadDeadline) -> Iterator[list[str]]:
    """Lines as soon as they are complete; together those that had arrived together."""
    pending = bytearray(first)
    while True:
        # One read may not give all that is here.
        if b"\n" in pending and (len(pending) > READ_BYTES or not deadline.has_arrived()):
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
        # The lines of data of an object that is not whole yet, and their length together.
        self._held: list[str] = []
        self._chars = 0
        self._is_error = False

    def read(self, lines: list[str]) -> Iterator[dict[str, Any] | str]:
        """The objects that are whole with some more lines. Raises ProviderError for no JSON."""
        self.are_there = self.are_there or any(FIELD.match(line) for line in lines)
        for line in lines:
            made: dict[str, Any] | str | None = None
            if line.startswith("data:"):
                made = self._data(line[len("data:") :].strip())
            elif line.startswith("{") or line.strip() == DONE:
                made = self._data(line.strip())
            elif line.startswith("event:"):
                self._is_error = line[len("event:") :].strip() in ("error", "exception", "fatal")
            elif not line.strip():
                made = self._object("\n".join(self._held)) if self._held else None
                self._is_error = False
            if made is not None:
                yield made

    def _data(self, data: str) -> dict[str, Any] | str | None:
        """The object that is whole with some more data, or DONE; None if there is neither yet."""
        if data == DONE:
            # An object that was cut off ended nothing.
            return self._object("\n".join(self._held)) if self._held else DONE
        if not data and not self._held:
            return None
        self._held.append(data)
        self._chars += len(data)
        is_cut = self._held[0].startswith(("{", "["))
        if is_cut and len(self._held) > 1 and not data.endswith(("}", "]")) and self._has_room():
            return None
        whole = "\n".join(self._held)
        value = json_or_text(whole)
        # Not at the end of the event: some servers send no blank lines.
        if isinstance(value, str) and (not value or (is_cut and self._has_room())):
            return None
        return self._object(value)

    def _has_room(self) -> bool:
        return self._chars < MAX_LINE_BYTES and len(self._held) < MAX_HELD_LINES

    def _object(self, value: Any) -> dict[str, Any]:
        self._held, self._chars = [], 0
        self.count += 1
        if not self._is_error:
            return _as_object(value)
        return value if isinstance(value, dict) and "error" in value else {"error": value}
