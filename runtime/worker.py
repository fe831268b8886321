"""gunicorn's threaded worker, with requests received on its loop instead of in its threads.

gunicorn's own gives every connection a thread, reads the request there for as long as the client
pleases, and closes connections on the loop that accepts all others: 64 clients that say nothing
stop it. `Worker` receives requests on the loop, which waits for any number of
clients at once, and gives one a thread when it has arrived whole. No thread reads from a socket,
nothing on the loop waits for one client, and whatever is held is held for a bounded time. An
answer that is a stream is sent by the loop too.

TLS and HTTP/2 are the router's in front.
"""

import enum
import errno
import json
import logging
import re
import selectors
import socket
import struct
import time
import uuid
from collections import deque
from contextlib import suppress
from functools import partial

from gunicorn import http, util
from gunicorn.http import errors
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

from . import metrics
from .sender import Sender, Sending, Stream
from .shares import PLACES, Shares

log = logging.getLogger("runtime")

# A request, head and body, must be here so long after its first byte, or after its connection
# was opened: 1 MiB at 35 kB/s. A router gives up after as long itself (Heroku's H12: 30 s).
REQUEST_SECONDS = 30

# A client that takes nothing of its answer for so long is cut off: enough for a phone that
# changes cells. An answer may take any time as long as it is being read.
STALL_SECONDS = 20

# A client that was refused before it had sent everything may go on sending for so long, so that
# the refusal reaches it (RFC 9112 §9.6). nginx waits as long for the next byte.
LINGER_SECONDS = 5

# More than any browser or proxy sends as a head: node stops at 16 KiB, nginx at 32.
HEAD_BYTES = 32 * 1024

# What the application takes as a body. A longer one is handed over without being received, for
# the application to answer 413.
BODY_BYTES = 1024 * 1024

# All that unfinished requests may hold of a worker's memory; beyond it the oldest is closed.
HELD_BYTES = 32 * 1024 * 1024

# What the kernel may hold of an answer that nobody reads: any answer but a stream fits in, so a
# slow reader keeps this much memory and no thread. Linux caps it at net.core.wmem_max.
SEND_BUFFER_BYTES = 1024 * 1024

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

REFUSALS = {
    400: ("Bad Request", "请求格式错误"),
    408: ("Request Timeout", "请求超时"),
    414: ("URI Too Long", "请求地址过长"),
    417: ("Expectation Failed", "无法满足请求头 Expect 的要求"),
    431: ("Request Header Fields Too Large", "请求头过大"),
    500: ("Internal Server Error", "服务器内部错误，请稍后再试"),
    501: ("Not Implemented", "不支持的传输编码"),
}

# The first that fits. ParseException is the parent of the rest, the two InvalidResponse… are the
# application's fault though they descend from the client's.
STATUS_OF = (
    ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), 500),
    (errors.ConfigurationProblem, 500),
    (errors.LimitRequestLine, 414),
    (errors.ExpectationFailed, 417),
    (errors.LimitRequestHeaders, 431),
    (errors.UnsupportedTransferCoding, 501),
    (errors.ParseException, 400),
    (Exception, 500),
)

HEAD_END = re.compile(rb"\r\n\r\n|(?<!\r)\n")
FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding):[ \t]*([^\r]*?)[ \t]*(?=\r\n)", re.IGNORECASE
)
EXPECTS = re.compile(rb" HTTP/1\.1\r\n(?s:.*\r\n)?expect:[ \t]*100-continue", re.IGNORECASE)
CHUNK_SIZE = re.compile(rb"[0-9a-f]{1,8}(?=[;\r \t])", re.IGNORECASE)


class Arrival(enum.Enum):
    """How much of a request is here."""

    UNFINISHED = enum.auto()
    WHOLE = enum.auto()
    ENOUGH = enum.auto()  # to refuse it; its client may still be sending
    TOO_LONG = enum.auto()  # a head without an end
    GONE = enum.auto()


