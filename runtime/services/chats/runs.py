"""Runs, as those who ask know them: begin one, read it, wait for its answer, stop it.

The agent makes events and knows nothing of this; they go to the journal (`.journal`), and are read
there. No reader owns a run: it goes on when nobody listens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

from runtime.agent.tools.tool import Tool
from runtime.database.base import db, from_now, release
from runtime.errors import ChatBusy, ChatNotFound, IdempotencyKeyReused, RunNotFound
from runtime.limits.rates import REPEATS_PER_USER, limiter
from runtime.models.chats import Chat, Run
from runtime.models.users import User
from runtime.services.chats import execution
from runtime.services.chats.agent import Agent, current_agent
from runtime.services.chats.endings import fail_dead
from runtime.services.chats.entries import error_sentence, join
from runtime.services.chats.execution import Execution
from runtime.services.chats.ids import is_made, new_id, run_of_key
from runtime.services.chats.log import Log

# How often a key's run, or an erased chat's, is looked for while others begin and end.
KEYED_ATTEMPTS = 3
ERASE_ATTEMPTS = 5


@dataclass(frozen=True)
class Followed:
    """A run and its log, for one reader, who calls `leave` in the end."""

    run: Run
    log: Log
    leave: Callable[[], None]


@dataclass(frozen=True)
class Answer:
    """What a run came to: its chat, the text of the answer, the events on their way to it."""

    session_id: UUID
    output: str
    events: list[dict]


@dataclass(frozen=True)
class ShownRun:
    """A run as it is shown: `error` is a sentence in the reader's language."""

    run: Run
    error: str | None


def shown(run: Run, language: str) -> ShownRun:
    """The run, with what ended it before its answer was complete in this language."""
    return ShownRun(run, run.error and error_sentence(run.error, language))


def start(
    user: User,
    message: str | None,
    chat_id: UUID | None,
    key: str | None = None,
    replaces: UUID | None = None,
) -> Followed:
    """Let the agent run on a message; the run goes to its end whether or not it is followed.

    With a `key` that this user has used before it is that run again, in any state. A message that
    is refused leaves no run and no chat behind. A run that `replaces` another cuts the conversation
    off before that one, and has its message if it has none. Raises ChatNotFound, ChatBusy,
    TooManyRequests, OutOfTokens, DayFull, TooManyChats, IdempotencyKeyReused when the key was used
    for something else; RunNotFound and RunReplaced for the run to be replaced.
    """
    with _stream_of(user) as begin:
        return begin(*_prepare(user, message, chat_id, key, replaces, in_background=True))


def launch(user: User, run: Run, tools: Sequence[Tool] = (), page: str = "") -> Followed:
    """Let the agent run on what was said, and on what the user's `page` tells, as JSON.

    `tools` are the client's to answer; where one has the name of our own, ours is the tool. A run
    that has been started meanwhile is that one.
    Raises ChatNotFound, ChatBusy, TooManyRequests, OutOfTokens, DayFull, TooManyChats, RunReplaced,
    likewise.
    """
    with _stream_of(user) as begin:
        return begin(run, execution.begin(user, run, tools, page=page, in_background=True))


def follow(user: User, run: Run) -> Followed:
    """A run that has begun, for one more reader. Raises TooManyRequests."""
    limiter.spend(REPEATS_PER_USER, str(user.id))
    with _stream_of(user) as begin:
        return begin(run, None)


@contextmanager
def _stream_of(user: User) -> Iterator[Callable[[Run, Execution | None], Followed]]:
    """Take a place for a reader. Call the yielded function with the run to read, and with what is
    to execute it if it has not begun: the reader is there before the first event.

    Raises TooManyRequests when there is no place. It is left again if the block fails.
    """
    agent = current_agent()

    def begin(run: Run, its_execution: Execution | None) -> Followed:
        log = agent.journal.follow(run.id)
        if its_execution:
            its_execution.start()
        release()
        keep()
        return Followed(run, log, partial(_leave, agent, user.id, log))

    with agent.streams.kept(user.id) as keep:
        yield begin


def _leave(agent: Agent, user_id: UUID, log: Log) -> None:
    agent.journal.unfollow(log)
    agent.streams.leave(user_id)


def answer(
    user: User,
    message: str | None,
    chat_id: UUID | None,
    key: str | None,
    language: str,
    replaces: UUID | None = None,
) -> Answer:
    """Start a run, see `start`, and wait for its end; one that fails has an answer too.

    Raises TooManyRequests when too many wait already, besides what `start` raises; Unavailable
    when the database is away and the run's words wait to be written.
    """
    agent = current_agent()
    with agent.seats.kept(user.id):
        run, its_execution = _prepare(user, message, chat_id, key, replaces)
        release()  # A model may think for minutes.
        with agent.journal.followed(run.id) as log:
            if its_execution:  # On this thread, which would only wait for another one.
                its_execution.run()
            agent.wait_for_end(log)
    events = [entry.shown(language) for entry in join(log.entries)]
    return Answer(run.chat_id, events[-1].get("output", ""), events)


def _prepare(
    user: User,
    message: str | None,
    chat_id: UUID | None,
    key: str | None,
    replaces: UUID | None,
    *,
    in_background: bool = False,
) -> tuple[Run, Execution | None]:
    """A run that was claimed, and what executes it: None when its key has started it before."""
    run_id = run_of_key(user.id, key) if key else uuid4()
    for _ in range(KEYED_ATTEMPTS):
        run = _run_on(user, run_id, chat_id, message, replaces)
        if key and (known := _known(user, run, chat_id)):
            limiter.spend(REPEATS_PER_USER, str(user.id))
            return known, None
        # A chat whose id was made just now has no history.
        has_history = chat_id is not None
        begun = execution.begin(user, run, has_history=has_history, in_background=in_background)
        if begun:
            return run, begun
        # Another request has begun it meanwhile; unless its chat was erased since, it is known now.
    raise ChatBusy


