"""One run's life: claim the chat, run the agent on a thread of its own, stop, be asked about.

The agent makes events and knows nothing of this; they go to the journal (`.journal`), and whoever
asks reads them there. No reader owns a run: it goes on when nobody listens.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID, uuid4

from flask import Flask, current_app
from peewee import EXCLUDED, Insert, IntegrityError, Select, SqliteDatabase, fn

from runtime import clock, i18n, json_text, logs
from runtime.agent.events import ErrorCode, Event, RunError
from runtime.agent.loop import Bounds
from runtime.agent.loop import run as run_agent
from runtime.agent.messages import Message, cut_history
from runtime.agent.providers.embedded import EmbeddedProvider
from runtime.agent.stop import Stopped
from runtime.agent.tools.tool import Tool, load_tools
from runtime.config.load import model_server
from runtime.config.settings import ConfigError
from runtime.database.base import db, from_now, release
from runtime.database.prepared import Prepared
from runtime.errors import (
    ChatBusy,
    ChatNotFound,
    DayFull,
    IdempotencyKeyReused,
    InvalidAccessToken,
    RunNotFound,
    TooManyChats,
    TooManyRequests,
)
from runtime.limits.concurrency import Places, WaitingThread
from runtime.limits.rates import REPEATS_PER_USER, RUNS_PER_USER, limiter
from runtime.models.chats import Chat, Run
from runtime.models.users import User
from runtime.services.chats import chats, storage
from runtime.services.chats.budgets import Budget, Metered
from runtime.services.chats.ids import is_made, made_of, new_id
from runtime.services.chats.journal import (
    DELTAS,
    LEASE_SECONDS,
    Entry,
    Journal,
    Log,
    fail_dead,
    join,
)
from runtime.services.chats.storage import Storage

RUNS_AT_ONCE_PER_USER = 8
STREAMS_AT_ONCE_PER_USER = 32
STOPS_AT_ONCE_PER_USER = 6
RUNS_AT_ONCE = 1000
# How long after its wall time a run may end: its words are written, or its process is found dead.
END_SECONDS = 60
# How often the run of a key, or of a chat that is erased, is looked for while others begin and end.
KEYED_ATTEMPTS = 3
ERASE_ATTEMPTS = 5
# How often room for a run is looked for while others of its user take what there is.
ROOM_ATTEMPTS = 3
# How often all runs of a process may wake their threads together; what has arrived meanwhile
# travels together. One alone wakes for every token, five hundred twice a second.
WAKES_A_SECOND = 1000
# Shorter ones are not worth a switch of threads.
MIN_PAUSE_SECONDS = 0.002


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


class Agent:
    """What every run of this application shares."""

    def __init__(self, config: dict):
        self.provider = _provider(config)
        self.tools = [_ReleasingTool(**vars(tool)) for tool in _tools(config)]
        self.instructions = config["AGENT_INSTRUCTIONS"]
        self.bounds = Bounds(
            max_steps=config["AGENT_MAX_STEPS"],
            max_seconds=config["AGENT_MAX_SECONDS"],
            silence_seconds=config["AGENT_SILENCE_SECONDS"],
            max_output_chars=config["AGENT_MAX_OUTPUT_CHARS"],
            max_history_chars=config["AGENT_HISTORY_CHARS"],
            tool_seconds=config["AGENT_TOOL_SECONDS"],
            tools_at_once=config["AGENT_TOOLS_AT_ONCE"],
        )
        self.budget = Budget(config["AGENT_DAILY_TOKENS"], config["AGENT_MAX_OUTPUT_TOKENS"])
        self.storage = Storage.of(config)
        self.journal = Journal()
        is_limited = config["RATE_LIMITS"]

        def places(name: str, total: int, each: int) -> Places:
            return Places(name, total, each if is_limited else total)

        self.places = places("runs-at-once", RUNS_AT_ONCE, RUNS_AT_ONCE_PER_USER)
        # Whoever waits for an answer, or for the end of what they stop, holds a thread: others must
        # be served, and those who wait for answers keep nobody from stopping a run.
        threads = config["WEB_THREADS"]
        self.seats = places("waiting-for-runs", max(1, threads * 3 // 4), RUNS_AT_ONCE_PER_USER)
        self.streams = places("streams-at-once", RUNS_AT_ONCE, STREAMS_AT_ONCE_PER_USER)
        self.stops = places("waiting-for-stops", max(1, threads // 8), STOPS_AT_ONCE_PER_USER)

    def wait_for_end(self, log: Log) -> None:
        """Wait until a run is over. Raises Unavailable when the database keeps it from being so."""
        self.journal.wait_for_end(log, self.bounds.max_seconds + END_SECONDS)


def start(user: User, message: str, session_id: UUID | None, key: str | None = None) -> Followed:
    """Let the agent run on a message; the run goes to its end whether or not anybody follows it.

    With a `key` that this user has used before it is that run again, whatever has become of it.
    A message that is refused leaves no run and no chat behind. Raises ChatNotFound, ChatBusy,
    TooManyRequests, OutOfTokens, DayFull, TooManyChats, IdempotencyKeyReused when the key was used
    for something else.
    """
    with _stream_of(user) as begin:
        return begin(*_prepare(user, message, session_id, key, in_background=True))


def launch(user: User, run: Run, tools: Sequence[Tool] = ()) -> Followed:
    """Let the agent run on what was said, unless that run has been started meanwhile.

    `tools` are the client's to answer; where one has the name of our own, ours is the tool.
    Raises ChatNotFound, ChatBusy, TooManyRequests, OutOfTokens, DayFull, TooManyChats, likewise.
    """
    with _stream_of(user) as begin:
        return begin(run, _begin(user, run, tools, in_background=True))


def follow(user: User, run: Run) -> Followed:
    """A run that has begun, for one more reader. Raises TooManyRequests."""
    limiter.spend(REPEATS_PER_USER, str(user.id))
    with _stream_of(user) as begin:
        return begin(run, None)


@contextmanager
def _stream_of(user: User) -> Iterator[Callable[[Run, "_Execution | None"], Followed]]:
    """Take a place for a reader. Call the yielded function with the run to read, and with what is
    to execute it if it has not begun: the reader is there before the first event.

    Raises TooManyRequests when there is no place. It is left again if the block fails.
    """
    shared: Agent = current_app.extensions["agent"]

    def begin(run: Run, execution: "_Execution | None") -> Followed:
        log = shared.journal.follow(run.id)
        if execution:
            execution.start()
        release()
        keep()
        return Followed(run, log, partial(_leave, shared, user.id, log))

    with shared.streams.kept(user.id) as keep:
        yield begin


def _leave(shared: Agent, user_id: UUID, log: Log) -> None:
    shared.journal.unfollow(log)
    shared.streams.leave(user_id)


def answer(
    user: User, message: str, session_id: UUID | None, key: str | None, language: str
) -> Answer:
    """Start a run, see `start`, and wait for its end; one that fails has an answer too.

    Raises TooManyRequests when too many wait already, besides what `start` raises; Unavailable
    when the database is away and the run's words wait to be written.
    """
    shared: Agent = current_app.extensions["agent"]
    with shared.seats.kept(user.id):
        run, execution = _prepare(user, message, session_id, key)
        release()  # A model may think for minutes.
        with shared.journal.followed(run.id) as log:
            if execution:  # On this thread, which would only wait for another one.
                execution.run()
            shared.wait_for_end(log)
    events = [event_of(entry, language) for entry in join(log.entries)]
    return Answer(run.chat_id, events[-1].get("output", ""), events)


def _prepare(
    user: User,
    message: str,
    session_id: UUID | None,
    key: str | None,
    *,
    in_background: bool = False,
) -> tuple[Run, "_Execution | None"]:
    """A run that was claimed, and what executes it: None when its key has started it before."""
    run_id = made_of(user.id, f"key {key}") if key else uuid4()
    for _ in range(KEYED_ATTEMPTS):
        if key and (known := _known(user, run_id, session_id, message)):
            limiter.spend(REPEATS_PER_USER, str(user.id))
            return known, None
        run = Run(id=run_id, chat_id=session_id or new_id(), message=message)
        # A chat whose id was made just now has no history.
        execution = _begin(
            user, run, has_history=session_id is not None, in_background=in_background
        )
        if execution:
            return run, execution
        # Another request has begun it meanwhile; unless its chat was erased since, it is known now.
    raise ChatBusy


def _begin(
    user: User,
    run: Run,
    tools: Sequence[Tool] = (),
    *,
    has_history: bool = True,
    in_background: bool = False,
) -> "_Execution | None":
    """Claim the chat for a run; None when that run has been started meanwhile.

    All that can refuse does so before, or the claim is withdrawn. With `in_background` the run has
    a thread, which waits for `_Execution.start`.
    """
    shared: Agent = current_app.extensions["agent"]
    with shared.places.kept(user.id) as keep, ExitStack() as undoing:
        limiter.check(RUNS_PER_USER, str(user.id))
        _demand_tokens(user, run, [], tools)
        thread = undoing.enter_context(WaitingThread()) if in_background else None
        if not _claim(user, run):
            return None
        undoing.callback(_withdraw, user, run)
        most = shared.bounds.max_history_chars
        said = chats.history(run.chat_id, most, run.answers) if has_history else []
        _demand_tokens(user, run, said, tools)
        # Counted only now: a message that is refused is none of the minute's.
        limiter.spend(RUNS_PER_USER, str(user.id))
        execution = _Execution(run, said, user, tools, thread)
        undoing.pop_all()
        keep()
    return execution


def _demand_tokens(user: User, run: Run, said: list[Message], tools: Sequence[Tool]) -> None:
    """Raises OutOfTokens unless the run's first call to the model can be paid for."""
    shared: Agent = current_app.extensions["agent"]
    if shared.budget.daily:
        asked = _conversation(shared, run, said)
        sent = cut_history(asked, shared.bounds.max_history_chars)
        shared.budget.demand(user, sent, [*tools, *shared.tools])


