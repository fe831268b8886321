"""A real server on localhost that speaks chat completions, one scripted Reply a request.

A script may have a function too, which makes the Reply of the Request.

    with CompletionsServer(answer("Hel", "lo")) as server:
        provider = OpenAIProvider(server.url, "key", "model")

It records the requests it saw. The last reply is repeated when the script has run out.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Pause:
    """Send nothing for so long."""

    seconds: float


@dataclass(frozen=True)
class Drip:
    """Send a text again and again, for ever."""

    text: str
    every_seconds: float


class Cut:
    """What ends a connection before its answer is complete."""


CLOSE, RESET, HANG = Cut(), Cut(), Cut()

DONE = "data: [DONE]\n\n"
EVENT_STREAM = "text/event-stream"

Part = dict[str, Any] | str | bytes | Pause | Drip | Cut


@dataclass(frozen=True)
class Reply:
    """One answer: dicts go out as events, texts as they are. Status 0 sends no headers at all."""

    parts: tuple[Part, ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = EVENT_STREAM


def stream(*parts: Part, **kwargs: Any) -> Reply:
    """A streamed answer."""
    return Reply(parts, **kwargs)


def plain(body: Any, status: int = 200, **headers: str) -> Reply:
    """An answer of one JSON value; `Retry_After="1"` is a header."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply((json.dumps(body),), status, headers, "application/json")


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """One object of a stream."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def text(content: str | None) -> dict[str, Any]:
    """A piece of text."""
    return chunk({"content": content})


def call(
    index: int | None = None,
    call_id: str | None = None,
    name: str | None = None,
    arguments: Any = None,
) -> dict[str, Any]:
    """A piece of a tool call; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    function = {key: value for key, value in function.items() if value is not None}
    fields = {"index": index, "id": call_id, "function": function}
    return chunk({"tool_calls": [{k: v for k, v in fields.items() if v is not None}]})


def finish(reason: str = "stop") -> dict[str, Any]:
    """The object with the finish_reason."""
    return chunk({}, reason)


def usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """The object with the usage, which has no choices."""
    counts = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return {"choices": [], "usage": counts}


def answer(*pieces: str) -> Reply:
    """A whole, well-formed answer of text."""
    return stream(*(text(piece) for piece in pieces), finish(), usage(7, 3), DONE)


def tool_answer(name: str, arguments: str, call_id: str = "call_1") -> Reply:
    """A whole, well-formed answer that calls one tool."""
    return stream(call(0, call_id, name, arguments), finish("tool_calls"), usage(5, 2), DONE)


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


Script = Reply | Callable[[Request], Reply]


class CompletionsServer:
    """The server; `url` is the base URL for a provider. Stops with its `with` block."""

    def __init__(self, *replies: Script) -> None:
        self.requests: list[Request] = []
        self.left_at: float | None = None
        self.left = threading.Event()
        self.stopping = threading.Event()
        self._replies = list(replies) or [answer("Hello")]
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def script(self, *replies: Script) -> None:
        """Answer the next requests with these."""
        with self._lock:
            self._replies = list(replies)

    def next_reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        return reply(request) if callable(reply) else reply

    def client_left(self) -> None:
        """Note that a client went away while its answer was hanging or dripping."""
        self.left_at = time.monotonic()
        self.left.set()

    def __enter__(self) -> "CompletionsServer":
        threading.Thread(target=self._server.serve_forever, args=(0.002,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(server: CompletionsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Nagle's algorithm would hold small events back.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Request(self.path, dict(self.headers), body, self.client_address[1])
            try:
                self._send(server.next_reply(request))
            except OSError:
                self.close_connection = True
                server.client_left()

        def _send(self, reply: Reply) -> None:
            if reply.status:
                self._send_headers(reply)
            for part in reply.parts:
                if not self._send_part(part):
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")

        def _send_headers(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Transfer-Encoding", "chunked")
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _send_part(self, part: Part) -> bool:
            """Whether the connection is still there."""
            match part:
                case Pause(seconds):
                    time.sleep(seconds)
                case Drip(drop, every_seconds):
                    while not server.stopping.wait(every_seconds):
                        self._write(drop)
                    return False
                case Cut():
                    self._cut(part)
                    return False
                case dict():
                    self._write(f"data: {json.dumps(part)}\n\n")
                case _:
                    self._write(part)
            return True

        def _write(self, part: str | bytes) -> None:
            data = part.encode() if isinstance(part, str) else part
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

        def _cut(self, how: Cut) -> None:
            if how is HANG:
                self._wait_for_client()
            if how is RESET:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        def _wait_for_client(self) -> None:
            self.connection.settimeout(0.05)
            while not server.stopping.is_set():
                try:
                    self.connection.recv(1)
                except TimeoutError:
                    continue
                except OSError:
                    pass
                return server.client_left()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
