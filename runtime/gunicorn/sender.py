"""Sends answers from a loop, so that no slow reader holds a thread."""

import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from runtime import logs
from runtime.gunicorn import bounds
from runtime.gunicorn.sending import Sending

# What the kernel may hold of an answer that is not read.
SEND_BUFFER_BYTES = 64 * 1024

# So many streams have their turn before the loop looks at all sockets again: a millisecond or two.
STREAMS_A_TURN = 64

# How often at most the loop looks for streams that stall, or have said nothing for a while.
LOOK_SECONDS = 0.5


class Sender:
    """Sends answers as they come, and waits for no client.

    It lives on a loop, and calls what it has registered with `selector` with one argument, which
    they ignore. `defer` calls a function on that loop, from any thread. A client that takes nothing
    for `stall_seconds` is dropped, as if it had gone: it can come back for the rest.
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
        """Keep idle streams alive, and drop those that stall; call it every second.

        When the process stops, streams that can be had elsewhere are ended at once.
        """
        now = time.monotonic()
        if now < self._looked_at + LOOK_SECONDS and not is_stopping:
            return
        self._looked_at = now
        for sending in list(self._done):
            if sending not in self._done:  # dropped meanwhile, for what it held
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
        """There is more to send. It may be called on any thread; one call on the loop follows."""
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
        while self._unsent_bytes > bounds.UNSENT_BYTES:
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