def _conversation(shared: Agent, run: Run, said: list[Message]) -> list[Message]:
    """What the model is asked to go on with."""
    words = [Message("user", run.message)] if run.message else []
    return [Message("system", shared.instructions), *said, *words]


def event_of(entry: Entry, language: str) -> dict:
    """The event as it is sent: its error in the reader's language, the usage told elsewhere."""
    event = json.loads(entry.text)
    event.pop("usage", None)
    if "error" in event:
        event["error"] = told(event["error"], language)
    return event


def rendered(entry: Entry, language: str) -> str:
    """The same, as JSON."""
    if not entry.is_ending:
        return entry.text
    return json_text.encode(event_of(entry, language))


def told(error: str, language: str) -> str:
    """The sentence for the error in a journal; those of earlier releases have it already."""
    code = f"run_{error}"
    return i18n.sentence(code, language) if code in i18n.SENTENCES else error


def get(user: User, chat_id: UUID, run_id: UUID) -> Run:
    """A run of this user's, as it is now. Raises RunNotFound."""
    run = Run.find(user, chat_id, run_id)
    if run and run.finished_at is None and fail_dead([run_id]):
        run = Run.find(user, chat_id, run_id)
    if run is None:
        raise RunNotFound
    return run


def stop(user: User, chat_id: UUID, run_id: UUID) -> Run:
    """End a run, in whichever process it is; back when its connection to the model is closed.

    What has ended before stays as it is. Raises RunNotFound, TooManyRequests when too many wait
    for runs already, Unavailable when the database is away.
    """
    run = get(user, chat_id, run_id)
    if run.finished_at is None:
        shared: Agent = current_app.extensions["agent"]
        with shared.stops.kept(user.id):
            running = (Run.id == run_id) & Run.finished_at.is_null()
            Run.update(stop_requested_at=from_now()).where(running).execute()
            shared.journal.stop(run_id)
            release()
            with shared.journal.followed(run_id) as log:
                shared.wait_for_end(log)
    return get(user, chat_id, run_id)


