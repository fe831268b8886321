"""Conversations: whose one is, and what was said in it."""

import json
from uuid import UUID

from ..agent import Message, cut_history, from_events
from ..db import Prepared, make_row
from ..errors import ChatNotFound
from ..models import Chat, Run, RunEvent, User

# More runs than any model's window holds; what of them is sent is bounded in characters.
RECENT_RUNS = 100


def find(user: User, chat_id: UUID) -> Chat | None:
    """The user's chat with this id; None when nobody has one.

    Raises ChatNotFound when it is somebody else's.
    """
    rows = _CHAT.rows(chat_id.hex)
    chat = make_row(Chat, rows[0]) if rows else None
    if chat and chat.user_id != user.id:
        raise ChatNotFound
    return chat


_CHAT = Prepared(lambda chat_id: Chat.select().where(Chat.id == chat_id))


def history(chat: Chat, max_chars: int) -> list[Message]:
    """What was said in ended runs, oldest first: the newest turns that fit in `max_chars`."""
    runs = list(
        Run.select()
        .where(Run.chat == chat, Run.finished_at.is_null(False))
        .order_by(Run.created_at.desc())
        .limit(RECENT_RUNS)
    )
    events = _events_of(runs)
    messages = []
    for run in reversed(runs):
        messages += [Message("user", run.message), *from_events(events[run.id])]
    return cut_history(messages, max_chars)


def _events_of(runs: list[Run]) -> dict[UUID, list[dict]]:
    events: dict[UUID, list[dict]] = {run.id: [] for run in runs}
    rows = RunEvent.select().where(RunEvent.run.in_(list(events))).order_by(RunEvent.number)
    for row in rows:
        events[row.run_id].append(json.loads(row.data))
    return events