def _run_on(
    user: User, run_id: UUID, chat_id: UUID | None, message: str | None, replaces: UUID | None
) -> Run:
    """The run that is asked for, not in the table yet. Raises RunNotFound."""
    if replaces is None:
        return Run(id=run_id, chat_id=chat_id or new_id(), message=message)
    old = get(user, chat_id, replaces)
    said = {"message": old.message, "input": old.input} if message is None else {"message": message}
    run = Run(id=run_id, chat_id=chat_id, **said)
    run.replaces = replaces
    return run


def _known(user: User, wanted: Run, chat_id: UUID | None) -> Run | None:
    """The run that a key has started. Raises IdempotencyKeyReused if it is not the wanted one."""
    run = Run.find_of(user, wanted.id)
    if run is None:
        return None
    fits = run.chat_id == chat_id if chat_id else _began_its_chat(run)
    if run.message != wanted.message or not fits or not _replaced_alike(run, wanted.replaces):
        raise IdempotencyKeyReused
    return run


def _replaced_alike(run: Run, replaces: UUID | None) -> bool:
    """Whether this was the first run that it has replaced, None for no run at all."""
    cut_off = (Run.chat == run.chat_id) & (Run.replaced_by == run.id)
    return Run.select(Run.id).where(cut_off).order_by(Run.created_at).scalar() == replaces


def _began_its_chat(run: Run) -> bool:
    """Whether the message came without a chat's id: `new_id` made one, and it was the first."""
    return is_made(run.chat_id) and not Run.has_earlier(run)


def get(user: User, chat_id: UUID, run_id: UUID) -> Run:
    """A run of this user's, as it is now. Raises RunNotFound."""
    run = Run.find(user, chat_id, run_id)
    if run and run.finished_at is None and fail_dead([run_id]):
        run = Run.find(user, chat_id, run_id)
    if run is None:
        raise RunNotFound
    return run


def last(user: User, chat_id: UUID) -> Run | None:
    """The newest run of a chat, as it is now. None when the user has no such chat."""
    owned = (Chat.id == chat_id) & (Chat.user == user.id)
    newest = Run.select(Run.id).join(Chat).where(owned).order_by(Run.created_at.desc())
    run_id = newest.limit(1).scalar()
    return get(user, chat_id, run_id) if run_id else None


def stop_last(user: User, chat_id: UUID, but: UUID | None = None) -> None:
    """End what goes on in the user's chat, if they have it, `but` for a run of that id."""
    with suppress(RunNotFound):  # Another request has erased the chat meanwhile.
        run = last(user, chat_id)
        if run and run.finished_at is None and run.id != but:
            stop(user, chat_id, run.id)


def stop(user: User, chat_id: UUID, run_id: UUID) -> Run:
    """End a run, in any process; back when its connection to the model is closed.

    What has ended before stays as it is. Raises RunNotFound, TooManyRequests when too many wait
    for runs already, Unavailable when the database is away.
    """
    run = get(user, chat_id, run_id)
    if run.finished_at is None:
        agent = current_agent()
        with agent.stops.kept(user.id):
            _request_stop(agent, run_id)
            release()
            with agent.journal.followed(run_id) as log:
                agent.wait_for_end(log)
    return get(user, chat_id, run_id)


def stop_all(user: User) -> int:
    """Tell every run of a user to end, in any process; returns how many have not yet."""
    running = Run.select(Run.id).join(Chat).where(Chat.user == user.id, Run.finished_at.is_null())
    run_ids = [run_id for (run_id,) in running.tuples()]
    # One by one: of two who lock many rows each may wait for the other.
    for run_id in run_ids:
        _request_stop(current_agent(), run_id)
    fail_dead(run_ids)
    release()
    return len(run_ids)


def _request_stop(agent: Agent, run_id: UUID) -> None:
    waits = (Run.id == run_id) & Run.finished_at.is_null() & Run.stop_requested_at.is_null()
    Run.update(stop_requested_at=from_now()).where(waits).execute()
    agent.journal.stop(run_id)


def delete_chat(user: User, chat_id: UUID) -> None:
    """Erase a chat from every table; a run that goes on in it is stopped first.

    Raises ChatNotFound, TooManyRequests when too many wait for runs already, ChatBusy when one run
    after the other begins in it meanwhile, Unavailable when the database is away.
    """
    for _ in range(ERASE_ATTEMPTS):
        running = _erase(user, chat_id)
        if running is None:
            return
        with suppress(RunNotFound):  # Another request has erased the chat meanwhile.
            stop(user, chat_id, running)
    raise ChatBusy


def _erase(user: User, chat_id: UUID) -> UUID | None:
    """Erase the chat, unless a run goes on in it: the id of that one. Raises ChatNotFound."""
    with db.atomic():
        # With the chat's row locked no run can begin in it.
        owned = Chat.select().where(Chat.id == chat_id, Chat.user == user.id)
        if not owned.for_update(db.obj.for_update).get_or_none():
            raise ChatNotFound
        alive = (Run.chat == chat_id) & Run.finished_at.is_null()
        running = Run.select(Run.id).where(alive).scalar()
        if running is None:
            Chat.erase([chat_id])
        return running
