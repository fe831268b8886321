"""Conversations: which ones a user has, what each is called, and what was said in it.

Erasing one must stop its run first: see `.runs`.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from uuid import UUID

from peewee import ModelSelect, chunked

from runtime.agent.messages import Message, cut_history
from runtime.agent.transcript import Call, from_events, steps_of
from runtime.database.pagination import Page, cut, page
from runtime.database.prepared import Prepared
from runtime.errors import ChatNotFound
from runtime.models.chats import Chat, Run, answers_in
from runtime.models.run_events import RunEvent
from runtime.models.users import User
from runtime.security.tokens import tokens
from runtime.services.chats.ids import from_digest, made_of
from runtime.services.chats.journal import Entry, fail_dead

# More runs than any model's window holds; what of them is sent is bounded in characters.
RECENT_RUNS = 100
RUNS_A_QUERY = 25
# What a page of runs may have of journals and messages; there is always one run at least.
PAGE_BYTES = 256 * 1024
# Of which all is read, however long: rather too few at once.
WHOLE_RUNS_A_QUERY = 5
# A title that is made of a message; one that is given may be longer.
TITLE_CHARS = 60
JOINER = "\u200d"


def called(user: User, name: str) -> UUID:
    """The id of the chat that this user's client calls `name`: of theirs, or of one yet to begin.

    It is made with the newest SECRET_KEY, so that nobody can foresee it and begin a chat of that
    id first. A chat that an older key named is found, and so is one from before 0.4, when any id
    of this form was refused.
    """
    named = [from_digest(each) for each in tokens.name_digests(f"thread:{user.id}:{name}")]
    known = Chat.ids_of(user, [*named, made_of(user.id, f"thread {name}")])
    return next(filter(known.__contains__, named), None) or next(iter(known), named[0])


@dataclass(frozen=True)
class ShownMessage:
    """A message as it is shown. A run's first is the user's, the others are steps of the model."""

    id: str
    run: Run
    role: str
    content: str
    tool_calls: Sequence[Call] = ()
    reasoning: str | None = None


@dataclass(frozen=True)
class Record:
    """A run, its journal, and what was said in it."""

    run: Run
    entries: list[Entry]
    messages: list[ShownMessage]


def page_of(user: User, limit: int, cursor: str | None) -> Page:
    """Some of the user's chats, the one that was active last first."""
    found = page(Chat.of(user), Chat.activity(), cursor=cursor, limit=limit)
    return Page([_named(chat) for chat in found.rows], found.next_cursor)


def get(user: User, chat_id: UUID) -> Chat:
    """The user's chat. Raises ChatNotFound, also when it is somebody else's."""
    chat = Chat.of(user).where(Chat.id == chat_id).get_or_none()
    if chat is None:
        raise ChatNotFound
    return _named(chat)


def rename(user: User, chat_id: UUID, title: str | None) -> Chat:
    """Call a chat so, or after its first message again. Raises ChatNotFound."""
    Chat.update(title=title).where(Chat.id == chat_id, Chat.user == user.id).execute()
    return get(user, chat_id)


def messages(user: User, chat_id: UUID, limit: int, cursor: str | None) -> Page:
    """What was said in some of a chat's runs, in the order it was said.

    The first page has the last `limit` runs, the next one those before them, to the first; runs
    that go on are as far as they came. Raises ChatNotFound.
    """
    get(user, chat_id)
    found = records(chat_id, limit, cursor)
    said = [each for record in reversed(found.rows) for each in record.messages]
    return Page(said, found.next_cursor)


def records(chat_id: UUID, limit: int, cursor: str | None) -> Page:
    """Some of a chat's runs with all that is kept of them, the newest first.

    At most `limit`, and as many as fit in PAGE_BYTES.
    """
    found = _page_of_runs(chat_id, limit, cursor)
    if fail_dead([run.id for run in found.rows if run.finished_at is None]):
        found = _page_of_runs(chat_id, limit, cursor)
    entries = _fitting_entries(found.rows)
    found = cut(found, len(entries))
    answers = _after(found.rows[0]) if cursor and found.rows else {}
    rows: list[Record] = []
    for run in found.rows:
        events = [json.loads(entry.text) for entry in entries[run.id]]
        rows.append(Record(run, entries[run.id], list(_said(run, events, answers))))
        answers = run.answers
    return Page(rows, found.next_cursor)


def _fitting_entries(runs: list[Run]) -> dict[UUID, list[Entry]]:
    """The journals of as many of the runs as fit in PAGE_BYTES, from the first one on."""
    found: dict[UUID, list[Entry]] = {}
    left = PAGE_BYTES
    for some in chunked(runs, RUNS_A_QUERY):
        entries = _entries_of(some)
        for run in some:
            left -= len((run.input or run.message).encode())
            left -= sum(len(entry.text.encode()) for entry in entries[run.id])
            if found and left < 0:
                return found
            found[run.id] = entries[run.id]
    return found


