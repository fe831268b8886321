"""Answers of any length: JSON that is made piece by piece, as its reader takes it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response, current_app

from runtime import logs
from runtime.api import responses
from runtime.api.application import encode
from runtime.database.outages import is_outage
from runtime.errors import Failure
from runtime.gunicorn.stream import Stream

# A reader has two of them at most: one on its way, and the next.
PIECE_CHARS = 64 * 1024
# Together they want no more connections to the database than so many requests.
THREADS = 2

HEADERS = {
    "Content-Disposition": responses.header(
        "文件名", type="string", pattern='^attachment; filename=".+"$'
    )
}


class BrokenOff(ConnectionAbortedError):
    """There is no more of it: the connection ends before the document does."""


class Download(Stream):
    """JSON whose next piece is made on a thread while the one before is being sent.

    A slow reader holds no thread, no connection and at most two pieces. A failure in the middle
    breaks the connection off: no part passes for the whole.
    """

    # Between any two tokens, and a piece ends with one.
    heartbeat = b" "
    heartbeat_seconds = 8
    is_elsewhere = False

    def __init__(self, value: object):
        self._app = current_app._get_current_object()
        self._request_id = logs.request_id.get()
        self._pieces = _pieces(tokens(value))
        self._piece: bytes | None = None
        self._has_ended = False
        self._has_failed = False
        self._wake: Callable[[], None] | None = None

    @property
    def has_more(self) -> bool:
        return self._piece is not None or self._has_failed

    @property
    def is_over(self) -> bool:
        return self._has_ended and not self.has_more

    def read(self) -> bytes:
        """The piece that is there, and have the next one made. Raises BrokenOff."""
        if self._has_failed:
            raise BrokenOff
        piece, self._piece = self._piece, None
        if piece is None:
            return b""
        self._make_next()
        return piece

    def listen(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._make_next()

    def close(self) -> None:
        self._pieces = iter(())

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._made()) is not None:
            yield piece

    def _make_next(self) -> None:
        self._app.extensions["downloads"].submit(self._make)

    def _make(self) -> None:
        try:
            self._piece = self._made()
            self._has_ended = self._piece is None
        except BrokenOff:
            self._has_failed = True
        self._wake()

    def _made(self) -> bytes | None:
        """The next piece; None when there is none. Raises BrokenOff."""
        logs.request_id.set(self._request_id)
        try:
            with self._app.app_context():
                return next(self._pieces, None)
        except Exception as error:
            if isinstance(error, Failure) or is_outage(error):
                logs.event("download_broken_off", reason=type(error).__name__)
            else:
                logs.event("download_broken_off", level=logging.ERROR, exc_info=True)
            raise BrokenOff from error


def tokens(value: object) -> Iterator[str]:
    """JSON of a value whose lists may be iterators, which are read no sooner than they are due."""
    if isinstance(value, Iterator):
        yield "["
        for number, each in enumerate(value):
            if number:
                yield ","
            yield from tokens(each)
        yield "]"
    elif isinstance(value, dict) and any(isinstance(each, Iterator) for each in value.values()):
        for number, (name, each) in enumerate(value.items()):
            yield f'{"," if number else "{"}"{name}":'
            yield from tokens(each)
        yield "}"
    else:
        yield encode(value).decode().strip()


def _pieces(parts: Iterator[str]) -> Iterator[bytes]:
    """The parts, so many together that they are worth sending."""
    gathered, chars = [], 0
    for part in parts:
        gathered.append(part)
        chars += len(part)
        if chars >= PIECE_CHARS:
            yield "".join(gathered).encode()
            gathered, chars = [], 0
    yield f"{''.join(gathered)}\n".encode()


def respond(body: Iterable[bytes], filename: str) -> Response:
    """The answer that is this body, a Download as a rule, as a file to be kept."""
    # Passed through, so that the server meets the stream itself, not a generator over it.
    response = Response(body, mimetype="application/json", direct_passthrough=True)
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


def init_app(app: Flask) -> None:
    """Make the threads that write downloads; they start with the first."""
    app.extensions["downloads"] = ThreadPoolExecutor(THREADS, "downloads")
