"""Conversations: which ones a user has, and what each is called.

What was said in them is read in `.records`; erasing one must stop its run first: see `.runs`.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from runtime.database.pagination import Page, page
from runtime.errors import ChatNotFound
from runtime.models.chats import Chat
from runtime.models.users import User
from runtime.security.tokens import tokens
from runtime.services.chats.ids import from_digest, made_of
from runtime.services.chats.titles import named_after


@dataclass(frozen=True)
class ShownChat:
    """A chat as it is shown: `title` is the user's, or made of the first message."""

    id: UUID
    title: str
    created_at: datetime
    active_at: datetime


def called(user: User, name: str) -> UUID:
    """The id of the chat that this user's client calls `name`: of theirs, or of one yet to begin.

    It is made with the newest SECRET_KEY, so that nobody can foresee it and begin a chat of that
    id first. A chat that an older key named is found, and so is one from before 0.4, when any id
    of this form was refused.
    """
    named = [from_digest(each) for each in tokens.name_digests(f"thread:{user.id}:{name}")]
    known = Chat.ids_of(user, [*named, made_of(user.id, f"thread {name}")])
    return next(filter(known.__contains__, named), None) or next(iter(known), named[0])


def page_of(user: User, limit: int, cursor: str | None) -> Page:
    """Some of the user's chats, the last active first."""
    found = page(Chat.of(user), Chat.activity(), cursor=cursor, limit=limit)
    return Page([_shown(chat) for chat in found.rows], found.next_cursor)


def get(user: User, chat_id: UUID) -> ShownChat:
    """The user's chat. Raises ChatNotFound, also when it is another user's."""
    chat = Chat.of(user).where(Chat.id == chat_id).get_or_none()
    if chat is None:
        raise ChatNotFound
    return _shown(chat)


def rename(user: User, chat_id: UUID, title: str | None) -> ShownChat:
    """Call a chat so, or after its first message again. Raises ChatNotFound."""
    Chat.update(title=title).where(Chat.id == chat_id, Chat.user == user.id).execute()
    return get(user, chat_id)


def _shown(chat: Chat) -> ShownChat:
    title = chat.title or named_after(chat.first_message or "")
    return ShownChat(chat.id, title, chat.created_at, chat.last_active_at)