def history(chat_id: UUID, max_chars: int, answers: Mapping[str, str]) -> list[Message]:
    """What was said in ended runs, oldest first: the newest turns that fit in `max_chars`.

    `answers` has, by the call's id, the results that are brought only now.
    """
    turns: list[list[Message]] = []
    left = max_chars
    for offset in range(0, RECENT_RUNS, RUNS_A_QUERY):
        read = _ended(chat_id, offset)
        for message, brought, events in read:
            words = [Message("user", message)] if message else []
            turns.append([*words, *from_events(events, answers)])
            left -= sum(message.chars for message in turns[-1])
            answers = answers_in(brought)
        if left < 0 or len(read) < RUNS_A_QUERY:
            break
    return cut_history([message for turn in reversed(turns) for message in turn], max_chars)


def _ended(chat_id: UUID, offset: int) -> list[tuple[str, str | None, list[dict]]]:
    """Message, input and events of RUNS_A_QUERY runs that have ended, the newest first."""
    which = (chat_id.hex, RUNS_A_QUERY, offset)
    events: dict = {}
    runs = [(Run.id.python_value(run_id), *rest) for run_id, *rest in _ENDED_RUNS.rows(*which)]
    read = RunEvent.words_of([run_id for run_id, *_rest in runs]) if runs else ()
    for run_id, data, vendor in read:
        event = json.loads(data)
        if vendor:
            event["vendor"] = json.loads(vendor)
        events.setdefault(run_id, []).append(event)
    return [(message, brought, events.get(run_id, [])) for run_id, message, brought in runs]


_ENDED_RUNS = Prepared(
    lambda chat_id, limit, offset: (
        Run.select(Run.id, Run.message, Run.input)
        .where(Run.chat == chat_id, Run.finished_at.is_null(False))
        .order_by(Run.created_at.desc())
        .limit(limit)
        .offset(offset)
    ),
    values=3,
    may_be_long=True,
)


def _page_of_runs(chat_id: UUID, limit: int, cursor: str | None) -> Page:
    runs = Run.select().where(Run.chat == chat_id)
    return page(runs, Run.created_at, cursor=cursor, limit=limit)


def journals(chat_id: UUID, max_chars: int) -> list[tuple[Run, list[dict]]]:
    """A chat's runs with their events, oldest first: the newest ones that fit in `max_chars`.

    There is always one at least.
    """
    found: list[tuple[Run, list[dict]]] = []
    for number in count(1):
        runs = list(_newest(chat_id).paginate(number, WHOLE_RUNS_A_QUERY))
        events = _events_of(runs)
        for run in runs:
            max_chars -= len(run.input or run.message) + sum(
                len(str(event)) for event in events[run.id]
            )
            if found and max_chars < 0:
                return found
            found.insert(0, (run, events[run.id]))
        if len(runs) < WHOLE_RUNS_A_QUERY:
            return found


def _newest(chat_id: UUID) -> ModelSelect:
    return Run.select().where(Run.chat == chat_id).order_by(Run.created_at.desc())


def _events_of(runs: list[Run]) -> dict[UUID, list[dict]]:
    entries = _entries_of(runs)
    return {run_id: [json.loads(each.text) for each in of] for run_id, of in entries.items()}


def _entries_of(runs: list[Run]) -> dict[UUID, list[Entry]]:
    entries: dict[UUID, list[Entry]] = {run.id: [] for run in runs}
    for run_id, number, data in RunEvent.of_runs(list(entries)) if entries else ():
        entries[run_id].append(Entry(number, data))
    return entries


def _after(run: Run) -> dict[str, str]:
    """The answers that the next run brought."""
    later = Run.select().where(Run.chat == run.chat_id, Run.created_at > run.created_at)
    following = later.order_by(Run.created_at).first()
    return following.answers if following else {}


def _said(run: Run, events: list[dict], answers: Mapping[str, str]) -> Iterator[ShownMessage]:
    if run.message:
        yield ShownMessage(str(run.id), run, "user", run.message)
    for step in steps_of(events, answers):
        yield ShownMessage(step.message_id, run, "assistant", step.text, step.calls, step.reasoning)


def _named(chat: Chat) -> Chat:
    chat.name = chat.title or named_after(chat.first_message or "")
    return chat


def named_after(message: str) -> str:
    """A title: the first line with anything in it, cut between two words if need be.

    Where no space is near, as in Chinese, it is cut between two characters as they are seen, an
    accent or an emoji's colour going with what it belongs to.
    """
    lines = (" ".join(line.split()) for line in message.splitlines())
    line = next(filter(None, lines), "")
    if len(line) <= TITLE_CHARS:
        return line
    end = line.rfind(" ", TITLE_CHARS // 2, TITLE_CHARS + 1)
    if end < 0:
        end = TITLE_CHARS
        while end and _belong_together(line[end - 1], line[end]):
            end -= 1
    return f"{line[: end or TITLE_CHARS]}…"


def _belong_together(character: str, following: str) -> bool:
    is_mark = unicodedata.category(following) in ("Mn", "Mc", "Me", "Sk")
    return is_mark or JOINER in (character, following)
