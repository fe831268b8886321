"""What the routes for other front ends' protocols have in common: they hold the chat themselves,
call it by a name of their own, and send along what they hold."""

from contextlib import suppress
from uuid import UUID

import marshmallow as ma

from runtime.api import new_messages
from runtime.api.schemas.agent_chats import MAX_MESSAGE_CHARS
from runtime.api.schemas.fields import Id
from runtime.errors import Fault, InvalidParameters, NothingNew, RunNotFound
from runtime.models.chats import Run
from runtime.models.users import User
from runtime.services.chats import chat_state, chats, runs
from runtime.services.chats.chat_state import ChatState
from runtime.services.chats.ids import run_called


def chat_id_of(user: User, name: str) -> UUID:
    """The chat's id if the client calls it by that, or one made of the client's own name for it."""
    try:
        return Id().deserialize(name)
    except ma.ValidationError:
        return chats.called(user, name)


def run_of(user: User, chat_name: str, run_name: str) -> Run:
    """A run that is there, by its ids or by a client's own names. Raises RunNotFound."""
    chat_id = chat_id_of(user, chat_name)
    with suppress(ma.ValidationError, RunNotFound):
        return runs.get(user, chat_id, Id().deserialize(run_name))
    return runs.get(user, chat_id, run_called(chat_id, run_name))


def run_on(
    messages: list[dict],
    state: ChatState,
    run_id: UUID,
    chat_id: UUID,
    member: str = "content",
    *,
    carries_on: bool = True,
) -> Run:
    """The run on what is new, in the place of what the client has cut off; `member` of a message
    has its text.

    A run that failed it `carries_on` with nothing new. Raises NothingNew; InvalidParameters when it
    is too long or is more than text.
    """
    replaced = new_messages.replaced_run(messages, state, member)
    if replaced:
        state = chat_state.before(state, replaced)
    found = new_messages.find(messages, state, member)
    if not (found or (carries_on and state.is_unfinished and not replaced)):
        raise NothingNew
    run = Run.on(found, run_id, chat_id)
    run.replaces = replaced
    if len(run.message) > MAX_MESSAGE_CHARS:
        raise InvalidParameters(Fault("#/messages", f"too_long {MAX_MESSAGE_CHARS}"))
    return run
