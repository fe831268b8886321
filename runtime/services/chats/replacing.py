"""Runs that replace the running one of their chat."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import UUID

from runtime.agent.tools.tool import Tool
from runtime.errors import ChatBusy
from runtime.models.chats import Run
from runtime.models.users import User
from runtime.services.chats import runs
from runtime.services.chats.runs import Followed

# Of many who do so at once one begins each time, and as many as this wait for the others' ends.
ATTEMPTS = 8

Begun = TypeVar("Begun")


def begin_instead(
    user: User, chat_id: UUID, begin: Callable[[], Begun], run_id: UUID | None = None
) -> Begun:
    """What `begin` returns, once what goes on in the chat was stopped, in any process.

    A run of `run_id` is not in the way: it is what another request with the same key has begun.
    Raises what `begin` and `runs.stop` do; ChatBusy when one run after the other begins meanwhile.
    """
    for _ in range(ATTEMPTS):
        with suppress(ChatBusy):
            return begin()
        runs.stop_last(user, chat_id, but=run_id)
    raise ChatBusy


def launch_instead(user: User, run: Run, tools: Sequence[Tool] = (), page: str = "") -> Followed:
    """`runs.launch`, likewise."""
    return begin_instead(user, run.chat_id, partial(runs.launch, user, run, tools, page), run.id)
