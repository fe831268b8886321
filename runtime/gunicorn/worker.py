"""gunicorn's threaded worker, with requests received and answers sent on its loop, not in threads.

gunicorn's own gives every connection a thread, reads the request there for as long as the client
pleases, and closes connections on the loop that accepts all others: 64 clients that say nothing
stop it. `Worker` receives requests on the loop, which waits for any number of clients at once, and
gives one a thread when it has arrived whole. Nothing on the loop waits for one client, and what is
held is held for a bounded time. The loop also sends what a client does not take of an answer at
once.

TLS and HTTP/2 are the router's in front.
"""

import errno
import selectors
import socket
import time
from collections import deque
from functools import partial

from runtime.gunicorn import bounds
from runtime.gunicorn.accepting import AcceptingWorker
from runtime.gunicorn.connection import close_at_once
from runtime.gunicorn.method_queue import MethodQueue
from runtime.gunicorn.refusals import refuse
from runtime.gunicorn.request_buffer import SMALL_BODY_BYTES, RequestState
from runtime.gunicorn.sender import Sender
from runtime.gunicorn.sending import Sending
from runtime.gunicorn.stream import Remainder


class Worker(AcceptingWorker):
    """gunicorn's threaded worker with requests received, and answers sent, on the loop."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.method_queue = MethodQueue()
        self.closing_conns = deque()
        self.sender: Sender | None = None
        self.held = 0
        self.has_runs = False
        self.interrupts_at = None

    def init_process(self):
        # The master counts the same seconds, then kills: the mail's must fit in.
        self.cfg.set("graceful_timeout", bounds.STOP_SECONDS - bounds.DRAIN_SECONDS)
        super().init_process()

    def run(self):
        self.sender = Sender(self.poller, self.method_queue.defer, bounds.STALL_SECONDS)
        super().run()

    # Coming in: everything here runs on the loop and never waits.

    def await_request(self, conn):
        conn.timeout = time.monotonic() + bounds.REQUEST_SECONDS
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
        state = conn.receive()
        if state is RequestState.INCOMPLETE:
            self.hold(conn)
            self.keep_within_bounds()
        else:
            self.stop_waiting_for(conn)
            self.proceed(conn, state)

    def stop_waiting_for(self, conn):
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)

    def proceed(self, conn, state: RequestState):
        self.hold(conn)
        if state is RequestState.INCOMPLETE:
            self.await_request(conn)
            self.keep_within_bounds()
        elif state is RequestState.DISCONNECTED:
            self.discard(conn)
        elif state is RequestState.HEAD_TOO_LONG:
            status = 431 if b"\r\n" in conn.request_buffer.known else 414
            self.refuse(conn, status, "a head without an end")
        elif self.keep_within_bounds(conn):
            conn.is_complete = state is RequestState.COMPLETE
            self.enqueue_req(conn)

    def hold(self, conn):
        """Count what the connection's request holds."""
        self.held += conn.request_buffer.size - conn.held
        conn.held = conn.request_buffer.size

    def release(self, conn):
        """Count nothing more of it: it is answered."""
        self.held -= conn.held
        conn.held = 0

    def keep_within_bounds(self, newcomer=None) -> bool:
        """Refuse the longest requests until all hold HELD_BYTES; whether the newcomer may stay.

        A request that has a thread, or waits for one, stays. So does every small one.
        """
        while self.held > bounds.HELD_BYTES:
            waiting = (*self.pending_conns, newcomer) if newcomer else self.pending_conns
            longest = max(waiting, key=lambda conn: conn.held, default=None)
            if longest is None or longest.held <= SMALL_BODY_BYTES:
                break
            if longest is not newcomer:
                self.stop_waiting_for(longest)
            self.refuse(longest, 503, "no memory for it")
            if longest is newcomer:
                return False
        return True

    def refuse(self, conn, status: int, cause: str):
        """Refuse a request that no thread has seen."""
        refuse(conn.sock, status, conn.client, cause, conn.request_buffer.known)
        self.release(conn)
        conn.forget_request()
        self.linger(conn)

    # Going out: on the loop again.

    def finish_request(self, conn, fs):
        """Send what the client did not take at once, then `continue_connection`."""
        self.release(conn)
        unsent = conn.send_buffer.take()
        if conn.sock.fileno() < 0:  # closed, since the answer broke off
            self.discard(conn)
        elif conn.sending:
            conn.parser = None  # and the request with it
            self.sender.begin(conn.sending, partial(self.end, conn))
        elif unsent:
            sending = Sending(conn.sock, Remainder(), unsent=unsent)
            self.sender.begin(sending, partial(self.continue_if, conn, fs))
        else:
            self.continue_connection(conn, fs)

    def continue_if(self, conn, fs, is_sent: bool):
        """Go on when the answer was taken."""
        if is_sent:
            self.continue_connection(conn, fs)
        else:
            self.nr_conns -= 1
            conn.reset()

    def continue_connection(self, conn, fs):
        """Answer the next request, or wait for one, or close the connection."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self.close_or_linger(conn)
            return
        conn.sock.setblocking(False)
        state = conn.begin_next()
        if conn.request_buffer.size:  # pipelined
            self.proceed(conn, state)
        else:
            super().finish_request(conn, fs)

    def end(self, conn, _is_sent: bool):
        """Close a connection after a stream: what was sent may still be on its way."""
        self.close_or_linger(conn)

    def close_or_linger(self, conn):
        """Close a connection whose last answer was sent."""
        if conn.is_complete:
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
        conn.timeout = time.monotonic() + bounds.LINGER_SECONDS
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
            if late.request_buffer.size:
                refuse(late.sock, 408, late.client, "late", late.request_buffer.known)
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
        self.release(conn)
        self.nr_conns -= 1
        close_at_once(conn.sock)

    # Stopping

    def _cap_keepalive(self, deadline):
        """When stopping, wait no longer for an unfinished request than for a next one."""
        super()._cap_keepalive(deadline)
        for conn in (*self.pending_conns, *self.closing_conns):
            conn.timeout = min(conn.timeout, deadline)
        seconds = bounds.STOP_SECONDS - bounds.DRAIN_SECONDS - bounds.INTERRUPT_SECONDS
        self.interrupts_at = time.monotonic() + seconds
        self.look_after_runs()

    def look_after_runs(self):
        """When stopping, stay for runs that have no reader, and end those that take too long.

        Again and again: requests that were there before may still begin some.
        """
        agent = self.extensions.get("agent")
        if agent is None or self.interrupts_at is None:
            return
        if time.monotonic() >= self.interrupts_at:
            agent.journal.interrupt(0)
        has_runs = agent.journal.running > 0
        # gunicorn's loop goes on while there are connections.
        self.nr_conns += has_runs - self.has_runs
        self.has_runs = has_runs
