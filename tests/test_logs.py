"""The lines of the log."""

import json
import logging
import select
import sys

from runtime.logs import JsonFormatter


def test_a_line_with_an_exception_fits_into_a_pipe_in_one_piece():
    try:
        raise RuntimeError("堆栈" * 4000 + " the end")
    except RuntimeError:
        record = logging.makeLogRecord({"msg": "unhandled_exception", "exc_info": sys.exc_info()})
    line = JsonFormatter().format(record) + "\n"

    assert len(line.encode()) <= select.PIPE_BUF
    assert json.loads(line)["exception"].endswith("the end")
