"""The journals of runs where something of the system fails."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask

from runtime import clock
from runtime.agent import RunFinished, RunStarted
from runtime.agent.events import ToolCallArgs
from runtime.models import Chat, Run, RunEvent, User
from runtime.services.journal import LEASE_SECONDS, Journal, Log
from tests.servers import wait_until


@pytest.fixture
def journal(app: Flask) -> Iterator[Journal]:
    with app.app_context():
        yield app.extensions["agent"].journal


@pytest.fixture
def run(journal: Journal) -> Run:
    user = User.create(username="ada", email="ada@example.org", password_hash="")
    lease_until = clock.now() + timedelta(seconds=LEASE_SECONDS)
    return Run.create(chat=Chat.create(user=user), message="hello", lease_until=lease_until)


def wait_for_end(log: Log, seconds: float = 30) -> bool:
    waiting = threading.Thread(target=log.wait_for_end, daemon=True)
    waiting.start()
    waiting.join(seconds)
    return not waiting.is_alive()


def test_a_journal_of_many_rows_that_cannot_be_joined_is_written(journal: Journal, run: Run):
    # Neither database takes as many values in one statement.
    log = journal.begin(run.id)
    journal.append(log, RunStarted(str(run.id)))
    for number in range(1, 11):
        journal.append(log, ToolCallArgs(str(run.id), "first", "x"))
        wait_until(lambda written=number: log.last > written, 5, "it is written")
    for number in range(70_000):
        journal.append(log, ToolCallArgs(str(run.id), f"call_{number}", "x"))
    journal.append(log, RunFinished(str(run.id), ""))

    assert wait_for_end(log)
    assert RunEvent.select().where(RunEvent.run == run.id).count() == log.last - 9


def test_a_system_without_threads_delays_what_is_written_and_loses_nothing(
    journal: Journal, run: Run, monkeypatch
):
    log = journal.begin(run.id)

    def fail(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as fault:
        fault.setattr(threading.Thread, "start", fail)
        journal.append(log, RunFinished(str(run.id), "Hello"))
        time.sleep(0.3)

    assert wait_for_end(log, 5)
    assert Run.get_by_id(run.id).finished_at
