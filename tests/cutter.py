"""A router that cuts streams: after so many events, in the ways that connections end."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

# The client should have read what came before a reset.
SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Cut:
    """End a stream after its event of this number.

    "reset" breaks the connection, "torn" does so in the middle of the next event, "end" ends the
    answer as if it were complete; "mute" breaks the connection before a word of the answer.
    """

    after: int
    how: str = "reset"


class Cutter:
    """Passes requests on to `port`; `cut` says by a request's body what to do to its answer."""

    def __init__(self, port: int, cut: Callable[[bytes], Cut | None]) -> None:
        self._server_port = port
        self._cut = cut
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "Cutter":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), client.makefile("rb") as requests:
            head = _head(requests)
            body = requests.read(int(_header(head, "content-length") or 0))
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                server.sendall(head.replace("\r\n", "\r\nConnection: close\r\n", 1).encode() + body)
                with server.makefile("rb") as answer:
                    _pass_on(answer, client, self._cut(body))


def _head(stream: BinaryIO) -> str:
    lines = iter(stream.readline, b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"".join([*kept, b"\r\n"]).decode("latin-1")


def _header(head: str, name: str) -> str | None:
    lines = [line.partition(":") for line in head.split("\r\n")]
    return next((value.strip() for key, _, value in lines if key.lower() == name), None)


def _pass_on(answer: BinaryIO, client: socket.socket, cut: Cut | None) -> None:
    head = _head(answer).replace("\r\n", "\r\nConnection: close\r\n", 1)
    if cut and cut.how == "mute":
        return
    client.sendall(head.encode("latin-1"))
    if _header(head, "transfer-encoding") != "chunked":
        client.sendall(answer.read())
        return
    events = 0
    for frame in _frames(answer):
        if cut and events == cut.after:
            return _end(client, frame, cut.how)
        client.sendall(_chunk(frame))
        events += frame.startswith(b"data:") or b"\ndata:" in frame
    client.sendall(_chunk(b""))


def _end(client: socket.socket, frame: bytes, how: str) -> None:
    if how == "end":
        client.sendall(_chunk(b""))
        return
    if how == "torn":
        client.sendall(_chunk(frame[: len(frame) // 2]))
    time.sleep(SETTLE_SECONDS)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _frames(answer: BinaryIO) -> Iterator[bytes]:
    """The Server-Sent Events of a chunked answer, one by one."""
    rest = b""
    while size := int(answer.readline(), 16):
        rest += answer.read(size)
        answer.read(2)
        *frames, rest = rest.split(b"\n\n")
        yield from (frame + b"\n\n" for frame in frames)
