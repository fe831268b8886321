"""Answers that come as they happen, as Server-Sent Events (WHATWG HTML §9.2)."""

import threading
from collections.abc import Callable, Iterator

from flask import Response, request

from ..services.journal import Entry, Journal, Log

MEDIA_TYPE = "text/event-stream"
# A comment so often, when nothing else is sent, keeps proxies from closing the connection.
HEARTBEAT_SECONDS = 10
HEARTBEAT = b":\n\n"
# Where a server that can send without a thread finds the stream of an answer.
ENVIRON_KEY = "runtime.stream"


class EventStream:
    """What follows one event of a run, until its last one; `location` is where to have it again.

    Whoever sends it calls `read` for what is there by now, which may be nothing, until
    `is_over`; `listen` to be told of more; and `close` in the end, however it came.
    """

    def __init__(
        self,
        journal: Journal,
        log: Log,
        after: int,
        frame: Callable[[Entry], str],
        *,
        location: str | None = None,
    ) -> None:
        self.location = location
        self._journal = journal
        self._log = log
        self._seen = after
        self._frame = frame
        self._wake: Callable[[], None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether all was read."""
        return self._log.is_over and self._seen >= self._log.last

    def read(self) -> bytes:
        """What was not read before, of what is there; waits for nothing."""
        entries = self._log.after(self._seen)
        if entries:
            self._seen = entries[-1].number
        return "".join(map(self._frame, entries)).encode()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on another thread, whenever there is more to read."""
        self._wake = wake
        self._log.listen(wake)

    def close(self) -> None:
        if self._wake:
            self._log.leave(self._wake)
        self._journal.unfollow(self._log)

    def __iter__(self) -> Iterator[bytes]:
        """All of it, on the thread of whoever iterates."""
        news = threading.Event()
        self.listen(news.set)
        # At once, so that the head is sent and nobody waits for it.
        yield HEARTBEAT
        while not self.is_over:
            if data := self.read():
                yield data
            elif not news.wait(HEARTBEAT_SECONDS):
                yield HEARTBEAT
            news.clear()


def is_wanted() -> bool:
    """Whether who asks prefers a stream to JSON."""
    offered = ["application/json", MEDIA_TYPE]
    return request.accept_mimetypes.best_match(offered) == MEDIA_TYPE


def respond(stream: EventStream) -> Response:
    """The answer that is this stream."""
    request.environ[ENVIRON_KEY] = stream
    response = Response(stream, content_type=MEDIA_TYPE)
    # Proxies that gather or compress would keep back what has just happened.
    response.headers["Cache-Control"] = "no-store, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    if stream.location:
        response.headers["Content-Location"] = stream.location
    return response


def frame(number: int, data: str) -> str:
    """One event, with the number to resume after; `data` has no line breaks, as JSON has none."""
    return f"id: {number}\ndata: {data}\n\n"