def stop_all(user: User) -> int:
    """Tell every run of a user to end, in whichever process; returns how many have not yet."""
    shared: Agent = current_app.extensions["agent"]
    running = Run.select(Run.id).join(Chat).where(Chat.user == user.id, Run.finished_at.is_null())
    run_ids = [run.id for run in running]
    # One by one: of two who lock many rows each may wait for the other.
    for run_id in run_ids:
        alive = (Run.id == run_id) & Run.finished_at.is_null() & Run.stop_requested_at.is_null()
        Run.update(stop_requested_at=from_now()).where(alive).execute()
        shared.journal.stop(run_id)
    fail_dead(run_ids)
    release()
    return len(run_ids)


def delete_chat(user: User, chat_id: UUID) -> None:
    """Erase a chat from every table; a run that goes on in it is stopped first.

    Raises ChatNotFound, TooManyRequests when too many wait for runs already, ChatBusy when one run
    after the other begins in it meanwhile, Unavailable when the database is away.
    """
    for _ in range(ERASE_ATTEMPTS):
        running = _erase(user, chat_id)
        if running is None:
            return
        with suppress(RunNotFound):  # Somebody else has erased the chat meanwhile.
            stop(user, chat_id, running)
    raise ChatBusy


def _erase(user: User, chat_id: UUID) -> UUID | None:
    """Erase the chat, unless a run goes on in it: the id of that one. Raises ChatNotFound."""
    with db.atomic():
        # With the chat's row locked no run can begin in it.
        owned = Chat.select(Chat.id).where(Chat.id == chat_id, Chat.user == user.id)
        if not owned.for_update(db.obj.for_update).get_or_none():
            raise ChatNotFound
        alive = (Run.chat == chat_id) & Run.finished_at.is_null()
        running = Run.select(Run.id).where(alive).get_or_none()
        if running is None:
            Chat.erase([chat_id])
        return running and running.id


