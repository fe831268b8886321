"""One request's bytes as they come in: where its head ends, what its body is, when it is all here.

This finds the end of a request, and decodes a body that comes in chunks. gunicorn's parser judges
the head and has the last word on it. It is never given a body: given all of one at once, it takes
a time that grows with the square of the number of chunks.
"""

import enum
import re
from collections.abc import Callable

from gunicorn.http import errors
from gunicorn.http.body import CHUNK_EXT_RE

# More than any browser or proxy sends as a head: node stops at 16 KiB, nginx at 32.
HEAD_BYTES = 32 * 1024

# A body up to here is taken on every route; for a longer one the application is asked.
SMALL_BODY_BYTES = 16 * 1024

# A chunk's size with its extensions, or one trailer: as long as one field of a head may be.
LINE_BYTES = 8190

# All of a chunked body that is not content: sizes, extensions, trailers and line ends. It bounds
# the number of chunks too, each of which costs a microsecond: 16 KiB may come byte by byte.
FRAMING_BYTES = 256 * 1024

HEAD_END = re.compile(rb"\r\n\r\n|(?<!\r)\n")
# No two repetitions that can match the same bytes: the loop waits while a head is looked through.
FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r\n]*)(?=\r\n)", re.IGNORECASE)
IS_HTTP_1_1 = re.compile(rb"(?:\r\n)?[^\r\n]* HTTP/1\.1\r\n")
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
CHUNK_SIZE = re.compile(rb"([0-9a-f]+)(?:[ \t]*(;.*))?", re.IGNORECASE | re.DOTALL)
TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+:[\t \x21-\x7e\x80-\xff]*", re.IGNORECASE)


class BodyTooLong(errors.ParseException):
    """A body in chunks is longer than the route takes, or has too much that is not content."""


class RequestState(enum.Enum):
    """How much of a request is here."""

    INCOMPLETE = enum.auto()
    COMPLETE = enum.auto()
    REJECTED = enum.auto()  # to refuse it; its client may still be sending
    HEAD_TOO_LONG = enum.auto()  # a head without an end
    DISCONNECTED = enum.auto()


class RequestBuffer:
    """One request: give it what came in until it is no longer INCOMPLETE.

    `limit_of` is called with the head, at most once, when a body is longer than SMALL_BODY_BYTES;
    it returns how many bytes the route takes. `fault` is what is wrong with a body in chunks.
    `has_body` says that `body` is all of the body that came, whether it is whole or not; otherwise
    the head contradicts itself, and the parser refuses it.
    """

    def __init__(self, limit_of: Callable[[bytes], int]):
        self.head = b""
        self.body = bytearray()
        self.has_body = False
        self.wants_continue = False
        self.fault: errors.ParseException | None = None
        self._limit_of = limit_of
        self._limit = SMALL_BODY_BYTES
        self._is_limit_known = False
        self._data = bytearray()  # came in, and is not looked at yet
        self._seen = 0  # of a head: a byte that drips in costs no second look
        self._length = 0
        self._chunks: _Chunks | None = None

    @property
    def size(self) -> int:
        """How much memory it holds."""
        return len(self.head) + len(self.body) + len(self._data)

    @property
    def known(self) -> bytes:
        """The head, as far as it is here."""
        return self.head or bytes(self._data[:HEAD_BYTES])

    @property
    def rest(self) -> bytes:
        """What came after the end of a request that is whole."""
        return bytes(self._data)

    def take(self, data: bytes) -> RequestState:
        """Look at what came in. Never DISCONNECTED, which only the socket knows."""
        self._data += data
        if not self.head:
            end = HEAD_END.search(self._data, max(0, self._seen - 3))
            self._seen = end.end() if end else len(self._data)
            if not end:
                return (
                    RequestState.INCOMPLETE
                    if self._seen <= HEAD_BYTES
                    else RequestState.HEAD_TOO_LONG
                )
            self.head = bytes(self._data[: self._seen])
            del self._data[: self._seen]
            if end[0] == b"\n":  # the parser refuses a bare LF
                return RequestState.REJECTED
            self._read_head()
        if not self.has_body:
            return RequestState.REJECTED
        try:
            return self._take_chunks() if self._chunks else self._take_length()
        except errors.ParseException as fault:
            self.fault = fault
            return RequestState.REJECTED

    def end(self) -> None:
        """Nothing more will come of a body that is not whole."""
        if self._chunks and not self.fault:
            self.fault = errors.ChunkMissingTerminator(b"")

    def _read_head(self) -> None:
        is_1_1 = IS_HTTP_1_1.match(self.head) is not None
        self.wants_continue = is_1_1 and EXPECTS.search(self.head) is not None
        found = FRAMING.findall(self.head)
        fields = [(name.lower(), value.strip(b" \t").lower()) for name, value in found]
        if fields == [(b"transfer-encoding", b"chunked")]:
            self._chunks = _Chunks(self.body)
        elif len(fields) == 1 and fields[0][1].isdigit() and len(fields[0][1]) < 20:
            if fields[0][0] != b"content-length":
                return
            self._length = int(fields[0][1])
        elif fields:
            return
        self.has_body = True

    def _take_length(self) -> RequestState:
        if self._length > self._limit and self._length > self._ask_limit():
            return RequestState.REJECTED  # and the application answers 413
        missing = self._length - len(self.body)
        self.body += self._data[:missing]
        del self._data[:missing]
        return RequestState.INCOMPLETE if len(self.body) < self._length else RequestState.COMPLETE

    def _take_chunks(self) -> RequestState:
        is_whole = self._chunks.decode(self._data)
        length = self._chunks.length
        if length > self._limit and length > self._ask_limit():
            raise BodyTooLong
        return RequestState.COMPLETE if is_whole else RequestState.INCOMPLETE

    def _ask_limit(self) -> int:
        if not self._is_limit_known:
            self._limit, self._is_limit_known = self._limit_of(self.head), True
        return self._limit


