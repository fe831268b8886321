"""An urllib3 pool whose every read, headers included, keeps to a silence and to a deadline.

A socket's own timeout starts anew with every byte, so that a server which drips one a second
would never meet it; here each read waits for no longer than the deadline is away.
"""

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# Some two hundred tokens in their frames.
BUFFER_BYTES = 1 << 16


class Patience:
    """How long to wait for one answer: `silence_seconds` for any byte, until `deadline` at most.

    Both may be tightened while the answer is being read. `deadline` is of `time.monotonic`.
    """

    def __init__(self, silence_seconds: float, deadline: float) -> None:
        self.silence_seconds = silence_seconds
        self.deadline = deadline
        self.reader: _PatientReader | None = None
        self._is_abandoned = False

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def next_wait(self) -> float:
        """How long the next read may take. Raises TimeoutError past the deadline."""
        if self._is_abandoned:
            raise ConnectionAbortedError("nobody waits for the answer any more")
        if self.seconds_left <= 0:
            raise TimeoutError("the deadline has passed")
        return min(self.silence_seconds, self.seconds_left)

    def has_arrived(self) -> bool:
        """Whether more of the answer is here already, so that reading on waits for nothing."""
        return self.reader is not None and self.reader.has_arrived()

    def abandon(self) -> None:
        """Close the connection, from any thread: whoever waits for a read of it waits no more."""
        self._is_abandoned = True
        if self.reader:
            self.reader.shut()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The answers to requests made inside are read with this patience, also afterwards."""
        token = _patience.set(self)
        try:
            yield
        finally:
            _patience.reset(token)


_patience: ContextVar[Patience] = ContextVar("patience")


class _PatientReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, patience: Patience) -> None:
        self._raw = raw
        self._sock = sock
        self._patience = patience
        self._may_wait = True
        self.buffered = io.BufferedReader(self, BUFFER_BYTES)
        patience.reader = self

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._patience.next_wait() if self._may_wait else 0)
        try:
            return self._raw.readinto(buffer)
        except ssl.SSLWantReadError:  # BlockingIOError, as a plain socket's reader has it, is None
            return None

    def has_arrived(self) -> bool:
        self._may_wait = False
        try:
            # The end of the last chunk's line may be left of it.
            return not self.buffered.closed and len(self.buffered.peek(1)) > len(b"\r\n")
        except (OSError, ValueError):  # The next read meets it again.
            return False
        finally:
            self._may_wait = True

    def shut(self) -> None:
        with suppress(OSError):
            # Not the method of a TLS socket, which would take its state from under a reader.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PatientResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _PatientReader(self.fp.detach(), sock, _patience.get()).buffered


class _Connection(HTTPConnection):
    response_class = _PatientResponse


class _SecureConnection(HTTPSConnection):
    response_class = _PatientResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def patient_pool(maxsize: int) -> urllib3.PoolManager:
    """A pool for requests made inside `Patience.applied`; `maxsize` connections are kept."""
    pool = urllib3.PoolManager(maxsize=maxsize, block=False, retries=False)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return pool