def _known(user: User, run_id: UUID, session_id: UUID | None, message: str) -> Run | None:
    """The run that a key has started. Raises IdempotencyKeyReused if the rest does not fit."""
    run = Run.find_of(user, run_id)
    if run is None:
        return None
    fits = run.chat_id == session_id if session_id else _began_its_chat(run)
    if run.message != message or not fits:
        raise IdempotencyKeyReused
    return run


def _began_its_chat(run: Run) -> bool:
    """Whether the message came without a chat's id: `new_id` made one, and it was the first."""
    return is_made(run.chat_id) and not Run.has_earlier(run)


def _claim(user: User, run: Run) -> bool:
    """Begin the run in its chat, which is made when nobody has it; False when it is there already.

    Raises ChatNotFound when the chat is somebody else's, ChatBusy while another run is alive in it,
    DayFull, TooManyChats, InvalidAccessToken when the account was erased or disabled meanwhile.
    """
    try:
        return _insert(user, run)
    except IntegrityError:
        running = (Run.chat == run.chat_id) & Run.finished_at.is_null()
        fail_dead([run_id for (run_id,) in Run.select(Run.id).where(running).tuples()])
    try:
        return _insert(user, run)
    except IntegrityError as error:
        if Run.get_or_none(id=run.id):
            return False
        _demand_open(user)
        limiter.spend(REPEATS_PER_USER, str(user.id))
        raise ChatBusy from error


def _withdraw(user: User, run: Run) -> None:
    """Undo the claim of a run that cannot begin, so that its message can be sent again.

    When the database is away, its lease lapses instead.
    """
    with suppress(Exception), db.atomic():
        storage.give_back(user, run)
        Run.delete().where(Run.id == run.id).execute()
        others = Run.select().where(Run.chat == run.chat_id)
        Chat.delete().where(Chat.id == run.chat_id, ~fn.EXISTS(others)).execute()