class _Chunks:
    """Decodes a body in chunks into `body` (RFC 9112 §7.1)."""

    def __init__(self, body: bytearray):
        self._body = body
        self._missing = 0  # of the chunk that has begun
        self._framing = 0
        self._is_in_chunk = False
        self._is_in_trailers = False

    @property
    def length(self) -> int:
        """How long the body is with all of the chunk that has begun."""
        return len(self._body) + self._missing

    def decode(self, data: bytearray) -> bool:
        """Take what is there from the beginning of `data`; whether the body is whole.

        Raises ParseException when it is malformed, BodyTooLong when too much is not content.
        """
        at = 0
        try:
            while at < len(data):
                if self._missing:
                    taken = data[at : at + self._missing]
                    self._body += taken
                    self._missing -= len(taken)
                    at += len(taken)
                    continue
                end = self._line_end(data, at)
                if end < 0:
                    return False
                line = data[at : end - 1]
                at = end + 1
                if self._is_whole_at(line):
                    return True
                self._count(len(line) + 2)
            return False
        finally:
            del data[:at]

    def _line_end(self, data: bytearray, at: int) -> int:
        """Where the LF is that ends the line; -1 when it is not here."""
        end = data.find(b"\n", at, at + LINE_BYTES)
        if end < 0 and len(data) - at >= LINE_BYTES:
            raise errors.InvalidChunkSize(b"a line without an end")
        if end == at or (end > 0 and data[end - 1] != 0x0D):
            raise errors.InvalidChunkSize(b"a bare LF")
        return end

    def _is_whole_at(self, line: bytearray) -> bool:
        """Read a line without its end: it is the end of a chunk, a chunk's size, or a trailer."""
        if self._is_in_trailers:
            if line and not TRAILER.fullmatch(line):
                raise errors.InvalidHeader("a trailer")
            return not line
        if self._is_in_chunk:
            if line:
                raise errors.ChunkMissingTerminator(bytes(line[:2]))
            self._is_in_chunk = False
            return False
        size = CHUNK_SIZE.fullmatch(line)
        if not size:
            raise errors.InvalidChunkSize(bytes(line[:20]))
        if size[2] and not CHUNK_EXT_RE.fullmatch(size[2]):
            raise errors.InvalidChunkExtension("malformed")
        self._missing = int(size[1], 16)
        self._is_in_chunk, self._is_in_trailers = self._missing > 0, not self._missing
        return False

    def _count(self, framing: int) -> None:
        self._framing += framing
        if self._framing > FRAMING_BYTES:
            raise BodyTooLong
