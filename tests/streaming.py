"""A client of the service's streams that loses its connection whenever a test wants it to."""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection

PREFIX = "/api/v1"


class Refused(Exception):
    """An answer that is no stream; `status` is its status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status


def until(holds: Callable[[], object]) -> Iterator[int]:
    """Pieces to listen to until something holds."""
    while not holds():
        yield 65536


@dataclass
class Listener:
    """One message, and what was heard of its run, over however many connections.

    It comes back to where the first answer said, or `asks_again` with its key.
    """

    token: str
    message: str = "hello"
    session_id: str | None = None
    key: str | None = None
    asks_again: bool = False
    where: str | None = None
    events: list[tuple[int, dict]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.events[-1][0] if self.events else 0

    @property
    def text(self) -> str:
        """The words of all that was heard."""
        return "".join(e["delta"] for _, e in self.events if e["type"] == "TEXT_MESSAGE_CONTENT")

    @property
    def is_over(self) -> bool:
        return bool(self.events) and self.events[-1][1]["type"] in ("RUN_FINISHED", "RUN_ERROR")

    @property
    def chat(self) -> str:
        return self.where.split("/")[4]

    @property
    def run(self) -> str:
        return self.where.split("/")[6]

    def listen(self, port: int, pieces: Iterator[int] | None = None, *, reset: bool = True) -> None:
        """Hear the run on this port, from where it was heard last: to its end, or for as long as
        there are `pieces`, each so many bytes at most; then cut the connection.

        Raises Refused, OSError when the connection is lost, http.client.HTTPException.
        """
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            answer = self._ask(connection)
            heard = b""
            for size in pieces or iter(lambda: 65536, None):
                piece = answer.read1(size)
                if not piece:
                    return
                heard = self._take(heard + piece)
        finally:
            if reset and connection.sock:
                linger = struct.pack("ii", 1, 0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

    def _ask(self, connection: HTTPConnection):
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
        if self.last:
            headers["Last-Event-ID"] = str(self.last)
        if self.where and not self.asks_again:
            connection.request("GET", self.where, headers=headers)
        else:
            if self.key:
                headers["Idempotency-Key"] = self.key
            headers["Content-Type"] = "application/json"
            body = {"message": self.message, "session_id": self.session_id}
            connection.request("POST", f"{PREFIX}/agent-chats", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Refused(answer.status, answer.read())
        self.where = answer.headers["Content-Location"]
        return answer

    def _take(self, heard: bytes) -> bytes:
        """Keep the events that are here as a whole; what is left of the rest."""
        *frames, rest = heard.split(b"\n\n")
        for frame in frames:
            if not frame.startswith(b":"):
                number, data = frame.decode().splitlines()
                self.events.append((int(number[4:]), json.loads(data[6:])))
        return rest