def _insert(user: User, run: Run) -> bool:
    """Raises IntegrityError when the run is there, or another one that has not ended; then nothing
    of this has happened.
    """
    bounds: Storage = current_app.extensions["agent"].storage
    for _ in range(ROOM_ATTEMPTS):
        if _insert_if_room(user, run, bounds):
            return True
        _demand_open(user)
        if Chat.select().where(Chat.id == run.chat_id, Chat.user != user.id).exists():
            raise ChatNotFound
        _make_room(user, run, bounds)
    raise TooManyRequests(1)  # Others of this user's took the room each time.


def _make_room(user: User, run: Run, bounds: Storage) -> None:
    """See `storage.make_room`. It counts chats, which who is refused may not ask for without end:
    raises TooManyRequests, besides.
    """
    limiter.check(REPEATS_PER_USER, str(user.id))
    try:
        storage.make_room(user, run, bounds)
    except (DayFull, TooManyChats):
        limiter.spend(REPEATS_PER_USER, str(user.id))
        raise


def _insert_if_room(user: User, run: Run, bounds: Storage) -> bool:
    """Store the run if the account is open and has room, and if the chat is theirs or new.

    Else do nothing. Returns whether it is stored.
    """
    chat_id, user_id, run_id = run.chat_id.hex, user.id.hex, run.id.hex
    brought, room = (run.message, run.input), storage.values_of(user, run, bounds)
    if not isinstance(db.obj, SqliteDatabase):
        return bool(_CHAT_WITH_RUN.rows(*room, chat_id, run_id, *brought))
    with db.atomic():
        return bool(
            _ROOM.rows(*room)
            and _CHAT.rows(chat_id, user_id)
            and _RUN.rows(run_id, chat_id, *brought)
        )


def _demand_open(user: User) -> None:
    """Raises InvalidAccessToken when the account was erased or disabled meanwhile."""
    if not User.select().where(User.is_open(user.id)).exists():
        raise InvalidAccessToken


_CHAT_COLUMNS = [Chat.id, Chat.user, Chat.created_at, Chat.active_at]


def _chat(chat_id, user_id) -> Insert:
    values = [chat_id, user_id, from_now(), from_now()]
    return _or_active(Chat.insert_many([values], _CHAT_COLUMNS))


def _or_active(chat: Insert) -> Insert:
    """Make a chat, or be active in it once more; no row if it is somebody else's."""
    return chat.on_conflict(
        conflict_target=[Chat.id],
        update={Chat.active_at: EXCLUDED.active_at},
        where=Chat.user == EXCLUDED.user_id,
    ).returning(Chat.id)


_RUN_COLUMNS = [Run.id, Run.chat, Run.message, Run.input, Run.created_at, Run.lease_until]


def _run(run_id, chat_id, message, brought) -> Insert:
    values = [run_id, chat_id, message, brought, from_now(), from_now(seconds=LEASE_SECONDS)]
    return Run.insert_many([values], _RUN_COLUMNS).returning(Run.id)


def _chat_with_run(*values) -> Insert:
    *taken, chat_id, run_id, message, brought = values
    room = storage.taking(*taken).cte("room")
    columns = [chat_id, room.c.user_id, from_now(), from_now()]
    chat = _or_active(Chat.insert_from(Select([room], columns), _CHAT_COLUMNS)).cte("chat")
    columns = [run_id, chat.c.id, message, brought, from_now(), from_now(seconds=LEASE_SECONDS)]
    run = Run.insert_from(Select([chat], columns), _RUN_COLUMNS)
    return run.returning(Run.id).with_cte(room, chat)


_ROOM = Prepared(storage.taking, values=9)
_CHAT = Prepared(_chat, values=2)
_RUN = Prepared(_run, values=4)
# One trip instead of four; SQLite cannot, and has none to make.
_CHAT_WITH_RUN = Prepared(_chat_with_run, values=13)


