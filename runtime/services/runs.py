"""One run's life: claim the chat, journal what happens, be found dead when its process died.

The agent makes events and knows nothing of this; the journal in the database is what a run leaves
behind. Whoever asked is one reader of it.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

from flask import Flask, current_app
from peewee import IntegrityError, Query, fn

from .. import agent, clock, i18n, logs, metrics
from ..agent import Bounds, Event, Message, RunError, RunFinished, Tool
from ..agent.providers.embedded import EmbeddedProvider
from ..agent.providers.openai import OpenAIProvider
from ..config import ConfigError
from ..db import Prepared, db, from_now, release
from ..errors import ChatBusy, TooManyRequests
from ..models import Chat, Run, RunEvent, User
from ..ratelimit import RUNS_PER_USER, limiter
from . import chats

OPENAI_BASE_URL = "https://api.openai.com/v1"

# A killed process locks its chats for LEASE_SECONDS; a live one renews in time to miss two turns.
LEASE_SECONDS = 15
RENEWAL_SECONDS = 5
RUNS_AT_ONCE_PER_USER = 8
FULL_RETRY_SECONDS = 5
# How much of a run's text a killed process may take with it.
FLUSH_SECONDS = 0.25


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
        self.history_chars = config["AGENT_HISTORY_CHARS"]
        self.bounds = Bounds(
            max_steps=config["AGENT_MAX_STEPS"],
            max_seconds=config["AGENT_MAX_SECONDS"],
            silence_seconds=config["AGENT_SILENCE_SECONDS"],
            max_output_chars=config["AGENT_MAX_OUTPUT_CHARS"],
            tool_seconds=config["AGENT_TOOL_SECONDS"],
        )
        self.leases = Leases()
        self.places = Places(max(1, config["WEB_THREADS"] * 3 // 4), RUNS_AT_ONCE_PER_USER)


def answer(user: User, message: str, session_id: UUID | None, language: str) -> Answer:
    """Run the agent on a message and wait for its end; a run that fails has an answer too.

    The run goes to its end whether or not anybody still waits for it. Raises ChatNotFound,
    ChatBusy, TooManyRequests.
    """
    limiter.hit(RUNS_PER_USER, str(user.id))
    shared: Agent = current_app.extensions["agent"]
    with shared.places.taken(user.id):
        run, said = _begin(user, message, session_id, language)
        events = agent.compact(execute(run, said, user, language))
    wire = [_wire(event, language) for event in events]
    return Answer(run.chat_id, wire[-1].get("output", ""), wire)


def execute(run: Run, said: list[Message], user: User, language: str) -> Iterator[Event]:
    """The events of a claimed run, after what was said, as they happen, each journalled.

    No connection is held.
    """
    shared: Agent = current_app.extensions["agent"]
    release()
    events = agent.run(
        [Message("system", shared.instructions), *said, Message("user", run.message)],
        shared.provider,
        shared.tools,
        shared.bounds,
        run_id=str(run.id),
        context=_Context(user),
    )
    with shared.leases.hold(run.id):
        yield from _journalled(run, events, language)


def _begin(
    user: User, message: str, chat_id: UUID | None, language: str
) -> tuple[Run, list[Message]]:
    """The chat's one run, and what was said before; the chat is made now when nobody has it.

    Raises ChatNotFound, ChatBusy.
    """
    chat = chats.find(user, chat_id) if chat_id else None
    if chat is None:
        try:
            with db.atomic():
                chat = Chat(id=chat_id or uuid4(), user=user)
                _NEW_CHAT.rows(chat.id.hex, user.id.hex)
                return _insert(chat, message), []
        except IntegrityError:
            chat = chats.find(user, chat_id) if chat_id else None
            if chat is None:  # Not that another request had made it since we looked.
                raise
    run = _claim(chat, message, language)
    return run, chats.history(chat, current_app.extensions["agent"].history_chars)


def _claim(chat: Chat, message: str, language: str) -> Run:
    """The chat's one run. Raises ChatBusy while another is alive."""
    try:
        return _insert(chat, message)
    except IntegrityError:
        _bury(chat, language)
    try:
        return _insert(chat, message)
    except IntegrityError as error:
        raise ChatBusy from error


def _insert(chat: Chat, message: str) -> Run:
    run = Run(chat=chat, message=message)
    _NEW_RUN.rows(run.id.hex, chat.id.hex, message)
    return run


_NEW_CHAT = Prepared(
    lambda chat_id, user_id: Chat.insert(
        {Chat.id: chat_id, Chat.user: user_id, Chat.created_at: from_now()}
    ).returning(Chat.id),
    values=2,
)
_NEW_RUN = Prepared(
    lambda run_id, chat_id, message: Run.insert(
        {
            Run.id: run_id,
            Run.chat: chat_id,
            Run.message: message,
            Run.created_at: from_now(),
            Run.lease_until: from_now(seconds=LEASE_SECONDS),
        }
    ).returning(Run.id),
    values=3,
)


def _bury(chat: Chat, language: str) -> None:
    """End the chat's run if its lease has lapsed: its process died, and cannot."""
    dead = Run.get_or_none(
        Run.chat == chat, Run.finished_at.is_null(), Run.lease_until < from_now()
    )
    if dead is None:
        return
    ending = RunError(str(dead.id), agent.ErrorCode.INTERRUPTED)
    with db.atomic():
        if _finish(dead, ending, _FINISHED_IF_LAPSED):
            last = RunEvent.select(fn.MAX(RunEvent.number)).where(RunEvent.run == dead).scalar()
            _insert_events(dead, (last or 0) + 1, [ending], language)


