"""What of an answer is unsent: while a thread answers, and while the loop sends it."""

import errno
import selectors
import socket
import time
from contextlib import suppress

from runtime.gunicorn import bounds
from runtime.gunicorn.stream import Remainder, Stream

LAST_CHUNK = b"0\r\n\r\n"


class SendBuffer:
    """Stands in for a connection's socket while a thread answers: sends, and waits for nothing.

    `unsent` is what the client did not take at once.
    """

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self.unsent = bytearray()

    def sendall(self, data: bytes) -> None:
        """Send this. Raises ConnectionResetError when the client is gone, or too much waits."""
        if not self.unsent:
            # The usual answer is taken whole, and copied nowhere.
            taken = self._send(data)
            if taken < len(data):
                self.unsent += memoryview(data)[taken:]
            return
        self.unsent += data
        del self.unsent[: self._send(self.unsent)]
        if len(self.unsent) > bounds.UNSENT_BYTES:
            raise ConnectionResetError(errno.ECONNRESET, "the answer is not read")

    def take(self) -> bytearray:
        """What is unsent, for the sender to send."""
        taken, self.unsent = self.unsent, bytearray()
        return taken

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error


class Sending:
    """A stream on its way over a socket: what was read and not taken yet is `unsent`.

    What the client says while its answer is a stream is not heard: that is its last one. While it
    is a `Remainder`, what it says is the next request, and stays where it is.
    """

    def __init__(
        self,
        sock: socket.socket,
        stream: Stream,
        *,
        is_chunked: bool = False,
        unsent: bytearray | None = None,
    ):
        self.sock = sock
        self.stream = stream
        self.unsent = bytearray() if unsent is None else unsent
        self.counted = 0  # of what is unsent, in the sender's total
        self.has_ended = False  # nothing will follow what is unsent
        self.has_news = False
        self.is_last = not isinstance(stream, Remainder)
        self.events = selectors.EVENT_READ if self.is_last else selectors.EVENT_WRITE
        self.moved_at = time.monotonic()
        self._is_chunked = is_chunked

    def advance(self) -> None:
        """Send as much as is there and is taken at once. Raises OSError when the client is gone."""
        if not self.unsent and not self.has_ended:
            self.put(self.stream.read())
        if self.stream.is_over and not self.has_ended:
            self.end()
        if self.unsent:
            with suppress(BlockingIOError):
                del self.unsent[: self.sock.send(self.unsent)]
                self.moved_at = time.monotonic()

    def put(self, data: bytes) -> None:
        """Send this too (RFC 9112 §7.1)."""
        if not self.unsent:
            self.moved_at = time.monotonic()
        if data:
            self.unsent += b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def end(self) -> None:
        """Send nothing more, and say so."""
        self.unsent += LAST_CHUNK if self._is_chunked else b""
        self.has_ended = True
