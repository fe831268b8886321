"""gunicorn's threaded worker, with requests received and answers sent on its loop, not in threads.

gunicorn's own gives every connection a thread, reads the request there for as long as the client
pleases, and closes connections on the loop that accepts all others: 64 clients that say nothing
stop it. `Worker` receives requests on the loop, which waits for any number of
clients at once, and gives one a thread when it has arrived whole. No thread reads from a socket,
nothing on the loop waits for one client, and whatever is held is held for a bounded time. What a
client does not take of an answer at once is sent by the loop too.

TLS and HTTP/2 are the router's in front.
"""

import errno
import io
import re
import selectors
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial

from gunicorn import http, util
from gunicorn.http import errors
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

from runtime.gunicorn.inbox import SMALL_BODY_BYTES, Arrival, Inbox
from runtime.gunicorn.refusals import refuse, status_of
from runtime.gunicorn.sender import Outbox, Rest, Sender, Sending, Stream
from runtime.gunicorn.shares import PLACES, Shares

# A request, head and body, must be here so long after its first byte, or after its connection
# was opened: 1 MiB at 35 kB/s. A router gives up after as long itself (Heroku's H12: 30 s).
REQUEST_SECONDS = 30

# A client that takes nothing of its answer for so long is cut off: enough for a phone that
# changes cells. An answer may take any time as long as it is being read.
STALL_SECONDS = 20

# A client that was refused before it had sent everything may go on sending for so long, so that
# the refusal reaches it (RFC 9112 §9.6). nginx waits as long for the next byte.
LINGER_SECONDS = 5

# The longest body of any route, where the application does not say which takes how much. A longer
# one is handed over without being received, for the application to answer 413.
BODY_BYTES = 1024 * 1024

# All that requests may hold of a worker's memory, from their first byte until they are answered;
# beyond it the longest that is not being answered yet is refused. Small ones never are.
HELD_BYTES = 32 * 1024 * 1024

# A worker leaves a new connection for so long to one that has fewer: many times what that one
# needs to wake. While that one is stuck, each new connection waits as long, and no longer.
ASIDE_SECONDS = 0.001

# A platform kills the process 30 s after SIGTERM. Within these, requests first, mail last.
STOP_SECONDS = 25
DRAIN_SECONDS = 5
# Runs that go on until so long before the requests' time is over are ended then: a thousand of
# them have to be written to the database, and told to whoever reads.
INTERRUPT_SECONDS = 5
# After Ctrl-C they have this long.
QUIT_SECONDS = 1

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

REQUEST_LINE = re.compile(rb"(?:\r\n)?([A-Z]+) ([^ \r\n]+) HTTP/")


class Connection(TConn):
    """A client's connection, its request received and its answer sent without a thread."""

    def __init__(self, cfg, sock, client, server, limit_of):
        super().__init__(cfg, sock, client, server)
        self.data_ready = True  # `handle` need not wait for the first byte
        self.limit_of = limit_of
        self.inbox = Inbox(limit_of)
        self.outbox = Outbox(sock)
        self.sending: Sending | None = None
        self.whole = False
        self.held = 0  # of what its request holds, in the worker's total
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; also after we have closed
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)

    def receive(self) -> Arrival:
        """Take in what the kernel has, without waiting."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return Arrival.UNFINISHED
        except OSError:
            return Arrival.GONE
        if not data:  # a body that ends early is still answered, with what is wrong with it
            self.inbox.end()
            return Arrival.ENOUGH if self.inbox.has_body else Arrival.GONE
        arrival = self.inbox.take(data)
        if arrival is Arrival.UNFINISHED and self.inbox.wants_continue:
            self.inbox.wants_continue = False
            with suppress(OSError):
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return arrival

    def begin_next(self) -> Arrival:
        """Forget the request that was answered, and look at what came behind it."""
        rest = self.inbox.rest
        self.inbox = Inbox(self.limit_of)
        return self.inbox.take(rest)

    def init(self):
        """Give the head to the parser, which has nothing else to read from."""
        if self.parser is None:
            self.parser = http.get_parser(self.cfg, (), self.client)
        self.parser.unreader.unread(self.inbox.head)


class MethodQueue(PollableMethodQueue):
    """gunicorn's way to call something on the loop from a thread."""

    def close(self):
        """Stay open: threads outlive the loop, and would write to a file that has the number by
        then, such as a connection to the mail server.
        """


