"""What was said and done in a chat: its runs with their journals, the newest first."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from uuid import UUID

from peewee import Expression, ModelSelect, chunked

from runtime.agent.transcript import Call, steps_of
from runtime.database.pagination import Page, cut, page
from runtime.models.chats import Run
from runtime.models.users import User
from runtime.services.chats import chats
from runtime.services.chats.endings import fail_dead
from runtime.services.chats.entries import Entry, error_sentence, read

RUNS_A_QUERY = 20
# What a page of runs may have of journals and messages; there is always one run at least.
PAGE_BYTES = 256 * 1024


@dataclass(frozen=True)
class ShownMessage:
    """A message as it is shown. A run's first is the user's, the others are steps of the model.

    `error` says why the run was not completed, in the reader's language.
    """

    id: str
    run: Run
    error: str | None
    role: str
    content: str
    tool_calls: Sequence[Call] = ()
    reasoning: str | None = None


@dataclass(frozen=True)
class Record:
    """A run, its journal, the results that the next run brought, and what was said in it."""

    run: Run
    entries: list[Entry]
    answers: Mapping[str, str]
    messages: list[ShownMessage]


def messages(user: User, chat_id: UUID, limit: int, cursor: str | None, language: str) -> Page:
    """What was said in some of a chat's runs, in the order it was said.

    The first page has the last `limit` runs, the next one those before them, to the first; runs
    that go on are as far as they came. Raises ChatNotFound.
    """
    chats.get(user, chat_id)
    found = page_of(chat_id, limit, cursor, language)
    said = [each for record in reversed(found.rows) for each in record.messages]
    return Page(said, found.next_cursor)


def page_of(
    chat_id: UUID, limit: int, cursor: str | None, language: str, *, with_replaced: bool = False
) -> Page:
    """Some of a chat's runs with all that is kept of them, the newest first.

    At most `limit`, and as many as fit in PAGE_BYTES; those of the conversation, or all.
    """
    these = Run.chat == chat_id if with_replaced else Run.in_conversation(chat_id)
    runs = Run.select().where(these)
    found = page(runs, Run.created_at, cursor=cursor, limit=limit)
    if fail_dead([run.id for run in found.rows if run.finished_at is None]):
        found = page(runs, Run.created_at, cursor=cursor, limit=limit)
    read_runs = _with_entries(chunked(found.rows, RUNS_A_QUERY))
    fitting = list(_fitting(read_runs, PAGE_BYTES, lambda text: len(text.encode())))
    found = cut(found, len(fitting))
    answers = _answers_after(runs, found.rows[0]) if cursor and found.rows else {}
    rows: list[Record] = []
    for run, entries in fitting:
        shown = list(_shown(run, entries, answers, language))
        rows.append(Record(run, entries, answers, shown))
        answers = run.answers
    return Page(rows, found.next_cursor)


def _answers_after(runs: ModelSelect, run: Run) -> dict[str, str]:
    """The answers that the next of the runs brought."""
    following = runs.where(Run.created_at > run.created_at).order_by(Run.created_at).first()
    return following.answers if following else {}


def _shown(
    run: Run, entries: list[Entry], answers: Mapping[str, str], language: str
) -> Iterator[ShownMessage]:
    error = run.error and error_sentence(run.error, language)
    if run.message:
        yield ShownMessage(str(run.id), run, error, "user", run.message)
    for step in steps_of((entry.event for entry in entries), answers):
        yield ShownMessage(
            step.message_id, run, error, "assistant", step.text, step.calls, step.reasoning
        )


def journals(chat_id: UUID, max_chars: int) -> list[tuple[Run, list[dict]]]:
    """A conversation's runs with their events, oldest first: the newest that fit in `max_chars`.

    There is always one at least.
    """
    fitting = list(_fitting(newest(chat_id), max_chars, len))
    return [(run, [entry.event for entry in entries]) for run, entries in reversed(fitting)]


def newest(chat_id: UUID, *conditions: Expression) -> Iterator[tuple[Run, list[Entry]]]:
    """The conversation's runs for which the conditions hold, with their journals, newest first.

    They are read in steps, as far as the caller goes on.
    """
    these = Run.select().where(Run.in_conversation(chat_id), *conditions)
    runs = these.order_by(Run.created_at.desc())
    return _with_entries(
        list(runs.limit(RUNS_A_QUERY).offset(offset)) for offset in count(0, RUNS_A_QUERY)
    )


def _with_entries(batches: Iterable[list[Run]]) -> Iterator[tuple[Run, list[Entry]]]:
    for runs in batches:
        entries = read({run.id: 0 for run in runs})
        yield from ((run, entries[run.id]) for run in runs)
        if len(runs) < RUNS_A_QUERY:
            return


def _fitting(
    runs: Iterable[tuple[Run, list[Entry]]], size: int, size_of: Callable[[str], int]
) -> Iterator[tuple[Run, list[Entry]]]:
    """The first of the runs that fit in `size`; one at least."""
    is_first = True
    for run, entries in runs:
        size -= size_of(run.input or run.message) + sum(size_of(entry.text) for entry in entries)
        if size < 0 and not is_first:
            return
        yield run, entries
        is_first = False
