"""An urllib3 pool whose every read, headers included, keeps to a silence and to a deadline.

A socket's own timeout starts anew with every byte: a server that sends one byte a second never
meets it. Here each read waits until the deadline at most.
"""

import io
import re
import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any
from urllib.parse import unquote

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# Some two hundred tokens in their frames.
BUFFER_BYTES = 1 << 16

# The end of one chunk and the beginning of the next (RFC 9112 §7.1).
BETWEEN_CHUNKS = re.compile(rb"\r\n([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?\r\n")


class ReadDeadline:
    """How long to wait for one answer: `silence_seconds` for any byte, until `instant` at most.

    Both may be tightened while the answer is being read. `instant` is of `time.monotonic`.
    """

    def __init__(self, silence_seconds: float, instant: float) -> None:
        self.silence_seconds = silence_seconds
        self.instant = instant
        self.reader: _DeadlineReader | None = None
        self._is_abandoned = False

    @property
    def seconds_left(self) -> float:
        return self.instant - time.monotonic()

    def next_wait(self) -> float:
        """How long the next read may take. Raises TimeoutError past the deadline."""
        if self._is_abandoned:
            raise ConnectionAbortedError("the answer is not waited for any more")
        if self.seconds_left <= 0:
            raise TimeoutError("the deadline has passed")
        return min(self.silence_seconds, self.seconds_left)

    def has_arrived(self) -> bool:
        """Whether more of the answer is here already: reading on would not wait."""
        return self.reader is not None and self.reader.has_arrived()

    def abandon(self) -> None:
        """Close the connection, from any thread. A thread that waits for a read of it goes on."""
        self._is_abandoned = True
        if self.reader:
            self.reader.shut()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The answers to requests made inside are read with this deadline, also afterwards."""
        token = _deadline.set(self)
        try:
            yield
        finally:
            _deadline.reset(token)


_deadline: ContextVar[ReadDeadline] = ContextVar("read_deadline")


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket that never waits, and waits as long as its deadline allows."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: ReadDeadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline
        self._may_wait = True
        self._is_drained = False
        # Not a timeout of the socket's, which would ask before each read whether there is something
        # to read, and every question to the kernel lets all other threads go first.
        self._timeout = sock.gettimeout()
        sock.settimeout(0)
        self.buffered = io.BufferedReader(self, BUFFER_BYTES)
        deadline.reader = self

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        while self._may_wait or not self._is_drained:
            seconds = self._deadline.next_wait()
            try:
                count = self._sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as reason:
                if not self._may_wait:
                    break
                ready = select.poll()
                wants_write = isinstance(reason, ssl.SSLWantWriteError)
                ready.register(self._sock, select.POLLOUT if wants_write else select.POLLIN)
                if not ready.poll(seconds * 1000):
                    raise TimeoutError("nothing has come for too long") from None
                continue
            # TLS gives one record at a time, however many are here.
            self._is_drained = count < len(buffer) and not isinstance(self._sock, ssl.SSLSocket)
            return count
        return None

    def has_arrived(self) -> bool:
        # The end of the last chunk's line may be left of it.
        return len(self._here()) > len(b"\r\n")

    def read_chunks(self, most: int) -> bytes:
        """The data of the chunks that are here whole, the one before them having been read."""
        here, data, end = self._here(), [], 0
        while between := BETWEEN_CHUNKS.match(here, end):
            start, size = between.end(), int(between[1], 16)
            most -= size
            if not size or most < 0 or start + size > len(here):
                break
            end = start + size
            data.append(here[start:end])
        self.buffered.read(end)
        return b"".join(data)

    def _here(self) -> bytes:
        """What can be read without waiting, or some of it."""
        self._may_wait = False
        try:
            return b"" if self.buffered.closed else self.buffered.peek(1)
        except (OSError, ValueError):  # The next read meets it again.
            return b""
        finally:
            self._may_wait = True

    def shut(self) -> None:
        with suppress(OSError):
            # Not the method of a TLS socket, which would take its state from under a reader.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        if not self.closed and self._sock.fileno() >= 0:  # the next request is sent over it
            self._sock.settimeout(self._timeout)
        self._raw.close()
        super().close()


class _DeadlineResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _DeadlineReader(self.fp.detach(), sock, _deadline.get())
        self.fp = self._reader.buffered

    def read1(self, n: int = -1) -> bytes:
        """As many chunks as are here, where http.client gives one at a time."""
        data = super().read1(n)
        if data and self.chunked and self.chunk_left == 0:
            data += self._reader.read_chunks(n - len(data))
        return data


def deadline_pool(maxsize: int, proxy: str | None = None) -> urllib3.PoolManager:
    """A pool for requests made inside `ReadDeadline.applied`; `maxsize` connections are kept.

    `proxy` is the URL of the proxy that they go through, if any; it may have a user in it.
    """
    how = {"maxsize": maxsize, "block": False, "retries": False}
    if proxy:
        user = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if user else None
        pool = urllib3.ProxyManager(proxy, proxy_headers=headers, **how)
    else:
        pool = urllib3.PoolManager(**how)
    pool.pool_classes_by_scheme = {"http": _with_deadline(HTTPConnectionPool)}
    pool.pool_classes_by_scheme |= {"https": _with_deadline(HTTPSConnectionPool)}
    return pool


def _with_deadline(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """The class of pools whose connections read their answers with a deadline."""
    how = {"response_class": _DeadlineResponse}
    connection = type(f"Deadline{pool.ConnectionCls.__name__}", (pool.ConnectionCls,), how)
    return type(f"Deadline{pool.__name__}", (pool,), {"ConnectionCls": connection})