class Inbox:
    """One request's bytes as they come in, and whether they are all there.

    This only finds the end. gunicorn's parser judges the request, and has the last word: where
    the two disagree, it finds a body that is cut off, never one that keeps it waiting.
    """

    def __init__(self, data: bytes = b""):
        self.data = bytearray(data)
        self.seen = 0  # looked through up to here: a byte that drips in costs no second look
        self.in_body = False
        self.chunked = False
        self.length = 0
        self.wants_continue = False

    def arrival(self) -> Arrival:
        """Look at what came in since the last call. Never GONE, which is the socket's to say."""
        if not self.in_body:
            end = HEAD_END.search(self.data, max(0, self.seen - 3))
            self.seen = end.end() if end else len(self.data)
            if not end:
                return Arrival.UNFINISHED if self.seen <= HEAD_BYTES else Arrival.TOO_LONG
            if end[0] == b"\n":  # the parser refuses a bare LF as soon as it sees one
                return Arrival.ENOUGH
            self._read_head(bytes(self.data[: self.seen]))
        if self.chunked:
            return self._chunks()
        if self.length > BODY_BYTES:
            return Arrival.ENOUGH
        return Arrival.WHOLE if len(self.data) >= self.seen + self.length else Arrival.UNFINISHED

    def _read_head(self, head: bytes) -> None:
        self.in_body = True
        self.wants_continue = EXPECTS.search(head) is not None
        fields = [(name.lower(), value.lower()) for name, value in FRAMING.findall(head)]
        if fields == [(b"transfer-encoding", b"chunked")]:
            self.chunked = True
        elif len(fields) == 1 and fields[0][1].isdigit() and len(fields[0][1]) < 20:
            self.length = int(fields[0][1])
        elif fields:  # nonsense, or contradictory, and refused by the parser
            self.length = BODY_BYTES + 1

    def _chunks(self) -> Arrival:
        while len(self.data) <= 2 * BODY_BYTES:
            line_end = self.data.find(b"\r\n", self.seen, self.seen + HEAD_BYTES)
            if line_end < 0:
                is_long = len(self.data) - self.seen > HEAD_BYTES
                return Arrival.ENOUGH if is_long else Arrival.UNFINISHED
            size = CHUNK_SIZE.match(self.data, self.seen)
            if not size:
                return Arrival.ENOUGH
            if int(size[0], 16) == 0:
                return self._trailers(line_end)
            after = line_end + 2 + int(size[0], 16) + 2
            if after > len(self.data):
                return Arrival.UNFINISHED
            self.seen = after
        return Arrival.ENOUGH

    def _trailers(self, start: int) -> Arrival:
        if self.data.find(b"\r\n\r\n", start, start + HEAD_BYTES) >= 0:
            return Arrival.WHOLE
        return Arrival.UNFINISHED if len(self.data) < start + HEAD_BYTES else Arrival.ENOUGH


class Connection(TConn):
    """A client's connection, its request received without a thread."""

    def __init__(self, cfg, sock, client, server):
        super().__init__(cfg, sock, client, server)
        self.data_ready = True  # `handle` need not wait for the first byte
        self.inbox = Inbox()
        self.whole = False
        self.sending: Sending | None = None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # Not `settimeout`: since Python 3.5 that is a limit for all of sendall(), however
        # steadily the client reads. This one is for a send() that gets nothing through.
        stall = struct.pack("ll", STALL_SECONDS, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, stall)
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
            return Arrival.ENOUGH if self.inbox.in_body else Arrival.GONE
        self.inbox.data += data
        arrival = self.inbox.arrival()
        if arrival is Arrival.UNFINISHED and self.inbox.wants_continue:
            self.inbox.wants_continue = False
            with suppress(OSError):
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return arrival

    def init(self):
        """Give the request to the parser, which has nothing else to read from."""
        if self.parser is None:
            self.parser = http.get_parser(self.cfg, (), self.client)
        self.parser.unreader.unread(bytes(self.inbox.data))
        self.inbox = Inbox()


class MethodQueue(PollableMethodQueue):
    """gunicorn's way to call something on the loop from a thread."""

    def close(self):
        """Stay open: threads outlive the loop, and would write to a file that has the number by
        then, such as a connection to the mail server.
        """


