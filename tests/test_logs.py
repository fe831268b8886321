"""The lines of the log."""

import json
import logging
import os
import select
import subprocess
import sys
import threading

import pytest

from runtime import logs
from runtime.config.settings import ROOT
from runtime.logs import JsonFormatter


def test_a_line_with_an_exception_fits_into_a_pipe_in_one_piece():
    try:
        raise RuntimeError("堆栈" * 4000 + " the end")
    except RuntimeError:
        record = logging.makeLogRecord({"msg": "unhandled_exception", "exc_info": sys.exc_info()})
    line = JsonFormatter().format(record) + "\n"

    assert len(line.encode()) <= select.PIPE_BUF
    assert json.loads(line)["exception"].endswith("the end")


def test_an_event_is_a_record_for_any_handler(caplog: pytest.LogCaptureFixture):
    """An error tracker's, say, which asks for more than ours does."""
    caplog.set_level(logging.INFO, "runtime")
    logs.event("session_started", level=logging.WARNING, user_id=7)
    [event] = caplog.records

    form = logging.Formatter("%(process)d %(thread)d %(name)s %(message)s")
    whose = f"{os.getpid()} {threading.get_ident()}"
    assert form.format(event) == f"{whose} runtime session_started"
    assert event.fields == {"user_id": 7}


def test_a_line_goes_to_stdout_as_it_is_now_and_breaks_on_no_character(capsys):
    logs.init_app(None)
    logs.event("request", path="/\ud800")

    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["path"]) == ("request", "/\ud800")


def test_no_character_costs_a_line_in_any_locale(tmp_path):
    program = r"""
from app import create_app
create_app({"INSTANCE_PATH": "."})
from runtime import logs
logs.event("mail_failed", error="收件人 \U0001f600 \ud800")
"""
    environ = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, check=True
    )

    (line,) = [each for each in done.stdout.splitlines() if b"mail_failed" in each]
    assert "收件人 😀" in json.loads(line)["error"]
    assert b"Traceback" not in done.stderr
