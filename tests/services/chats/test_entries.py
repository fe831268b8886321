"""Events that a release has written which kept no type beside them."""

from runtime import clock
from runtime.agent.events import RunFinished, ToolCallResult, ToolCallStart
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.models.users import User
from runtime.services.chats import chat_state
from runtime.services.chats.entries import Entry, read


def test_calls_are_found_whether_or_not_their_type_stands_beside_them(app):
    with app.app_context():
        user = User.create(username="ada", email="ada@example.org", password_hash="-")
        chat = Chat.create(user=user)
        now = clock.now()
        run = Run.create(chat=chat, message="hello", lease_until=now, finished_at=now)
        events = [
            *(ToolCallStart(str(run.id), each, "look", "m1") for each in ("old", "new")),
            ToolCallResult(str(run.id), "new", "look", "42"),
            RunFinished(str(run.id), ""),
        ]
        entries = [Entry.of(number, event) for number, event in enumerate(events, 1)]
        for entry in entries:
            kind = entry.type if entry.number % 2 == 0 else None
            RunEvent.create(run=run, number=entry.number, data=entry.text, type=kind)

        assert read({run.id: 0})[run.id] == entries
        assert [entry.is_ending for entry in read({run.id: 2})[run.id]] == [False, True]
        assert chat_state.find(user, chat.id, []).unanswered == {"old"}
