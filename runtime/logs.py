"""One line an event, the request's id on it, secrets kept out.

`event("session_started", user_id=…)` writes `event=session_started user_id=…` where a person
reads, and one JSON object a line where a machine does.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_logger = logging.getLogger("runtime")


def event(name: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one event; its fields must hold no password, code or token, nor a part of one."""
    _logger.log(level, name, extra={"fields": fields})


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
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """`name=value` pairs for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record)
        text = f"{line.pop('time')} {line.pop('level').upper():7} {line.pop('event')}"
        text += "".join(f" {name}={value}" for name, value in line.items())
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Stdout(logging.StreamHandler):
    """Writes to whatever sys.stdout is by then."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stdout


_stdout = _Stdout()


def init_app(app) -> None:
    """Send this service's log to stdout: in lines for a person at a terminal, else in JSON."""
    _stdout.setFormatter(ConsoleFormatter() if sys.stdout.isatty() else JsonFormatter())
    _logger.addHandler(_stdout)
    _logger.setLevel(logging.INFO)