class _Execution:
    """A claimed run: the agent's events go to the journal as they come.

    It has a thread of its own, or that of somebody who waits for its end and not for its words.
    """

    def __init__(
        self,
        run: Run,
        said: list[Message],
        user: User,
        tools: Sequence[Tool],
        thread: WaitingThread | None = None,
    ):
        self._thread = thread
        self._app = current_app._get_current_object()
        self._agent: Agent = self._app.extensions["agent"]
        self._user_id = user.id
        self._log = self._agent.journal.begin(run.id)
        # Of two with one name the last counts.
        self._events = run_agent(
            _conversation(self._agent, run, said),
            Metered(self._agent.provider, self._agent.budget, user.id),
            [*tools, *self._agent.tools],
            self._agent.bounds,
            run_id=str(run.id),
            context=_Context(user),
            stop=self._log.stop,
        )

    def start(self) -> None:
        """Run on the thread that waits for it."""
        self._thread.run(self.run)

    def run(self) -> None:
        """Pass the run's events on to its journal, to the last."""
        logs.request_id.set(self._log.request_id)
        try:
            with self._app.app_context():
                self._pass_on()
        except Exception:
            logs.event("run_failed", level=logging.ERROR, exc_info=True)
            self._fail()
        finally:
            self._agent.places.leave(self._user_id)
            release()

    def _pass_on(self) -> None:
        woken_at = time.monotonic()
        for event in self._events:
            self._append(event)
            # Whoever waits for the end alone has nothing of it that words travel together.
            if self._thread and event.type in DELTAS:
                self._pause(woken_at)
                woken_at = time.monotonic()

    def _fail(self) -> None:
        self._append(RunError(str(self._log.run_id), ErrorCode.INTERNAL))

    def _append(self, event: Event) -> None:
        self._agent.journal.append(self._log, event, soon=self._thread is not None)

    def _pause(self, woken_at: float) -> None:
        """Wait until this run may wake again, or it is told to stop."""
        seconds = woken_at + self._agent.journal.running / WAKES_A_SECOND - time.monotonic()
        if seconds > MIN_PAUSE_SECONDS:
            with suppress(Stopped):
                self._log.stop.wait(seconds)


@dataclass(frozen=True)
class _Context:
    """What the tools may know of who asks."""

    user: User

    def profile(self) -> dict:
        user = self.user
        return {
            "username": user.username,
            "email": user.email,
            "avatar_url": user.avatar_url,
            "bio": user.bio,
        }

    def now(self) -> datetime:
        return clock.now()


def _provider(config: dict):
    base_url = model_server(config)
    if base_url is None:
        return EmbeddedProvider()
    # With urllib3 it takes a twelfth of a start, and is of no use without a model.
    from runtime.agent.providers.address import Proxies
    from runtime.agent.providers.openai import OpenAIProvider

    proxies = Proxies(config["HTTP_PROXY"], config["HTTPS_PROXY"], config["NO_PROXY"])
    try:
        return OpenAIProvider(
            base_url,
            config["OPENAI_API_KEY"],
            config["AGENT_MODEL"],
            options=config["AGENT_OPTIONS"],
            dialect=config["AGENT_DIALECT"],
            proxies=proxies,
            max_connections=config["WEB_THREADS"],
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _tools(config: dict) -> list[Tool]:
    try:
        load_tools(builtin=config["AGENT_BUILTIN_TOOLS"])
    except ValueError as error:
        raise ConfigError(f"AGENT_BUILTIN_TOOLS: {error}") from error
    try:
        return load_tools(config["AGENT_TOOLS"], config["AGENT_BUILTIN_TOOLS"])
    except ValueError as error:
        raise ConfigError(f"AGENT_TOOLS: {error}") from error


class _ReleasingTool(Tool):
    """A tool that gives the connection of its thread back, should it have asked the database."""

    def call(self, *arguments) -> str:
        try:
            return super().call(*arguments)
        finally:
            release()


def init_app(app: Flask) -> None:
    """Raises ConfigError when the provider's or the tools' settings make no sense."""
    app.extensions["agent"] = Agent(app.config)
