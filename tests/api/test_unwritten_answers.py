"""Answers in JSON whose run cannot be written, because the database is away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from flask import Flask
from peewee import sqlite3

from runtime.models.chats import Run
from runtime.services.chats import journal
from tests.agent.completions_server import DONE, CompletionsServer, Pause, finish, stream, text
from tests.api.test_agent_chats import in_background, wait_until
from tests.api.test_runs import keyed
from tests.conftest import Person

pytestmark = pytest.mark.in_process("locks the database of this process")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "AWAY_SECONDS", 0.4)


@contextmanager
def locked(app: Flask) -> Iterator[None]:
    """Nothing can be written meanwhile: all wait for the lock, as they do for a server."""
    with sqlite3.connect(app.extensions["db"].database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def slow(model: CompletionsServer) -> None:
    model.script(stream(text("Hel"), Pause(0.3), text("lo"), finish(), DONE))


def test_an_answer_that_cannot_be_written_is_refused_and_kept(
    model: CompletionsServer, app: Flask, alice: Person
):
    chat, replies = str(uuid4()), []
    slow(model)
    asking = in_background(lambda: replies.append(alice.chat("hello", chat)))
    wait_until(lambda: model.requests)
    with locked(app):
        asking.join(8)  # SQLite alone would wait for ten
        assert replies and not asking.is_alive()

    assert (replies[0].status_code, replies[0].mimetype) == (503, "application/problem+json")
    assert int(replies[0].headers["Retry-After"]) > 0
    wait_until(lambda: Run.get().finished_at)
    messages = alice.get(f"/agent-chats/{chat}/messages").json["messages"]
    assert [message["content"] for message in messages] == ["hello", "Hello"]
    assert alice.chat("and now?", chat).status_code == 200


def test_who_asks_for_it_again_waits_no_longer(model: CompletionsServer, app: Flask, alice: Person):
    body, replies = {"message": "hello"}, []

    def ask() -> None:
        replies.append(alice.post("/agent-chats", body, **keyed("k")))

    slow(model)
    asking = [in_background(ask)]
    wait_until(lambda: model.requests)
    asking.append(in_background(ask))
    wait_until(lambda: len(app.extensions["agent"].journal._logs.own) == 1)
    time.sleep(0.05)
    with locked(app):
        for thread in asking:
            thread.join(8)
        assert [reply.status_code for reply in replies] == [503, 503]

    wait_until(lambda: Run.get().finished_at)
    ask()
    assert (replies[-1].status_code, replies[-1].json["output"]) == (200, "Hello")
    assert len(model.requests) == 1


def test_the_threads_of_those_who_wait_are_free_again(
    model: CompletionsServer, app: Flask, alice: Person
):
    slow(model)
    asking = [in_background(alice.chat, "hello") for _ in range(4)]
    wait_until(lambda: len(model.requests) == 4)
    shared = app.extensions["agent"]
    with locked(app):
        for thread in asking:
            thread.join(8)
        assert not (shared.seats._taken or shared.places._taken)

    wait_until(lambda: not shared.journal.running)
    assert Run.select().where(Run.error.is_null(), Run.finished_at.is_null(False)).count() == 4
