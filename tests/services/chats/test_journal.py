"""The journals of runs where something of the system fails."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from flask import Flask

from runtime import clock
from runtime.agent.events import RunFinished, RunStarted, ToolCallArgs
from runtime.database.base import db
from runtime.database.postgres import PostgresDatabase
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.models.users import User
from runtime.services.chats.journal import Journal
from runtime.services.chats.keeper import LEASE_SECONDS
from runtime.services.chats.writing import WRITE_ON_POSTGRES
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

    assert log.wait_for_end(30)
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

    assert log.wait_for_end(5)
    assert Run.get_by_id(run.id).finished_at


def test_a_write_looks_at_no_run_that_it_is_not_about(run: Run):
    """However many have ended since the last vacuum, once Postgres knows how many there are."""
    if not isinstance(db.obj, PostgresDatabase):
        pytest.skip("the statement is Postgres'")
    now = clock.now()
    ended = [(run.chat_id, "hello", now, now)] * 2000
    fields = [Run.chat, Run.message, Run.lease_until, Run.finished_at]
    Run.insert_many(ended, fields=fields).execute()
    db.execute_sql("ANALYZE runs")
    runs, endings = f'["{run.id}"]', f'[["{run.id}", null, 1, 1]]'
    events = f'[["{run.id}", 1, "RUN_STARTED", "{{}}"]]'
    asked = f"EXPLAIN (FORMAT JSON) {WRITE_ON_POSTGRES}"
    [[[plan]]] = db.execute_sql(asked, (runs, endings, events)).fetchall()

    scans = [node for node in nodes(plan["Plan"]) if "Scan" in node["Node Type"]]
    of_runs = [node for node in scans if node.get("Relation Name") == "runs"]
    assert of_runs and {node.get("Index Name") for node in of_runs} == {"runs_pkey"}


def test_a_write_does_not_wait_for_who_holds_a_run_that_has_ended(run: Run):
    """An account's erasure, say, which takes those in an order of its own."""
    if not isinstance(db.obj, PostgresDatabase):
        pytest.skip("the statement is Postgres'")
    Run.update(finished_at=clock.now()).execute()
    with psycopg.connect(db.obj.database) as other:
        other.execute("SELECT FROM runs WHERE id = %s FOR UPDATE", (run.id,))
        assert db.fetch_all(WRITE_ON_POSTGRES, (f'["{run.id}"]', "[]", "[]")) == []


def nodes(plan: dict) -> Iterator[dict]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)
