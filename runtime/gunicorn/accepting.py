"""Accepting connections: as many as there is room for, and as many as the other workers have."""

import errno
import time
from abc import ABC, abstractmethod

from runtime.gunicorn import bounds
from runtime.gunicorn.answering import AnsweringWorker
from runtime.gunicorn.connection import Connection
from runtime.gunicorn.connection_counts import PLACES, ConnectionCounts

# What accept() says when a client has left before it was let in; Linux passes on errors of the
# network that the new connection has already met (accept(2)).
NO_CONNECTION = {
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EOPNOTSUPP,
}


class AcceptingWorker(AnsweringWorker, ABC):
    """Accepts on the loop; `await_request` and `make_room` are the loop's own.

    `connection_counts` has the connections of all workers, in memory that they share, and `place`
    says which of them are its own.
    """

    connection_counts = ConnectionCounts()
    place = PLACES

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_yielding = False
        self.yields_until = 0.0

    @property
    def nr_conns(self) -> int:
        """How many connections there are, and runs while stopping; gunicorn counts them."""
        return self._nr_conns

    @nr_conns.setter
    def nr_conns(self, count: int) -> None:
        self._nr_conns = count
        if self.alive:
            self.connection_counts.put(self.place, count)

    def wait_for_and_dispatch_events(self, timeout):
        """Call back for every socket that is ready, unless an earlier callback has closed it."""
        timeout = min(timeout, bounds.YIELD_SECONDS) if self.is_yielding else timeout
        is_back = self.is_yielding and self._accepting
        for key, _events in self.poller.select(timeout):
            if self.poller.get_map().get(key.fd) is key:
                key.data(key.fileobj)
        if is_back:  # What was left to another is taken by now, by that one or here.
            self.is_yielding = False

    def accept(self, listener):
        """Accept one connection; if another worker has fewer, only when that has had its chance."""
        if self.connection_counts.has_more_than_another(self.place) and not self.is_yielding:
            self.is_yielding = True
            self.yields_until = time.monotonic() + bounds.YIELD_SECONDS
            self.set_accept_enabled(False)
        else:
            self.is_yielding = False
            self.accept_one(listener)

    def accept_one(self, listener) -> bool:
        """Accept one connection; whether there was one. With no room, the oldest idle one goes."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self.make_room()
            elif error.errno not in NO_CONNECTION:
                raise
            return False
        try:
            conn = Connection(self.cfg, sock, client, listener.getsockname(), self.body_limit)
        except OSError:  # Reset by now, or its kernel does not take an option: its own matter.
            sock.close()
            return True
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self.make_room()
        self.await_request(conn)
        return True

    def set_accept_enabled(self, enabled):
        """When stopping, accept the clients that the kernel has connected, then close the listener.

        gunicorn leaves it open until its last request is done. A client that connects meanwhile
        would wait for nothing.
        """
        if enabled and self.is_yielding and time.monotonic() < self.yields_until:
            return
        super().set_accept_enabled(enabled)
        if self.alive or enabled:
            return
        self.is_yielding = False
        self.connection_counts.leave(self.place)
        for listener in self.sockets:
            while listener.sock and self.accept_one(listener):
                pass
            listener.close()

    @abstractmethod
    def await_request(self, conn: Connection) -> None:
        """Receive its request."""

    @abstractmethod
    def make_room(self) -> None:
        """Close the connection that is missed least."""
