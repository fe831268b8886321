"""One line an event, the request's id on it, secrets kept out.

`event("session_started", user_id=…)` writes `event=session_started user_id=…` where a person
reads, and one JSON object a line where a machine does.
"""

import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from runtime import wire

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_logger = logging.getLogger("runtime")
_json = json.JSONEncoder(ensure_ascii=False, default=str).encode
_STARTED_AT = time.time()
# What every record has; the names are None, as where logging is told not to look for them.
_BLANK = vars(logging.LogRecord(_logger.name, logging.INFO, "", 0, "", (), None)) | dict.fromkeys(
    ("processName", "threadName", "taskName")
)


def event(name: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one event; its fields must hold no password, code or token, nor a part of one."""
    if _logger.isEnabledFor(level):
        _logger.handle(_Event(level, name, fields))


class _Event(logging.LogRecord):
    """A record that tells what happened, and neither a thread's name nor the line of code.

    To find those out takes logging longer than all the rest of a line. A factory of records that
    somebody has set is not asked.
    """

    def __init__(self, level: int, name: str, fields: dict):
        now = time.time()
        vars(self).update(
            _BLANK,
            levelno=level,
            levelname=logging.getLevelName(level),
            msg=name,
            created=now,
            msecs=now % 1 * 1000,
            relativeCreated=(now - _STARTED_AT) * 1000,
            process=os.getpid(),
            thread=threading.get_ident(),
            fields=fields,
        )


def _encode(line: dict) -> str:
    return wire.escape(_json(line))


def _line(record: logging.LogRecord) -> dict:
    line = {
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
        excess = len(_encode(line).encode(errors="backslashreplace")) + 1 - select.PIPE_BUF
        if excess > 0:  # The end tells most.
            line["exception"] = exception[excess:].decode(errors="ignore")
        return _encode(line)


class ConsoleFormatter(logging.Formatter):
    """`name=value` pairs for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record)
        text = f"{line.pop('time')} {line.pop('level').upper():7} {line.pop('event')}"
        text += "".join(f" {name}={value}" for name, value in line.items())
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Stdout(logging.Handler):
    """Writes to whatever sys.stdout is by then, a line in one system call and under no lock.

    Or to stderr, if its `stream` says so.

    While a thread writes others run, and all that have a line to write would queue for its lock.
    Up to PIPE_BUF bytes, 4,096 on Linux, stay together in a pipe.
    """

    stream = "stdout"

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            self.emit(record)
        except Exception:
            self.handleError(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n"
        stream = getattr(sys, self.stream)
        try:
            descriptor = stream.fileno()
        except OSError:  # a StringIO
            stream.write(line)
            return
        data = line.encode(errors="backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]


_stdout = _Stdout()


@contextmanager
def on_stderr() -> Iterator[None]:
    """Let the log go to stderr: stdout is a command's own, which another may read."""
    _stdout.stream = "stderr"
    try:
        yield
    finally:
        _stdout.stream = "stdout"


def init_app(app) -> None:
    """Send this service's log to stdout: in lines for a person at a terminal, else in JSON."""
    _stdout.setFormatter(ConsoleFormatter() if sys.stdout.isatty() else JsonFormatter())
    _logger.addHandler(_stdout)
    _logger.setLevel(logging.INFO)
