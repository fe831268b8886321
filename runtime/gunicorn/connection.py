"""A client's connection, its request received and its answer sent without a thread."""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from gunicorn import http, util
from gunicorn.workers.gthread import TConn

from runtime.gunicorn import bounds
from runtime.gunicorn.request_buffer import RequestBuffer, RequestState
from runtime.gunicorn.sending import SendBuffer, Sending


class Connection(TConn):
    """gunicorn's connection, with what came in of a request and what is unsent of an answer.

    `limit_of` is called with a head; it returns how many bytes the request's body may have. Raises
    OSError when the client has already left.
    """

    def __init__(self, cfg, sock: socket.socket, client, server, limit_of: Callable[[bytes], int]):
        super().__init__(cfg, sock, client, server)
        self.data_ready = True  # `handle` need not wait for the first byte
        self.limit_of = limit_of
        self.request_buffer = RequestBuffer(limit_of)
        self.send_buffer = SendBuffer(sock)
        self.sending: Sending | None = None
        self.is_complete = False  # its request
        self.held = 0  # of what its request holds, in the worker's total
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; also after we have closed
            stall_ms = bounds.STALL_SECONDS * 1000
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_ms)

    def receive(self) -> RequestState:
        """Take in what the kernel has, without waiting."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return RequestState.INCOMPLETE
        except OSError:
            return RequestState.DISCONNECTED
        if not data:  # a body that ends early is still answered, with what is wrong with it
            self.request_buffer.end()
            has_body = self.request_buffer.has_body
            return RequestState.REJECTED if has_body else RequestState.DISCONNECTED
        state = self.request_buffer.take(data)
        if state is RequestState.INCOMPLETE and self.request_buffer.wants_continue:
            self.request_buffer.wants_continue = False
            with suppress(OSError):
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return state

    def begin_next(self) -> RequestState:
        """Forget the request that was answered, and look at what came behind it."""
        rest = self.request_buffer.rest
        self.forget_request()
        return self.request_buffer.take(rest)

    def forget_request(self) -> None:
        self.request_buffer = RequestBuffer(self.limit_of)

    def init(self) -> None:
        """Give the head to the parser, which has nothing else to read from."""
        if self.parser is None:
            self.parser = http.get_parser(self.cfg, (), self.client)
        self.parser.unreader.unread(self.request_buffer.head)

    def reset(self) -> None:
        """Close it, so that the kernel keeps nothing of an answer that is not read."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        util.close(self.sock)


def close_at_once(sock: socket.socket, timeout: float = 0, max_drain: int = 1024 * 1024) -> None:
    """Close a connection, reading away what has already arrived but waiting for nothing.

    It stands in for gunicorn's `close_graceful`, which since 26.0 waits up to two seconds for the
    client to close, on the loop that accepts all others: 20 clients that do not are an outage.
    """
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        sock.setblocking(False)
        for _ in range(max_drain // 65536):
            if not sock.recv(65536):
                break
    util.close(sock)


util.close_graceful = close_at_once
