"""One run's life: claim the chat, run the agent on a thread of its own, stop, be asked about.

The agent makes events and knows nothing of this; they go to the journal (`.journal`), and whoever
asks reads them there. No reader owns a run: it goes on when nobody listens.
"""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

from flask import Flask, current_app
from peewee import EXCLUDED, Insert, IntegrityError, Select, SqliteDatabase, fn

from .. import agent, clock, i18n, logs, metrics
from ..agent import Bounds, Event, Message, RunError, Stopped, Tool
from ..agent.providers.embedded import EmbeddedProvider
from ..config import ConfigError
from ..db import Prepared, db, from_now, release
from ..errors import (
    ChatBusy,
    ChatNotFound,
    IdempotencyKeyReused,
    InvalidAccessToken,
    RunNotFound,
    TooManyRequests,
)
from ..models import Chat, Run, User
from ..ratelimit import RUNS_PER_USER, limiter
from . import chats, storage
from .budgets import Budget, Metered
from .journal import DELTAS, LEASE_SECONDS, Entry, Journal, Log, bury, join
from .storage import Storage

OPENAI_BASE_URL = "https://api.openai.com/v1"

RUNS_AT_ONCE_PER_USER = 8
STREAMS_AT_ONCE_PER_USER = 32
STOPS_AT_ONCE_PER_USER = 6
RUNS_AT_ONCE = 1000
FULL_RETRY_SECONDS = 5
# How often room for a run is looked for while others of its user take what there is.
ROOM_ATTEMPTS = 3
# How often all runs of a process may wake their threads together; what has arrived meanwhile
# travels together. One alone wakes for every token, five hundred twice a second.
WAKES_A_SECOND = 1000
# Shorter ones are not worth a switch of threads.
MIN_PAUSE_SECONDS = 0.002


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
        self.tools = [_released(tool) for tool in _tools(config)]
        self.instructions = config["AGENT_INSTRUCTIONS"]
        self.bounds = Bounds(
            max_steps=config["AGENT_MAX_STEPS"],
            max_seconds=config["AGENT_MAX_SECONDS"],
            silence_seconds=config["AGENT_SILENCE_SECONDS"],
            max_output_chars=config["AGENT_MAX_OUTPUT_CHARS"],
            max_history_chars=config["AGENT_HISTORY_CHARS"],
            tool_seconds=config["AGENT_TOOL_SECONDS"],
        )
        self.budget = Budget(config["AGENT_DAILY_TOKENS"], config["AGENT_MAX_OUTPUT_TOKENS"])
        self.storage = Storage.of(config)
        self.journal = Journal()
        self.places = Places("runs-at-once", RUNS_AT_ONCE, RUNS_AT_ONCE_PER_USER)
        # Whoever waits for an answer, or for the end of what they stop, holds a thread: others must
        # be served, and those who wait for answers keep nobody from stopping a run.
        threads = config["WEB_THREADS"]
        self.seats = Places("waiting-for-runs", max(1, threads * 3 // 4), RUNS_AT_ONCE_PER_USER)
        self.streams = Places("streams-at-once", RUNS_AT_ONCE, STREAMS_AT_ONCE_PER_USER)
        self.stops = Places("waiting-for-stops", max(1, threads // 8), STOPS_AT_ONCE_PER_USER)


def start(user: User, message: str, session_id: UUID | None, key: str | None = None) -> Run:
    """Let the agent run on a message; the run goes to its end whether or not anybody follows it.

    With a `key` that this user has used before it is that run again, whatever has become of it.
    Raises ChatNotFound, ChatBusy, TooManyRequests, OutOfTokens, IdempotencyKeyReused when the key
    was used for something else.
    """
    run, execution = _prepare(user, message, session_id, key)
    if execution:
        execution.start()
    return run


def _prepare(
    user: User, message: str, session_id: UUID | None, key: str | None
) -> tuple[Run, "_Execution | None"]:
    """A run that was claimed, and what executes it; nothing when its key has started it before."""
    if session_id:
        chats.demand_choosable(session_id)
    run_id = chats.made_of(user.id, f"key {key}") if key else uuid4()
    chat_id = session_id or (chats.made_of(run_id, "chat") if key else uuid4())
    if key and (known := _known(run_id, chat_id, message)):
        return known, None
    run = Run(id=run_id, chat_id=chat_id, message=message)
    # A chat whose id was made just now has no history.
    execution = _begin(user, run, has_history=session_id is not None)
    return (run, execution) if execution else (_known(run_id, chat_id, message), None)


def launch(user: User, run: Run, tools: Sequence[Tool] = ()) -> None:
    """Let the agent run on what was said, unless that run has been started meanwhile.

    `tools` are the client's to answer; where one has the name of our own, ours is the tool.
    Raises ChatNotFound, ChatBusy, TooManyRequests, OutOfTokens.
    """
    if execution := _begin(user, run, tools):
        execution.start()


def _begin(
    user: User, run: Run, tools: Sequence[Tool] = (), *, has_history: bool = True
) -> "_Execution | None":
    """Claim the chat for a run; None when that run has been started meanwhile."""
    limiter.hit(RUNS_PER_USER, str(user.id))
    shared: Agent = current_app.extensions["agent"]
    asked = [Message("system", shared.instructions), Message("user", run.message)]
    shared.budget.demand(user, asked, [*tools, *shared.tools])
    with shared.places.kept(user.id) as keep:
        if not _claim(user, run):
            return None
        try:
            most = shared.bounds.max_history_chars
            said = chats.history(run.chat_id, most, run.answers) if has_history else []
            execution = _Execution(run, said, user, tools)
        except Exception:
            _withdraw(run)
            raise
        keep()
    return execution


def answer(
    user: User, message: str, session_id: UUID | None, key: str | None, language: str
) -> Answer:
    """Start a run, see `start`, and wait for its end; one that fails has an answer too.

    Raises TooManyRequests when too many wait already, besides what `start` raises.
    """
    shared: Agent = current_app.extensions["agent"]
    with shared.seats.kept(user.id):
        run, execution = _prepare(user, message, session_id, key)
        release()  # A model may think for minutes.
        with shared.journal.followed(run.id) as log:
            if execution:  # Whoever waits need not wait for another thread.
                execution.run()
            log.wait_for_end()
    events = [event_of(entry, language) for entry in join(log.entries)]
    return Answer(run.chat_id, events[-1].get("output", ""), events)


def follow(user: User, run: Run) -> tuple[Log, Callable[[], None]]:
    """The run's log, for somebody to read from, and what they call when they have done so.

    Raises TooManyRequests.
    """
    shared: Agent = current_app.extensions["agent"]
    with shared.streams.kept(user.id) as keep:
        log = shared.journal.follow(run.id)
        keep()
    release()

    def leave() -> None:
        shared.journal.unfollow(log)
        shared.streams.leave(user.id)

    return log, leave


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
    return json.dumps(event_of(entry, language), ensure_ascii=False, separators=(",", ":"))


def told(error: str, language: str) -> str:
    """The sentence for the error in a journal; those of earlier releases have it already."""
    code = f"run_{error}"
    return i18n.sentence(code, language) if code in i18n.SENTENCES else error


def get(user: User, chat_id: UUID, run_id: UUID) -> Run:
    """A run of this user's, as it is now. Raises RunNotFound."""
    run = Run.find(user, chat_id, run_id)
    if run and run.finished_at is None and bury([run_id]):
        run = Run.find(user, chat_id, run_id)
    if run is None:
        raise RunNotFound
    return run


def stop(user: User, chat_id: UUID, run_id: UUID) -> Run:
    """End a run, in whichever process it is; back when its connection to the model is closed.

    What has ended before stays as it is. Raises RunNotFound, TooManyRequests when too many wait
    for runs already.
    """
    run = get(user, chat_id, run_id)
    if run.finished_at is None:
        running = (Run.id == run_id) & Run.finished_at.is_null()
        Run.update(stop_requested_at=from_now()).where(running).execute()
        shared: Agent = current_app.extensions["agent"]
        shared.journal.stop(run_id)
        release()
        with shared.stops.kept(user.id), shared.journal.followed(run_id) as log:
            log.wait_for_end()
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
    bury(run_ids)
    release()
    return len(run_ids)


def delete_chat(user: User, chat_id: UUID) -> None:
    """Erase a chat from every table; a run that goes on in it is stopped first.

    Raises ChatNotFound, TooManyRequests when too many wait for runs already.
    """
    while running := _erase(user, chat_id):
        with suppress(RunNotFound):  # Somebody else has erased the chat meanwhile.
            stop(user, chat_id, running)


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


def _known(run_id: UUID, chat_id: UUID, message: str) -> Run | None:
    """The run that a key has started. Raises IdempotencyKeyReused if the rest does not fit."""
    run = Run.get_or_none(id=run_id)
    if run and (run.chat_id, run.message) != (chat_id, message):
        raise IdempotencyKeyReused
    return run


def _claim(user: User, run: Run) -> bool:
    """Begin the run in its chat, which is made when nobody has it; False when it is there already.

    Raises ChatNotFound when the chat is somebody else's, ChatBusy while another run is alive in it,
    DayFull, TooManyChats, InvalidAccessToken when the account was erased meanwhile.
    """
    try:
        return _insert(user, run)
    except IntegrityError:
        running = (Run.chat == run.chat_id) & Run.finished_at.is_null()
        bury([run_id for (run_id,) in Run.select(Run.id).where(running).tuples()])
    try:
        return _insert(user, run)
    except IntegrityError as error:
        if Run.get_or_none(id=run.id):
            return False
        if not User.select().where(User.id == user.id).exists():
            raise InvalidAccessToken from error
        raise ChatBusy from error


def _withdraw(run: Run) -> None:
    """Undo the claim of a run that cannot begin, so that its message can be sent again.

    When the database is away, its lease lapses instead.
    """
    with suppress(Exception), db.atomic():
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
        if Chat.select().where(Chat.id == run.chat_id, Chat.user != user.id).exists():
            raise ChatNotFound
        storage.make_room(user, run, bounds)
    raise TooManyRequests(1)  # Others of this user's took the room each time.


def _insert_if_room(user: User, run: Run, bounds: Storage) -> bool:
    """Store the run if the user may, and if the chat is theirs or new; else do nothing.

    Returns whether it is stored.
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

    def __init__(self, run: Run, said: list[Message], user: User, tools: Sequence[Tool]):
        self._has_thread = False
        self._app = current_app._get_current_object()
        self._agent: Agent = self._app.extensions["agent"]
        self._user_id = user.id
        self._log = self._agent.journal.begin(run.id)
        words = [Message("user", run.message)] if run.message else []
        # Of two with one name the last counts.
        self._events = agent.run(
            [Message("system", self._agent.instructions), *said, *words],
            Metered(self._agent.provider, self._agent.budget, user.id),
            [*tools, *self._agent.tools],
            self._agent.bounds,
            run_id=str(run.id),
            context=_Context(user),
            stop=self._log.stop,
        )

    def start(self) -> None:
        self._has_thread = True
        thread = threading.Thread(target=self.run, name=f"run-{self._log.run_id}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # The system has no thread left, and the chat is claimed already.
            self._agent.places.leave(self._user_id)
            self._fail()
            raise

    def run(self) -> None:
        """Pass the run's events on to its journal, to the last."""
        logs.request_id.set(self._log.request_id)
        try:
            with self._app.app_context():
                self._pass_on()
        except Exception:
            logging.getLogger("runtime").exception("run_failed")
            self._fail()
        finally:
            self._agent.places.leave(self._user_id)
            if not self._has_thread:
                self._agent.journal.write()
            release()

    def _pass_on(self) -> None:
        woken_at = time.monotonic()
        for event in self._events:
            self._append(event)
            # Whoever waits for the end alone has nothing of it that words travel together.
            if self._has_thread and event.type in DELTAS:
                self._pause(woken_at)
                woken_at = time.monotonic()

    def _fail(self) -> None:
        self._append(RunError(str(self._log.run_id), agent.ErrorCode.INTERNAL))

    def _append(self, event: Event) -> None:
        self._agent.journal.append(self._log, event, soon=self._has_thread)

    def _pause(self, woken_at: float) -> None:
        """Wait until this run may wake again, or it is told to stop."""
        seconds = woken_at + self._agent.journal.running / WAKES_A_SECOND - time.monotonic()
        if seconds > MIN_PAUSE_SECONDS:
            with suppress(Stopped):
                self._log.stop.wait(seconds)


class Places:
    """How many of something this process has at once, in all and for each who has some."""

    def __init__(self, name: str, total: int, each: int):
        self._name = name
        self._total = total
        self._each = each
        self._taken: Counter[UUID] = Counter()
        self._lock = threading.Lock()

    def take(self, who: UUID) -> None:
        """A place for them, to be left again. Raises TooManyRequests when there is none."""
        with self._lock:
            if self._taken[who] >= self._each or self._taken.total() >= self._total:
                metrics.limits_reached.inc(self._name)
                raise TooManyRequests(FULL_RETRY_SECONDS)
            self._taken[who] += 1

    def leave(self, who: UUID) -> None:
        with self._lock:
            self._taken[who] -= 1
            if self._taken[who] <= 0:
                del self._taken[who]

    @contextmanager
    def kept(self, who: UUID) -> Iterator[Callable[[], None]]:
        """A place that is left at the end of the block, unless what is given was called by then.

        Raises TooManyRequests when there is none.
        """
        self.take(who)
        with ExitStack() as leaving:
            leaving.callback(self.leave, who)
            yield leaving.pop_all


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
    if not (config["OPENAI_BASE_URL"] or config["OPENAI_API_KEY"]):
        return EmbeddedProvider()
    # With urllib3 it takes a twelfth of a start, and is of no use without a model.
    from ..agent.providers.openai import OpenAIProvider

    try:
        return OpenAIProvider(
            config["OPENAI_BASE_URL"] or OPENAI_BASE_URL,
            config["OPENAI_API_KEY"],
            config["AGENT_MODEL"],
            max_connections=config["WEB_THREADS"],
        )
    except ValueError as error:
        raise ConfigError(f"OPENAI_API_KEY: {error}") from error


def _tools(config: dict) -> list[Tool]:
    try:
        return agent.load_tools(config["AGENT_TOOLS"])
    except ValueError as error:
        raise ConfigError(f"AGENT_TOOLS: {error}") from error


def _released(tool: Tool) -> Tool:
    """The tool, its thread's connection given back afterwards should it have asked the database."""

    def call(*arguments, **values):
        try:
            return tool.function(*arguments, **values)
        finally:
            release()

    return replace(tool, function=call)


def init_app(app: Flask) -> None:
    """Raises ConfigError when the provider's or the tools' settings make no sense."""
    app.extensions["agent"] = Agent(app.config)
