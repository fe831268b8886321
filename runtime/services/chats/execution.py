"""A run that goes on: the agent's events go to the journal as they come."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime

from flask import current_app

from runtime import clock, logs
from runtime.agent.events import ErrorCode, Event, RunError
from runtime.agent.loop import run as run_agent
from runtime.agent.messages import Message, cut_history
from runtime.agent.stop import Stopped
from runtime.agent.tools.tool import Tool
from runtime.database.base import release
from runtime.limits.concurrency import WaitingThread
from runtime.limits.rates import RUNS_PER_USER, limiter
from runtime.models.chats import Run
from runtime.models.users import User
from runtime.services.chats import claim, history
from runtime.services.chats.agent import Agent, current_agent
from runtime.services.chats.metered import Metered

# How often all runs of a process may wake their threads together; what has arrived meanwhile
# travels together. One alone wakes for every token, five hundred twice a second.
WAKES_A_SECOND = 1000
# Shorter ones are not worth a switch of threads.
MIN_PAUSE_SECONDS = 0.002


class Execution:
    """A claimed run, which `start` executes on `thread`, or `run` on the caller's.

    A caller that runs it waits for its end, and not for its words.
    """

    def __init__(
        self,
        run: Run,
        messages: list[Message],
        user: User,
        tools: Sequence[Tool],
        thread: WaitingThread | None = None,
    ):
        self._thread = thread
        self._app = current_app._get_current_object()
        self._agent: Agent = current_agent()
        self._user_id = user.id
        self._log = self._agent.journal.begin(run.id)
        self._events = run_agent(
            messages,
            Metered(self._agent.provider, self._agent.budget, user.id),
            tools,
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
            self._append(RunError(str(self._log.run_id), ErrorCode.INTERNAL))
        finally:
            self._agent.places.leave(self._user_id)
            release()

    def _pass_on(self) -> None:
        woken_at = time.monotonic()
        for event in self._events:
            self._append(event)
            if self._thread and event.owner is not None:  # A delta, and somebody may read it.
                self._pause(woken_at)
                woken_at = time.monotonic()

    def _append(self, event: Event) -> None:
        self._agent.journal.append(self._log, event, soon=self._thread is not None)

    def _pause(self, woken_at: float) -> None:
        """Wait until this run may wake again, or it is told to stop."""
        seconds = woken_at + self._agent.journal.running / WAKES_A_SECOND - time.monotonic()
        if seconds > MIN_PAUSE_SECONDS:
            with suppress(Stopped):
                self._log.stop.wait(seconds)


def begin(
    user: User,
    run: Run,
    tools: Sequence[Tool] = (),
    *,
    page: str = "",
    has_history: bool = True,
    in_background: bool = False,
) -> Execution | None:
    """Claim the chat for a run; None when that run has been started meanwhile.

    All that can refuse does so before, or the claim is withdrawn. With `in_background` the run has
    a thread, which waits for `Execution.start`. Raises what `claim.claim` raises, TooManyRequests,
    OutOfTokens.
    """
    agent = current_agent()
    tools = [*tools, *agent.tools]  # Of two with one name the last counts.
    with agent.places.kept(user.id) as keep, ExitStack() as undoing:
        limiter.check(RUNS_PER_USER, str(user.id))
        _demand_tokens(agent, user, agent.conversation([], run.message, page), tools)
        thread = undoing.enter_context(WaitingThread()) if in_background else None
        if not claim.claim(user, run):
            return None
        undoing.callback(claim.withdraw, user, run)
        most = agent.bounds.max_history_chars
        before = history.messages_of(run.chat_id, most, run.answers) if has_history else []
        messages = agent.conversation(before, run.message, page)
        _demand_tokens(agent, user, messages, tools)
        # Counted only now: a message that is refused is none of the minute's.
        limiter.spend(RUNS_PER_USER, str(user.id))
        execution = Execution(run, messages, user, tools, thread)
        undoing.pop_all()
        keep()  # `Execution.run` leaves the place.
    return execution


def _demand_tokens(agent: Agent, user: User, messages: list[Message], tools: list[Tool]) -> None:
    """Raises OutOfTokens unless the run's first call to the model can be paid for."""
    if agent.budget.daily:
        agent.budget.demand(user, cut_history(messages, agent.bounds.max_history_chars), tools)


@dataclass(frozen=True)
class _Context:
    """What the tools may know of who asks."""

    user: User

    def profile(self) -> dict:
        fields = ("username", "email", "avatar_url", "bio")
        return {field: getattr(self.user, field) for field in fields}

    def now(self) -> datetime:
        return clock.now()
