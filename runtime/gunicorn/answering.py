"""What a worker does in its threads: ask the application about a request that is here whole.

No thread reads from a socket, or waits to write to one.
"""

import io
import re
import threading

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from runtime.gunicorn import bounds
from runtime.gunicorn.refusals import refuse, status_of
from runtime.gunicorn.request_buffer import SMALL_BODY_BYTES
from runtime.gunicorn.sending import Sending
from runtime.gunicorn.stream import Stream

REQUEST_LINE = re.compile(rb"(?:\r\n)?([A-Z]+) ([^ \r\n]+) HTTP/")


class AnsweringWorker(ThreadWorker):
    """gunicorn's threaded worker; its threads are given a `Connection` with a request."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.answering = threading.local()  # which connection, for a refusal in a thread
        self.application = None

    @property
    def extensions(self) -> dict:
        """The parts of the application, once it is loaded."""
        return getattr(self.application, "extensions", {})

    def load_wsgi(self):
        super().load_wsgi()
        self.application, self.wsgi = self.wsgi, self.answer

    def body_limit(self, head: bytes) -> int:
        """How long a body of this request may be."""
        ask = getattr(self.application, "max_body_bytes", None)
        line = REQUEST_LINE.match(head)
        if ask is None or line is None:
            return bounds.BODY_BYTES
        method, target = line[1].decode(), line[2].decode("latin-1")
        try:
            path = util.unquote_to_wsgi_str(util.split_request_uri(target).path)
        except ValueError:  # the parser refuses it
            return SMALL_BODY_BYTES
        return ask(method, path.encode("latin-1").decode(errors="replace"))

    def handle(self, conn):
        self.answering.conn = conn
        return super().handle(conn)

    def handle_request(self, req, conn):
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise errors.InvalidHeader("HOST", req=req)  # RFC 9112 §3.2
        if conn.request_buffer.fault:
            raise conn.request_buffer.fault
        if any(k == "TRANSFER-ENCODING" and v.lower() != "chunked" for k, v in req.headers):
            raise errors.UnsupportedTransferCoding("not undone here")
        req._expected_100_continue = False  # the loop has asked for the body, if it wants it
        req.conn = conn
        if not conn.is_complete:
            req.force_close()
        if conn.request_buffer.has_body:
            req.body, conn.request_buffer.body = io.BytesIO(conn.request_buffer.body), bytearray()
        try:
            return super().handle_request(req, conn)
        finally:
            req.body = io.BytesIO()  # a connection that is kept has its last request still

    def answer(self, environ, start_response):
        """Ask the application. If it gives a stream, send the head, and leave the rest to the loop.

        The connection ends with it: after minutes of an answer it is not missed, and what its
        client says meanwhile need not be kept.
        """
        response = start_response.__self__
        conn = response.req.conn
        response.sock = conn.send_buffer
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
        unsent = conn.send_buffer.take()
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
        head = self.answering.conn.request_buffer.head
        refuse(client, status, addr, cause, head, getattr(req, "path", None) or "/")
