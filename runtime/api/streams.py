"""Answers that come as they happen, as Server-Sent Events (WHATWG HTML §9.2)."""

import threading
from collections.abc import Callable, Iterator

from flask import Response, request

from runtime import json_text
from runtime.gunicorn.stream import Stream
from runtime.services.chats.entries import Entry
from runtime.services.chats.log import Log

MEDIA_TYPE = "text/event-stream"
# A comment keeps proxies from closing the connection when nothing else was sent. One at least
# every ten seconds is promised, and the server looks after its streams every second or so.
HEARTBEAT_SECONDS = 8
HEARTBEAT = b":\n\n"
# A long journal is read in pieces, so that other requests do not wait while one is made.
READ_ENTRIES = 256


class EventStream(Stream):
    """What follows one event of a run, until its last one.

    `leave` is called when the reader is gone.
    """

    heartbeat = HEARTBEAT
    heartbeat_seconds = HEARTBEAT_SECONDS

    def __init__(
        self,
        log: Log,
        leave: Callable[[], None],
        after: int,
        frame: Callable[[Entry], str],
    ) -> None:
        self._log = log
        self._leave = leave
        self._seen = after
        self._frame = frame
        self._wake: Callable[[], None] | None = None

    @property
    def has_more(self) -> bool:
        return self._seen < self._log.last

    @property
    def is_over(self) -> bool:
        # In this order: the last event is there before the log is over.
        return self._log.is_over and not self.has_more

    @property
    def is_elsewhere(self) -> bool:
        return not (self._log.is_own or self._log.is_over)

    def read(self) -> bytes:
        entries = self._log.after(self._seen, READ_ENTRIES)
        if entries:
            self._seen = entries[-1].number
        return self._written(entries).encode()

    def _written(self, entries: list[Entry]) -> str:
        """What is sent for some more entries."""
        return "".join(map(self._frame, entries))

    def listen(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._log.listen(wake)

    def close(self) -> None:
        if self._wake:
            self._log.leave(self._wake)
        self._leave()

    def __iter__(self) -> Iterator[bytes]:
        news = threading.Event()
        self.listen(news.set)
        # At once: the client does not wait for the head.
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


def respond(stream: EventStream, location: str | None = None) -> Response:
    """The answer that is this stream; it can be had again at the `location`."""
    # Passed through, so that the server meets the stream itself, not a generator over it.
    response = _answer(stream, direct_passthrough=True)
    if location:
        response.headers["Content-Location"] = location
    return response


def whole(frames: str) -> Response:
    """A stream of which all is known."""
    return _answer(frames)


def _answer(body: EventStream | str, **how: bool) -> Response:
    response = Response(body, content_type=MEDIA_TYPE, **how)
    # Proxies that gather or compress would keep back what has just happened.
    response.headers["Cache-Control"] = "no-store, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def frame(number: int, data: str) -> str:
    """One event, with the number to resume after; `data` is JSON, on one line for every reader.

    Journals of earlier releases have U+2028 and its like as they are.
    """
    return f"id: {number}\ndata: {json_text.escape(data)}\n\n"
