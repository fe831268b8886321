"""Answers sent from a loop, without a thread for any reader however slow.

An application returns a `Stream`, which tells what there is and when there is more. A server that
has a loop gives it to its `Sender`; any other may iterate over it as over every answer. Of any
other answer a thread puts into an `Outbox` what there is, and the sender sends the `Rest`.
"""

import errno
import logging
import selectors
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from runtime import logs

# What the kernel may hold of an answer that nobody reads.
SEND_BUFFER_BYTES = 64 * 1024

# So many streams have their turn before the loop looks at everybody else again: a millisecond or
# two.
STREAMS_A_TURN = 64

# How often at most the loop looks for streams that stall, or have said nothing for a while.
LOOK_SECONDS = 0.5

# All that answers may hold of a worker's memory; beyond it the one that holds most is let go of.
UNSENT_BYTES = 32 * 1024 * 1024

LAST_CHUNK = b"0\r\n\r\n"


class Stream(ABC):
    """An answer that comes as it happens.

    Whoever sends it calls `read` while it `has_more`, until it `is_over`; `listen`, to be told of
    more; and `close` in the end, however it came.
    """

    # What means nothing, to be sent when nothing else was for so long.
    heartbeat: bytes
    heartbeat_seconds: float

    @property
    @abstractmethod
    def has_more(self) -> bool:
        """Whether something is there to be read."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether all was read."""

    @property
    @abstractmethod
    def is_elsewhere(self) -> bool:
        """Whether what is still to come is of another process, and can be had there as well."""

    @abstractmethod
    def read(self) -> bytes:
        """The next piece of what is there and was not read before; waits for nothing."""

    @abstractmethod
    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on another thread, whenever there is more to read."""

    @abstractmethod
    def close(self) -> None:
        """Let go of whatever it holds."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """All of it, on the thread of whoever iterates."""


class Rest(Stream):
    """An answer of which everything is there: nothing follows what is unsent."""

    heartbeat, heartbeat_seconds = b"", 0
    has_more, is_over, is_elsewhere = False, True, False

    def read(self) -> bytes:
        return b""

    def listen(self, wake: Callable[[], None]) -> None:
        """There is never more."""

    def close(self) -> None:
        """It holds nothing."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


class Outbox:
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
        if len(self.unsent) > UNSENT_BYTES:
            raise ConnectionResetError(errno.ECONNRESET, "the answer is not read")

    def take(self) -> bytearray:
        """What is unsent, for somebody else to send."""
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
    is a `Rest`, what it says is the next request, and stays where it is.
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
        self.is_last = not isinstance(stream, Rest)
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


class Sender:
    """Sends answers as they come, and waits for no client.

    It lives on a loop, and calls what it has registered with `selector` with one argument that is
    of no use. `defer` calls a function on that loop, from any thread. A client that takes nothing
    for `stall_seconds` is let go of, like one that is gone: it can come back for the rest.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        defer: Callable[[Callable[[], None]], None],
        stall_seconds: float,
    ):
        self._selector = selector
        self._defer = defer
        self._stall_seconds = stall_seconds
        self._done: dict[Sending, Callable[[bool], None]] = {}
        self._unsent_bytes = 0
        self._news: deque[Sending] = deque()
        self._is_deferred = False
        self._looked_at = time.monotonic()

    def begin(self, sending: Sending, done: Callable[[bool], None]) -> None:
        """Send an answer whose head was sent, or is unsent. In the end `done` is called, with
        whether all of it was taken.
        """
        sock = sending.sock
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._done[sending] = done
        self._selector.register(sock, sending.events, partial(self._on_ready, sending))
        sending.stream.listen(partial(self._on_news, sending))
        self._advance(sending)

    def drop_oldest(self) -> None:
        """Let go of the answer that has had its socket for longest, if there is one."""
        for sending in self._done:
            return self._drop(sending)

    def look_after(self, is_stopping: bool) -> None:
        """Keep idle streams alive, and let go of those that stall; to be called every second.

        When the process stops, streams that can be had elsewhere are ended at once.
        """
        now = time.monotonic()
        if now < self._looked_at + LOOK_SECONDS and not is_stopping:
            return
        self._looked_at = now
        for sending in list(self._done):
            if sending not in self._done:  # let go of meanwhile, for what it held
                continue
            idle_seconds = now - sending.moved_at
            if sending.unsent and idle_seconds >= self._stall_seconds:
                self._drop(sending)
            elif is_stopping and sending.stream.is_elsewhere and not sending.has_ended:
                sending.end()
                self._advance(sending)
            elif not sending.unsent and idle_seconds >= sending.stream.heartbeat_seconds:
                sending.put(sending.stream.heartbeat)
                self._advance(sending)

    def _on_news(self, sending: Sending) -> None:
        """There is more to send; on any thread, and once for however much it is."""
        # Marked before it is read, so that what comes while it is read counts as news again.
        if not sending.has_news:
            sending.has_news = True
            self._news.append(sending)
            self._call_back()

    def _call_back(self) -> None:
        if not self._is_deferred:
            self._is_deferred = True
            self._defer(self._send_news)

    def _send_news(self) -> None:
        self._is_deferred = False
        for _ in range(min(len(self._news), STREAMS_A_TURN)):
            sending = self._news.popleft()
            sending.has_news = False
            self._advance(sending)
        if self._news:
            self._call_back()

    def _on_ready(self, sending: Sending, sock: socket.socket) -> None:
        """The socket takes more, or its client has something to say, if only that it is gone."""
        if sending.is_last and _is_gone(sock):
            self._drop(sending)
        else:
            self._advance(sending)

    def _advance(self, sending: Sending) -> None:
        if sending not in self._done:
            return
        try:
            sending.advance()
        except OSError:  # it has left
            self._drop(sending)
            return
        except Exception:  # for one client to suffer, not for all on the loop
            logs.event("stream_failed", level=logging.ERROR, exc_info=True)
            self._drop(sending)
            return
        self._count(sending)
        if sending.unsent:
            heard = selectors.EVENT_READ if sending.is_last else 0
            self._watch(sending, heard | selectors.EVENT_WRITE)
        elif sending.has_ended:
            self._drop(sending, is_sent=True)
        else:
            self._watch(sending, selectors.EVENT_READ)
            if sending.stream.has_more:
                self._on_news(sending)
        while self._unsent_bytes > UNSENT_BYTES:
            self._drop(max(self._done, key=lambda each: each.counted))

    def _count(self, sending: Sending) -> None:
        self._unsent_bytes += len(sending.unsent) - sending.counted
        sending.counted = len(sending.unsent)

    def _watch(self, sending: Sending, events: int) -> None:
        if events != sending.events:
            sending.events = events
            self._selector.modify(sending.sock, events, partial(self._on_ready, sending))

    def _drop(self, sending: Sending, is_sent: bool = False) -> None:
        done = self._done.pop(sending)
        self._unsent_bytes -= sending.counted
        self._selector.unregister(sending.sock)
        sending.stream.close()
        done(is_sent)


def _is_gone(sock: socket.socket) -> bool:
    """Whether the client has closed its end; what else it says is thrown away."""
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True