class Worker(ThreadWorker):
    """gunicorn's threaded worker with requests received, and streams sent, on the loop.

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
            conn = Connection(self.cfg, sock, client, listener.getsockname())
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self.make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return False
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
        if arrival is not Arrival.UNFINISHED:
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            self.proceed(conn, arrival)
        elif sum(len(each.inbox.data) for each in self.pending_conns) > HELD_BYTES:
            self.discard_oldest(self.pending_conns)

    def proceed(self, conn, arrival: Arrival):
        if arrival is Arrival.UNFINISHED:
            self.await_request(conn)
        elif arrival is Arrival.GONE:
            self.discard(conn)
        elif arrival is Arrival.TOO_LONG:
            status = 431 if b"\r\n" in conn.inbox.data else 414
            refuse(conn.sock, status, conn.client, "a head without an end")
            self.linger(conn)
        else:
            conn.whole = arrival is Arrival.WHOLE
            self.enqueue_req(conn)

    # Being answered: in a thread.

    def handle_request(self, req, conn):
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise errors.InvalidHeader("HOST", req=req)  # RFC 9112 §3.2
        req._expected_100_continue = False  # the loop has asked for the body, if it wants it
        req.conn = conn
        if not conn.whole:
            req.force_close()
        try:
            return super().handle_request(req, conn)
        except (BlockingIOError, TimeoutError) as error:  # STALL_SECONDS are over
            raise ConnectionResetError(errno.ECONNRESET, "the answer is not read") from error

    def answer(self, environ, start_response):
        """Ask the application. If it gives a stream, send the head, and leave the rest to the loop.

        The connection ends with it: after minutes of an answer nobody misses it, and whatever its
        client says meanwhile need not be kept.
        """
        body = self.application(environ, start_response)
        if not isinstance(body, Stream):
            return body
        if environ["REQUEST_METHOD"] == "HEAD":
            body.close()
            return ()
        response = start_response.__self__
        try:
            response.force_close()
            response.send_headers()
        except BaseException:
            body.close()
            raise
        response.req.conn.sending = Sending(response.sock, body, response.chunked)
        response.chunked = False  # or gunicorn would send the last chunk now
        return ()

    def _keepalive_after(self, conn, keepalive):
        """Skip what the application has not read of a body: it is all here.

        gunicorn would close after 64 KiB of it, having promised to keep the connection.
        """
        try:
            return keepalive and conn.parser.finish_body()
        except errors.ParseException:
            return False

    def handle_error(self, req, client, addr, exc):
        """Answer what never reached the application, or failed outside it.

        gunicorn's log line for it would quote the request, and with it what may be a password.
        """
        status = next(status for kind, status in STATUS_OF if isinstance(exc, kind))
        req = req or getattr(exc, "req", None)
        cause = exc if status == 500 else type(exc).__name__
        refuse(client, status, addr, cause, getattr(req, "path", None) or "/")

    # Going out: on the loop again.

    def finish_request(self, conn, fs):
        """Send the stream that is the answer, or keep the connection, or close it."""
        if conn.sending:
            conn.parser = None  # and the request with it
            self.sender.begin(conn.sending, partial(self.leave, conn))
        elif fs.cancelled() or fs.exception() or not fs.result():
            self.leave(conn)
        elif following := conn.parser.unreader.take_buffered():  # pipelined
            conn.sock.setblocking(False)
            conn.inbox = Inbox(following)
            self.proceed(conn, conn.inbox.arrival())
        else:
            super().finish_request(conn, fs)

    def leave(self, conn):
        """Close a connection whose last answer was sent."""
        if conn.whole:
            self.discard(conn)
        else:
            self.linger(conn)

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
            if self.pending_conns[0].inbox.data:
                refuse(self.pending_conns[0].sock, 408, self.pending_conns[0].client, "late")
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


def refuse(
    sock: socket.socket, status: int, addr: tuple, cause: str | Exception, path: str = "/"
) -> None:
    """Answer with problem+json (RFC 9457) and no application, and say so in the log.

    The language is the default's: there is no head to ask for another. An exception as the cause
    is a fault of ours, told with its traceback; any other would quote the request.
    """
    metrics.requests_refused.inc(status)
    title, detail = REFUSALS[status]
    problem = {"type": "about:blank", "title": title, "status": status}
    body = json.dumps(problem | {"detail": detail, "instance": path}, ensure_ascii=False).encode()
    request_id = uuid.uuid4().hex
    head = (
        f"HTTP/1.1 {status} {title}\r\nDate: {util.http_date()}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Language: zh\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n\r\n"
    )
    with suppress(OSError):
        util.write_nonblock(sock, head.encode() + body)
    fault = cause if isinstance(cause, Exception) else None
    fields = {"request_id": request_id, "status": status, "peer": addr and addr[0]}
    log.log(
        logging.ERROR if fault else logging.INFO,
        "request_refused",
        exc_info=fault,
        extra={"fields": fields | {"cause": type(fault).__name__ if fault else cause}},
    )
