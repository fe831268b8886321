"""Conversations, and their runs: a message and its answer each."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

from peewee import (
    CharField,
    Expression,
    ForeignKeyField,
    Function,
    IntegerField,
    TextField,
    UUIDField,
    chunked,
    fn,
)

from runtime.database.base import Model, from_now
from runtime.database.instants import InstantField
from runtime.models.users import User

# What one statement erases: runs with their journals, chats that have no more.
STEP_RUNS = 100
STEP_CHATS = 100


class Chat(Model):
    """A conversation of one user with the agent.

    `title` is what the user calls it; NULL has it go by its first message. `active_at` is when its
    last run began, NULL if that was before there was the column.
    """

    user = ForeignKeyField(User, backref="chats", on_delete="CASCADE", index=False)
    title = CharField(max_length=100, null=True)
    active_at = InstantField(null=True)

    class Meta:
        table_name = "chats"

    def __repr__(self):
        return f"<Chat {self.user_id} {self.title or ''}>"

    @property
    def last_active_at(self) -> datetime:
        return self.active_at or self.created_at

    @classmethod
    def activity(cls) -> Function:
        """`last_active_at`, as a query knows it."""
        return fn.COALESCE(cls.active_at, cls.created_at)

    @classmethod
    def ids_of(cls, user: User, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the ids that are this user's chats."""
        owned = cls.select(cls.id).where(cls.id.in_(ids), cls.user == user.id)
        return {chat_id for (chat_id,) in owned.tuples()}

    @classmethod
    def of(cls, user: User):
        """This user's chats as a query, each with its `first_message`."""
        messages = Run.select(Run.message).where(Run.in_conversation(cls.id))
        messages = messages.order_by(Run.created_at)
        return cls.select(cls, messages.limit(1).alias("first_message")).where(cls.user == user.id)

    @classmethod
    def erase(cls, chat_ids: Sequence[UUID]) -> None:
        """Delete chats with all that was said in them, in the caller's transaction.

        In steps: no statement may take longer than Postgres' timeout, however much there is.
        """
        for some in chunked(chat_ids, STEP_CHATS):
            runs = Run.select(Run.id).where(Run.chat.in_(some)).limit(STEP_RUNS)
            while Run.delete().where(Run.id.in_(runs)).execute():
                pass
            cls.delete().where(cls.id.in_(some)).execute()


Chat.add_index(Chat.index(Chat.user, Chat.activity(), Chat.id, name="chats_activity"))


@dataclass(frozen=True)
class InputMessage:
    """A message that begins a run: the user's words, or what a tool of the client's gave.

    `id` is the client's own; `tool_call_id` names the call that is answered.
    """

    id: str
    text: str
    tool_call_id: str | None = None


class Run(Model):
    """One message of the user and all that the agent did about it.

    `finished_at` is NULL while it runs; a run whose lease has lapsed died with its process.
    `error` is the code of what ended it before its answer was complete. `input` has what was said
    if a client sent it otherwise than as one `message`, which then has the user's words in it.
    `replaced_by` is the run that was begun in place of this one, or of one before it: this one is
    kept, and no part of the conversation any more. NULL means that it is.
    """

    # The run that this one, not in the table yet, is to replace.
    replaces: UUID | None = None

    chat = ForeignKeyField(Chat, backref="runs", on_delete="CASCADE", index=False)
    message = TextField()
    input = TextField(null=True)
    lease_until = InstantField()
    finished_at = InstantField(null=True)
    input_tokens = IntegerField(null=True)
    output_tokens = IntegerField(null=True)
    error = CharField(null=True)
    stop_requested_at = InstantField(null=True)
    replaced_by = UUIDField(null=True)

    class Meta:
        table_name = "runs"
        indexes = ((("chat", "created_at"), False),)

    def __repr__(self):
        return f"<Run {self.chat_id} {self.status}>"

    @classmethod
    def on(cls, messages: Sequence[InputMessage], run_id: UUID, chat_id: UUID) -> "Run":
        """A run on what a client sent, not in the table yet."""
        message = "\n\n".join(each.text for each in messages if each.tool_call_id is None)
        text = json.dumps([astuple(each) for each in messages], ensure_ascii=False)
        return cls(id=run_id, chat_id=chat_id, message=message, input=text)

    @classmethod
    def in_conversation(cls, chat_id: UUID | ForeignKeyField) -> Expression:
        """The condition that a run is part of a chat's conversation: all that reads one asks so."""
        return (cls.chat == chat_id) & cls.replaced_by.is_null()

    @classmethod
    def find(cls, user: User, chat_id: UUID, run_id: UUID) -> "Run | None":
        """A run of this chat, if the chat is this user's."""
        owned = (cls.id == run_id) & (Chat.id == chat_id) & (Chat.user == user.id)
        return cls.select(cls).join(Chat).where(owned).get_or_none()

    @classmethod
    def find_of(cls, user: User, run_id: UUID) -> "Run | None":
        """A run in any chat of this user's."""
        owned = (cls.id == run_id) & (Chat.user == user.id)
        return cls.select(cls).join(Chat).where(owned).get_or_none()

    @classmethod
    def running(cls):
        """The running runs of all processes with their users, as a query.

        A run whose lease has lapsed died with its process.
        """
        alive = cls.finished_at.is_null() & (cls.lease_until > from_now())
        columns = (cls.id, cls.chat, cls.created_at, cls.stop_requested_at)
        whose = (User.id.alias("user_id"), User.username)
        return cls.select(*columns, *whose).join(Chat).join(User).where(alive).objects()

    @classmethod
    def has_earlier(cls, run: "Run") -> bool:
        """Whether its chat has a run from before it."""
        earlier = (cls.chat == run.chat_id) & (cls.created_at < run.created_at)
        return cls.select().where(earlier).exists()

    @property
    def input_messages(self) -> list[InputMessage]:
        """The messages that began it, in order: what the agent did is in its events."""
        if self.input is None:
            return [InputMessage(str(self.id), self.message)]
        return _messages_in(self.input)

    @property
    def answers(self) -> dict[str, str]:
        return answers_in(self.input)

    @property
    def status(self) -> str:
        """running, finished, failed, or stopped on request."""
        if self.finished_at is None:
            return "running"
        return {None: "finished", "stopped": "stopped"}.get(self.error, "failed")


def _messages_in(text: str) -> list[InputMessage]:
    return [InputMessage(*each) for each in json.loads(text)]


def answers_in(text: str | None) -> dict[str, str]:
    """The results in a run's `input`, by the id of the call that each answers."""
    messages = _messages_in(text) if text else ()
    return {each.tool_call_id: each.text for each in messages if each.tool_call_id}


# The database itself sees to it that a chat has one run at a time.
Run.add_index(
    Run.index(Run.chat, unique=True, name="runs_running", where=Run.finished_at.is_null())
)
Run.add_index(
    Run.index(Run.chat, Run.created_at, name="runs_conversation", where=Run.replaced_by.is_null())
)
