"""Where a chat stands, for a client that holds a copy of it and brings what is new."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import or_
from uuid import UUID

from peewee import Expression, SqliteDatabase, fn

from runtime.database.base import db
from runtime.errors import ChatNotFound
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.models.users import User

# Older runs are not looked at: a client that brings again what was said before that is out of date.
RECENT_RUNS = 100
# Looked for in the database; of more ids all that the chat has is read.
MAX_NEEDLES = 20


@dataclass(frozen=True)
class ChatState:
    """What a client that goes on with a chat must know: see `find`."""

    brought: frozenset[str] = frozenset()
    unanswered: frozenset[str] = frozenset()
    is_unfinished: bool = False


def find(user: User, chat_id: UUID, ids: Collection[str]) -> ChatState:
    """Where a chat stands: which of the messages with these `ids` a client brought to its recent
    runs, the ids of the calls that the last run left to the client, and whether that one failed or
    goes on.

    No message is read but those of the runs that have one of the ids. Raises ChatNotFound when the
    chat is somebody else's.
    """
    chat = Chat.get_or_none(Chat.id == chat_id)
    if chat and chat.user_id != user.id:
        raise ChatNotFound
    runs = Run.select(Run.id, Run.finished_at, Run.error).where(Run.chat == chat_id)
    recent = list(runs.order_by(Run.created_at.desc()).limit(RECENT_RUNS).tuples())
    if not recent:
        return ChatState()
    last_id, finished_at, error = recent[0]
    is_unfinished = finished_at is None or error is not None
    left = frozenset() if is_unfinished else _unanswered(last_id)
    return ChatState(_brought([run_id for run_id, *_ in recent], ids), left, is_unfinished)


def _brought(run_ids: list[UUID], ids: Collection[str]) -> frozenset[str]:
    """Those of the ids that messages of these runs have."""
    # A message that was no client's has its run's id.
    known = {str(run_id) for run_id in run_ids}.intersection(ids)
    if left := set(ids) - known:
        having = Run.select().where(Run.id.in_(run_ids), _has_one_of(left))
        known |= {each.id for run in having for each in run.input_messages if each.id in left}
    return frozenset(known)


def _has_one_of(ids: Collection[str]) -> Expression:
    """The condition that a run's `input` has one of the ids, or may have."""
    if len(ids) > MAX_NEEDLES:
        return Run.input.is_null(False)
    find_in = fn.INSTR if isinstance(db.obj, SqliteDatabase) else fn.STRPOS
    needles = [f"[{json.dumps(its_id, ensure_ascii=False)}, " for its_id in ids]
    return reduce(or_, [find_in(Run.input, needle) > 0 for needle in needles])


def _unanswered(run_id: UUID) -> frozenset[str]:
    """The ids of the calls that a run has left to others to answer."""
    kinds = ("TOOL_CALL_START", "TOOL_CALL_RESULT")
    # NULL: an earlier release has written it, and its type is in the JSON.
    about_calls = RunEvent.type.in_(kinds) | RunEvent.type.is_null()
    rows = RunEvent.select(RunEvent.data).where(RunEvent.run == run_id, about_calls).tuples()
    events = [json.loads(data) for (data,) in rows]
    called, answered = (
        {event["tool_call_id"] for event in events if event["type"] == kind} for kind in kinds
    )
    return frozenset(called - answered)
