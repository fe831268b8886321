"""What HTTP cannot reach: how a chat is named, and what happens in the middle of its deletion."""

import json
import time
from datetime import timedelta

import pytest
from flask import Flask

from runtime import clock
from runtime.database.base import db
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.services.chats import history
from runtime.services.chats.titles import TITLE_CHARS, named_after
from tests.api.test_agent_chats import in_background
from tests.conftest import Person


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("hello", "hello"),
        ("  two\t words \u3000 ", "two words"),
        ("\n \r\n first\u2028second", "first"),
        ("   \n\t", ""),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 60 + "…"),
        ("问" * 60, "问" * 60),
        ("东京的天气怎么样？" * 10, ("东京的天气怎么样？" * 10)[:60] + "…"),
        ("word " * 20, "word " * 11 + "word…"),
        ("x" * 60 + " more", "x" * 60 + "…"),
        ("a b " + "x" * 90, "a b " + "x" * 56 + "…"),
        # An accent, a family and a skin's colour stay with what they belong to.
        ("x" * 59 + "e\u0301" + "x", "x" * 59 + "…"),
        ("x" * 57 + "👩\u200d👧x", "x" * 57 + "👩\u200d👧…"),
        ("x" * 58 + "👩\u200d👧", "x" * 58 + "…"),
        ("x" * 59 + "👩\u200d👧", "x" * 59 + "…"),
        ("x" * 59 + "👍🏽", "x" * 59 + "…"),
        ("e" + "\u0301" * 90, "e" + "\u0301" * 59 + "…"),
    ],
)
def test_a_title_is_the_first_line_cut_where_one_would(message: str, title: str):
    assert named_after(message) == title
    assert len(title) <= TITLE_CHARS + 1


def test_deleting_a_chat_waits_for_the_message_that_is_being_taken(app: Flask, alice: Person):
    chat = alice.chat("hello").json["session_id"]
    deleted_at = []

    def delete() -> None:
        assert alice.delete(f"/agent-chats/{chat}").status_code == 204
        deleted_at.append(clock.now())

    with app.app_context(), db.atomic():
        until = clock.now() + timedelta(seconds=1.5)
        Run.create(chat=chat, message="just now", lease_until=until)
        deleting = in_background(delete)
        time.sleep(0.5)
    deleting.join()

    # Its process never was, so that it ended with its lease; not in the middle of it.
    assert deleted_at[0] > until
    with app.app_context():
        assert (Chat.select().count(), Run.select().count()) == (0, 0)


def test_results_brought_by_later_runs_leave_the_users_words_in(app: Flask, alice: Person):
    """A front end's tools: each result begins a run without words, all of one turn."""
    with app.app_context():
        chat = Chat.create(user=alice.id)
        started = clock.now() - timedelta(minutes=1)
        for number, message in enumerate(("please do it", "", "", "")):
            at = started + timedelta(seconds=number)
            run = Run.create(
                chat=chat, message=message, created_at=at, finished_at=at, lease_until=at
            )
            call = {"run_id": str(run.id), "tool_call_id": f"c{number}", "message_id": str(run.id)}
            events = [
                {"type": "TOOL_CALL_START", "tool_name": "look", **call},
                {"type": "TOOL_CALL_ARGS", "delta": "{}", **call},
                {"type": "TOOL_CALL_END", **call},
                {"type": "TOOL_CALL_RESULT", "result": "x" * 4000, "tool_name": "look", **call},
            ]
            for place, event in enumerate(events, 1):
                RunEvent.create(run=run, number=place, data=json.dumps(event), type=event["type"])
        told = history.messages_of(chat.id, 6000, {})

    assert [message.content for message in told if message.role == "user"] == ["please do it"]
