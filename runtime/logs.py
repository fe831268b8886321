"""One line an event, the request's id on it, secrets kept out.

`event("session_started", user_id=…)` writes `event=session_started user_id=…` where a person
reads, and one JSON object a line where a machine does.
"""

import json
import logging
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any, TextIO

from runtime import json_text

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_logger = logging.getLogger("runtime")
_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


def event(
    name: str,
    *,
    level: int = logging.INFO,
    exc_info: BaseException | bool | None = None,
    **fields: object,
) -> None:
    """Log one event; its fields must hold no password, code or token, nor a part of one.

    With `exc_info` the traceback follows: of that exception, or with True of the one being handled.
    """
    _logger.log(level, name, exc_info=exc_info, extra={"fields": fields})


def _encode(line: dict) -> str:
    return _without_surrogates(json_text.escape(_json(line)))


def _without_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _line(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    if record.name != "runtime":
        line["logger"] = record.name
    if request_id.get():
        line["request_id"] = request_id.get()
    return line | getattr(record, "fields", {})


class JsonFormatter(logging.Formatter):
    """One JSON object a line, of an exception only so much that a pipe takes it in one piece."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record)
        if not record.exc_info:
            return _encode(line)
        exception = self.formatException(record.exc_info).encode(errors="backslashreplace")
        line["exception"] = exception.decode()
        excess = len(_encode(line).encode()) + 1 - select.PIPE_BUF
        if excess > 0:  # The end tells most.
            line["exception"] = exception[excess:].decode(errors="ignore")
        return _encode(line)


class ConsoleFormatter(logging.Formatter):
    """`name=value` pairs for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record)
        text = f"{line.pop('time')} {line.pop('level').upper():7} {line.pop('event')}"
        text += "".join(f" {name}={value}" for name, value in line.items())
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return _without_surrogates(text)


class _Stdout(logging.StreamHandler):
    """Writes to stdout, or to stderr if `name_of_stream` says so: as `sys` has them by then."""

    name_of_stream = "stdout"

    def __init__(self):
        logging.Handler.__init__(self)  # StreamHandler's own sets the stream for good.

    @property
    def stream(self) -> TextIO:
        return getattr(sys, self.name_of_stream)


_stdout = _Stdout()


@contextmanager
def on_stderr() -> Iterator[None]:
    """Let the log go to stderr: stdout is a command's own, which another may read."""
    _stdout.name_of_stream = "stderr"
    try:
        yield
    finally:
        _stdout.name_of_stream = "stdout"


def init_app(app) -> None:
    """Send this service's log to stdout: in lines for a person at a terminal, else in JSON."""
    for_a_person = sys.stdout.isatty()
    _stdout.setFormatter(ConsoleFormatter() if for_a_person else JsonFormatter())
    for stream in (sys.stdout, sys.stderr):
        # JSON is UTF-8 in any locale, and no character may cost a line. Tests replace the streams.
        with suppress(ValueError):
            if isinstance(stream, TextIOWrapper):
                encoding = None if for_a_person else "utf-8"
                stream.reconfigure(encoding=encoding, errors="backslashreplace")
    _logger.addHandler(_stdout)
    _logger.setLevel(logging.INFO)