class Worker(ThreadWorker):
    """gunicorn's threaded worker with requests received, and answers sent, on the loop.

    `shares` has the connections of all workers, the master's and theirs alike, and `place` says
    which of them are its own.
    """

    shares = Shares()
    place = PLACES

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_aside = False
        self.aside_until = 0.0
        self.method_queue = MethodQueue()
        self.closing_conns = deque()
        self.sender: Sender | None = None
        self.held = 0
        self.answering = threading.local()  # which connection, for a refusal in a thread
        self.has_runs = False
        self.interrupts_at = None

    def init_process(self):
        # The master counts the same seconds, then kills: the mail's must fit in.
        self.cfg.set("graceful_timeout", STOP_SECONDS - DRAIN_SECONDS)
        super().init_process()

    def load_wsgi(self):
        super().load_wsgi()
        self.application, self.wsgi = self.wsgi, self.answer

    def run(self):
        self.sender = Sender(self.poller, self.method_queue.defer, STALL_SECONDS)
        super().run()

    @property
    def nr_conns(self) -> int:
        """How many connections there are, and runs while stopping; gunicorn counts them."""
        return self._nr_conns

    @nr_conns.setter
    def nr_conns(self, count: int) -> None:
        self._nr_conns = count
        if self.alive:
            self.shares.put(self.place, count)

    def wait_for_and_dispatch_events(self, timeout):
        """Look at every socket that is ready, unless what another one had to say has closed it."""
        timeout = min(timeout, ASIDE_SECONDS) if self.is_aside else timeout
        is_back = self.is_aside and self._accepting
        for key, _events in self.poller.select(timeout):
            if self.poller.get_map().get(key.fd) is key:
                key.data(key.fileobj)
        if is_back:  # What was left to another is taken by now, by that one or here.
            self.is_aside = False

    # Coming in: everything here runs on the loop and never waits.

    def accept(self, listener):
        """Let one connection in; one that another worker should have only if that leaves it."""
        if self.shares.others_have_fewer(self.place) and not self.is_aside:
            self.is_aside = True
            self.aside_until = time.monotonic() + ASIDE_SECONDS
            self.set_accept_enabled(False)
        else:
            self.is_aside = False
            self.let_in(listener)

    def let_in(self, listener) -> bool:
        """Let one connection in; whether there was one. With no room, the oldest idle one goes."""
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
        """When stopping, let in whom the kernel has already greeted, then close the door.

        gunicorn leaves it open until its last request is done, and whoever comes meanwhile
        waits for nothing.
        """
        if enabled and self.is_aside and time.monotonic() < self.aside_until:
            return
        super().set_accept_enabled(enabled)
        if self.alive or enabled:
            return
        self.is_aside = False
        self.shares.leave(self.place)
        for listener in self.sockets:
            while listener.sock and self.let_in(listener):
                pass
            listener.close()

    def await_request(self, conn):
        conn.timeout = time.monotonic() + REQUEST_SECONDS
        self.pending_conns.append(conn)
        self.watch(conn, self.on_pending_socket_readable)

    def watch(self, conn, on_readable):
        callback = partial(on_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, callback)

    def on_client_socket_readable(self, conn, client):
        """A kept-alive connection's next request begins."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.proceed(conn, conn.receive())

    def on_pending_socket_readable(self, conn, client):
        arrival = conn.receive()
        if arrival is Arrival.UNFINISHED:
            self.hold(conn)
            self.keep_within_bounds()
        else:
            self.stop_waiting_for(conn)
            self.proceed(conn, arrival)

    def stop_waiting_for(self, conn):
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)

    def proceed(self, conn, arrival: Arrival):
        self.hold(conn)
        if arrival is Arrival.UNFINISHED:
            self.await_request(conn)
            self.keep_within_bounds()
        elif arrival is Arrival.GONE:
            self.discard(conn)
        elif arrival is Arrival.TOO_LONG:
            status = 431 if b"\r\n" in conn.inbox.known else 414
            self.turn_away(conn, status, "a head without an end")
        elif self.keep_within_bounds(conn):
            conn.whole = arrival is Arrival.WHOLE
            self.enqueue_req(conn)

    def body_limit(self, head: bytes) -> int:
        """How long a body of this request may be."""
        ask = getattr(self.application, "max_body_bytes", None)
        line = REQUEST_LINE.match(head)
        if ask is None or line is None:
            return BODY_BYTES
        method, target = line[1].decode(), line[2].decode("latin-1")
        try:
            path = util.unquote_to_wsgi_str(util.split_request_uri(target).path)
        except ValueError:  # the parser refuses it
            return SMALL_BODY_BYTES
        return ask(method, path.encode("latin-1").decode(errors="replace"))

    def hold(self, conn):
        """Count what the connection's request holds."""
        self.held += conn.inbox.size - conn.held
        conn.held = conn.inbox.size

    def let_go(self, conn):
        """Count nothing more of it: it is answered."""
        self.held -= conn.held
        conn.held = 0

    def keep_within_bounds(self, newcomer=None) -> bool:
        """Refuse the longest requests until all hold HELD_BYTES; whether the newcomer may stay.

        A request that has a thread, or waits for one, stays. So does every small one.
        """
        while self.held > HELD_BYTES:
            waiting = (*self.pending_conns, newcomer) if newcomer else self.pending_conns
            longest = max(waiting, key=lambda conn: conn.held, default=None)
            if longest is None or longest.held <= SMALL_BODY_BYTES:
                break
            if longest is not newcomer:
                self.stop_waiting_for(longest)
            self.turn_away(longest, 503, "no memory for it")
            if longest is newcomer:
                return False
        return True

    def turn_away(self, conn, status: int, cause: str):
        """Refuse a request that no thread has seen."""
        refuse(conn.sock, status, conn.client, cause, conn.inbox.known)
        self.let_go(conn)
        conn.inbox = Inbox(conn.limit_of)
        self.linger(conn)

    # Being answered: in a thread.

    def handle(self, conn):
        self.answering.conn = conn
        return super().handle(conn)

    def handle_request(self, req, conn):
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise errors.InvalidHeader("HOST", req=req)  # RFC 9112 §3.2
        if conn.inbox.fault:
            raise conn.inbox.fault
        if any(k == "TRANSFER-ENCODING" and v.lower() != "chunked" for k, v in req.headers):
            raise errors.UnsupportedTransferCoding("not undone here")
        req._expected_100_continue = False  # the loop has asked for the body, if it wants it
        req.conn = conn
        if not conn.whole:
            req.force_close()
        if conn.inbox.has_body:
            req.body, conn.inbox.body = io.BytesIO(conn.inbox.body), bytearray()
        try:
            return super().handle_request(req, conn)
        finally:
            req.body = io.BytesIO()  # a connection that is kept has its last request still

    def answer(self, environ, start_response):
        """Ask the application. If it gives a stream, send the head, and leave the rest to the loop.

        The connection ends with it: after minutes of an answer nobody misses it, and whatever its
        client says meanwhile need not be kept.
        """
        response = start_response.__self__
        conn = response.req.conn
        response.sock = conn.outbox
        body = self.application(environ, start_response)
        if not isinstance(body, Stream):
            return body
        if environ["REQUEST_METHOD"] == "HEAD":
            body.close()
            return ()
        try:
            response.force_close()
            response.send_headers()
        except BaseException:
            body.close()
            raise
        unsent = conn.outbox.take()
        conn.sending = Sending(conn.sock, body, is_chunked=response.chunked, unsent=unsent)
        response.chunked = False  # or gunicorn would send the last chunk now
        return ()

    def _keepalive_after(self, conn, keepalive):
        """Whether to keep the connection. Its request is here whole: nothing need be drained."""
        return keepalive

    def handle_error(self, req, client, addr, exc):
        """Answer what never reached the application, or failed outside it.

        gunicorn's log line for it would quote the request, and with it what may be a password.
        """
        status = status_of(exc)
        req = req or getattr(exc, "req", None)
        cause = exc if status == 500 else type(exc).__name__
        head = self.answering.conn.inbox.head
        refuse(client, status, addr, cause, head, getattr(req, "path", None) or "/")

    # Going out: on the loop again.

    def finish_request(self, conn, fs):
        """Send what the client did not take at once, then `go_on`."""
        self.let_go(conn)
        unsent = conn.outbox.take()
        if conn.sock.fileno() < 0:  # closed, since the answer broke off
            self.discard(conn)
        elif conn.sending:
            conn.parser = None  # and the request with it
            self.sender.begin(conn.sending, partial(self.end, conn))
        elif unsent:
            sending = Sending(conn.sock, Rest(), unsent=unsent)
            self.sender.begin(sending, partial(self.go_on_if, conn, fs))
        else:
            self.go_on(conn, fs)

    def go_on_if(self, conn, fs, is_sent: bool):
        """Go on when the answer was taken."""
        if is_sent:
            self.go_on(conn, fs)
        else:
            self.abort(conn)

    def go_on(self, conn, fs):
        """Answer the next request, or wait for one, or close the connection."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self.leave(conn)
            return
        conn.sock.setblocking(False)
        arrival = conn.begin_next()
        if conn.inbox.size:  # pipelined
            self.proceed(conn, arrival)
        else:
            super().finish_request(conn, fs)

    def end(self, conn, _is_sent: bool):
        """Close a connection after a stream: what was sent may still be on its way."""
        self.leave(conn)

    def leave(self, conn):
        """Close a connection whose last answer was sent."""
        if conn.whole:
            self.discard(conn)
        else:
            self.linger(conn)

    def abort(self, conn):
        """Reset a connection, so that the kernel keeps nothing of an answer that is not read."""
        with suppress(OSError):
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.nr_conns -= 1
        util.close(conn.sock)

    def linger(self, conn):
        """Say that nothing more will come, and read on into nowhere for a while.

        Closing with bytes unread makes the kernel reset the connection, and the client may
        never see its answer.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self.discard(conn)
            return
        conn.timeout = time.monotonic() + LINGER_SECONDS
        self.closing_conns.append(conn)
        self.watch(conn, self.on_closing_socket_readable)

    def on_closing_socket_readable(self, conn, client):
        try:
            over = not client.recv(65536)
        except OSError as error:
            over = error.errno != errno.EAGAIN
        if over:
            self.closing_conns.remove(conn)
            self.poller.unregister(client)
            self.discard(conn)

    def murder_pending(self):
        """Close what is late. The worker calls it at least once a second."""
        now = time.monotonic()
        while self.closing_conns and self.closing_conns[0].timeout <= now:
            self.discard_oldest(self.closing_conns)
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            late = self.pending_conns[0]
            if late.inbox.size:
                refuse(late.sock, 408, late.client, "late", late.inbox.known)
            self.discard_oldest(self.pending_conns)
        self.sender.look_after(is_stopping=not self.alive)
        self.look_after_runs()

    def make_room(self):
        for conns in (self.closing_conns, self.pending_conns, self.keepalived_conns):
            if conns:
                return self.discard_oldest(conns)
        self.sender.drop_oldest()

    def discard_oldest(self, conns: deque):
        conn = conns.popleft()
        self.poller.unregister(conn.sock)
        self.discard(conn)

    def discard(self, conn):
        self.let_go(conn)
        self.nr_conns -= 1
        close_at_once(conn.sock)

    # Stopping

    def _cap_keepalive(self, deadline):
        """When stopping, wait no longer for an unfinished request than for a next one."""
        super()._cap_keepalive(deadline)
        for conn in (*self.pending_conns, *self.closing_conns):
            conn.timeout = min(conn.timeout, deadline)
        seconds = STOP_SECONDS - DRAIN_SECONDS - INTERRUPT_SECONDS
        self.interrupts_at = time.monotonic() + seconds
        self.look_after_runs()

    def look_after_runs(self):
        """When stopping, stay for runs that nobody waits for, and end those that take too long.

        Again and again: requests that were there before may still begin some.
        """
        journal = journal_of(self.application)
        if journal is None or self.interrupts_at is None:
            return
        if time.monotonic() >= self.interrupts_at:
            journal.interrupt(0)
        has_runs = journal.running > 0
        # gunicorn's loop goes on while there are connections.
        self.nr_conns += has_runs - self.has_runs
        self.has_runs = has_runs


def journal_of(application):
    """The journal of the runs that an application has going; None if it has no such thing."""
    agent = getattr(application, "extensions", {}).get("agent")
    return agent and agent.journal


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
