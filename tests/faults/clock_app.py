"""The service on a machine whose clock is wrong by what the file CLOCK_FILE says, in seconds.

`gunicorn -c python:runtime.server tests.faults.clock_app:app`
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from runtime import clock

_file = Path(os.environ["CLOCK_FILE"])
_right = time.time


def _wrong() -> float:
    return _right() + float(_file.read_text())


# Before anything takes the functions for its own.
time.time = _wrong
clock.now = lambda: datetime.fromtimestamp(_wrong(), UTC)

from wsgi import app  # noqa: E402, F401