def _journalled(run: Run, events: Iterable[Event], language: str) -> Iterator[Event]:
    """Pass events on once they are written, in groups: a token is not worth a transaction."""
    number, waiting, written_at = 1, [], time.monotonic()
    for event in events:
        waiting.append(event)
        ended = isinstance(event, RunFinished | RunError)
        if not ended and time.monotonic() - written_at < FLUSH_SECONDS:
            continue
        group = agent.compact(waiting)
        if not _write(run, number, group, language):
            # Found dead while it could not renew its lease; the journal has its end already.
            yield RunError(str(run.id), agent.ErrorCode.INTERRUPTED)
            return
        number, waiting, written_at = number + len(group), [], time.monotonic()
        yield from group


def _write(run: Run, number: int, group: list[Event], language: str) -> bool:
    """Append a group of events, and the end of the run with its last; False once it has ended."""
    with db.atomic():
        if isinstance(group[-1], RunFinished | RunError):
            alive = _finish(run, group[-1], _FINISHED)
        else:
            alive = bool(_RENEWED.rows(run.id.hex))
        if alive:
            _insert_events(run, number, group, language)
    release()
    return alive


def _insert_events(run: Run, number: int, group: list[Event], language: str) -> None:
    rows = [
        (run.id, number + i, json.dumps(_wire(event, language), ensure_ascii=False))
        for i, event in enumerate(group)
    ]
    RunEvent.insert_many(rows, fields=[RunEvent.run, RunEvent.number, RunEvent.data]).execute()


def _finish(run: Run, ending: RunFinished | RunError, statement: Prepared) -> bool:
    """End the run's row; False when the statement found it ended, or alive, already."""
    usage = ending.usage
    if not statement.rows(usage.input_tokens, usage.output_tokens, run.id.hex):
        return False
    code = ending.code.value if isinstance(ending, RunError) else None
    metrics.runs.inc(code or "finished")
    metrics.run_tokens.inc("input", by=usage.input_tokens or 0)
    metrics.run_tokens.inc("output", by=usage.output_tokens or 0)
    logs.event("run_ended", run_id=run.id, error=code)
    return True


def _unfinished(run_id, **changes) -> Query:
    """Change a run that has not ended; a row comes back if there is one."""
    running = (Run.id == run_id) & Run.finished_at.is_null()
    return Run.update(changes).where(running).returning(Run.id)


def _finished(input_tokens, output_tokens, run_id) -> Query:
    return _unfinished(
        run_id, finished_at=from_now(), input_tokens=input_tokens, output_tokens=output_tokens
    )


_RENEWED = Prepared(lambda run_id: _unfinished(run_id, lease_until=from_now(seconds=LEASE_SECONDS)))
_FINISHED = Prepared(_finished, values=3)
_FINISHED_IF_LAPSED = Prepared(
    lambda *values: _finished(*values).where(Run.lease_until < from_now()), values=3
)


def _wire(event: Event, language: str) -> dict:
    """The event as it is sent and kept, its error in the language of whoever asked."""
    wire = event.to_dict()
    if isinstance(event, RunError):
        wire["error"] = i18n.sentence(f"run_{event.code.value}", language)
    return wire


class Places:
    """How many runs this process has at once: each takes a thread, and others must be served."""

    def __init__(self, total: int, per_user: int):
        self._total = total
        self._per_user = per_user
        self._taken: Counter[UUID] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, user_id: UUID) -> Iterator[None]:
        """A place for a run of this user's. Raises TooManyRequests when there is none."""
        with self._lock:
            if self._taken[user_id] >= self._per_user or self._taken.total() >= self._total:
                metrics.limits_reached.inc("runs-at-once")
                raise TooManyRequests(FULL_RETRY_SECONDS)
            self._taken[user_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[user_id] -= 1
                self._taken += Counter()  # forgets whoever has none left


class Leases:
    """Renews the leases of this process's runs, all in one statement, while there are any."""

    def __init__(self):
        self._held: set[UUID] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def hold(self, run_id: UUID) -> "_Lease":
        """A context in which the run's lease does not lapse as long as the process lives."""
        return _Lease(self, run_id)

    def add(self, run_id: UUID) -> None:
        with self._lock:
            self._held.add(run_id)
            if self._thread is None:
                thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                thread.start()
                self._thread = thread

    def remove(self, run_id: UUID) -> None:
        with self._lock:
            self._held.discard(run_id)

    def _renew(self) -> None:
        while True:
            time.sleep(RENEWAL_SECONDS)
            with self._lock:
                held = list(self._held)
                if not held:
                    self._thread = None
                    return
            self._extend(held)

    @staticmethod
    def _extend(held: list[UUID]) -> None:
        try:
            until = from_now(seconds=LEASE_SECONDS)
            Run.update(lease_until=until).where(Run.id.in_(held)).execute()
        except Exception as error:  # The database is away; the next turn tries again.
            logs.event("leases_not_renewed", reason=type(error).__name__)
        finally:
            release()


@dataclass(frozen=True)
class _Lease:
    leases: Leases
    run_id: UUID

    def __enter__(self) -> None:
        self.leases.add(self.run_id)

    def __exit__(self, *_exception) -> None:
        self.leases.remove(self.run_id)


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
