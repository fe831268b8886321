"""Where a chat stands, for a client that holds a copy of it and brings what is new."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from uuid import UUID

from peewee import Case, Expression, SqliteDatabase, fn

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
class RecentRun:
    """A run of the conversation; `has_words` unless it brought results alone."""

    id: UUID
    is_running: bool
    is_unfinished: bool
    has_words: bool


@dataclass(frozen=True)
class Brought:
    """A message of the user's that a run was begun with: it, and whether it was the run's last."""

    run_id: UUID
    text: str
    is_last: bool


@dataclass(frozen=True)
class ChatState:
    """What a client that goes on with a chat must know: see `find`."""

    brought: Mapping[str, Brought] = field(default_factory=dict)
    unanswered: frozenset[str] = frozenset()
    recent: tuple[RecentRun, ...] = ()

    @property
    def is_unfinished(self) -> bool:
        """Whether the last run failed or goes on."""
        return bool(self.recent) and self.recent[0].is_unfinished


def find(user: User, chat_id: UUID, ids: Collection[str]) -> ChatState:
    """Where a chat stands: which of the user's messages with these `ids` a client brought to its
    recent runs, those runs, the newest first, and the ids of the calls that the last one left to
    the client.

    No message is read but those of the runs that have one of the ids. Raises ChatNotFound when the
    chat is somebody else's.
    """
    chat = Chat.get_or_none(Chat.id == chat_id)
    if chat and chat.user_id != user.id:
        raise ChatNotFound
    columns = (Run.id, Run.finished_at, Run.error, Run.message != "")
    runs = Run.select(*columns).where(Run.in_conversation(chat_id))
    newest = runs.order_by(Run.created_at.desc()).limit(RECENT_RUNS).tuples()
    recent = tuple(
        RecentRun(run_id, finished_at is None, finished_at is None or bool(error), bool(has_words))
        for run_id, finished_at, error, has_words in newest
    )
    return ChatState(_brought([run.id for run in recent], ids), _left_by(recent), recent)


def before(state: ChatState, run_id: UUID) -> ChatState:
    """Where the chat would stand if this recent run, and all after it, were cut off."""
    place = next(place for place, run in enumerate(state.recent) if run.id == run_id)
    left = state.recent[place + 1 :]
    there = {run.id for run in left}
    brought = {its_id: each for its_id, each in state.brought.items() if each.run_id in there}
    return replace(state, brought=brought, unanswered=_left_by(left), recent=left)


def _left_by(recent: tuple[RecentRun, ...]) -> frozenset[str]:
    """The ids of the calls that the last of the runs has left to the client."""
    if not recent or recent[0].is_unfinished:
        return frozenset()
    return _unanswered(recent[0].id)


def _brought(run_ids: list[UUID], ids: Collection[str]) -> dict[str, Brought]:
    """Those of the ids that the user's messages of these runs have."""
    # A message that was no client's has its run's id.
    own = [run_id for run_id in run_ids if str(run_id) in ids]
    wanted = Run.id.in_(own)
    if left := set(ids) - {str(run_id) for run_id in own}:
        wanted |= Run.id.in_(run_ids) & _has_one_of(left)
    # All that was said is in `input`, if there is one.
    message = Case(None, [(Run.input.is_null(), Run.message)]).alias("message")
    columns = (Run.id, message, Run.input)
    found = {}
    bringing = Run.select(*columns).where(wanted).order_by(Run.created_at)
    for run in bringing if run_ids and ids else ():
        said = [each for each in run.input_messages if each.tool_call_id is None]
        for each in said:
            found[each.id] = Brought(run.id, each.text, is_last=each is said[-1])
    return {its_id: each for its_id, each in found.items() if its_id in ids}


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
