"""Claiming a chat for a run: one at a time, in an account that is open and has room.

The unique index `runs_running` (models/chats.py) keeps two requests at once from beginning two runs
in a chat.
"""

from contextlib import suppress

from flask import current_app
from peewee import EXCLUDED, Insert, IntegrityError, Select, SqliteDatabase, fn

from runtime.database.base import db, from_now
from runtime.database.prepared import Prepared
from runtime.errors import (
    ChatBusy,
    ChatNotFound,
    DayFull,
    InvalidAccessToken,
    RunReplaced,
    TooManyChats,
    TooManyRequests,
)
from runtime.limits.rates import REPEATS_PER_USER, limiter
from runtime.models.chats import Chat, Run
from runtime.models.users import User
from runtime.services.chats import storage
from runtime.services.chats.endings import fail_dead
from runtime.services.chats.keeper import LEASE_SECONDS
from runtime.services.chats.storage import Storage

# How often room for a run is looked for while others of its user take what there is.
ROOM_ATTEMPTS = 3


def claim(user: User, run: Run) -> bool:
    """Begin the run, in a new chat if there is none of its id; False when the run is there already.

    Raises ChatNotFound when the chat is another user's, ChatBusy while another run is alive in it,
    DayFull, TooManyChats, InvalidAccessToken when the account was erased or disabled meanwhile,
    RunReplaced when the run that it replaces is no part of the conversation any more.
    """
    try:
        return _claim(user, run)
    except RunReplaced:
        if Run.get_or_none(id=run.id) is None:
            raise
        return False  # The same request, sent twice at once, has replaced it.


def _claim(user: User, run: Run) -> bool:
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


def withdraw(user: User, run: Run) -> None:
    """Undo the claim of a run that cannot begin, so that its message can be sent again.

    When the database is away, its lease lapses instead.
    """
    with suppress(Exception), db.atomic():
        storage.give_back(user, run)
        if run.replaces:
            cut_off = (Run.chat == run.chat_id) & (Run.replaced_by == run.id)
            Run.update(replaced_by=None).where(cut_off).execute()
        Run.delete().where(Run.id == run.id).execute()
        others = Run.select().where(Run.chat == run.chat_id)
        Chat.delete().where(Chat.id == run.chat_id, ~fn.EXISTS(others)).execute()


def _insert(user: User, run: Run) -> bool:
    """Raises IntegrityError when the run, or another live run of the chat, is there. Then nothing
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
    if not (run.replaces or isinstance(db.obj, SqliteDatabase)):
        return bool(_CHAT_WITH_RUN.rows(*room, chat_id, run_id, *brought))
    with db.atomic():
        if not (_ROOM.rows(*room) and _CHAT.rows(chat_id, user_id)):
            return False
        if run.replaces:
            _cut_off(run)
        return bool(_RUN.rows(run_id, chat_id, *brought))


def _cut_off(run: Run) -> None:
    """Take the run that this one replaces, and all after it, out of the conversation.

    The chat's row is locked: of two who replace the same run the second finds nothing to replace,
    and raises RunReplaced.
    """
    conversation = Run.in_conversation(run.chat_id)
    began_at = Run.select(Run.created_at).where(conversation, Run.id == run.replaces)
    cut_off = conversation & (Run.created_at >= began_at)
    if not Run.update(replaced_by=run.id).where(cut_off).execute():
        raise RunReplaced


def _demand_open(user: User) -> None:
    """Raises InvalidAccessToken when the account was erased or disabled meanwhile."""
    if not User.select().where(User.is_open(user.id)).exists():
        raise InvalidAccessToken


_CHAT_COLUMNS = [Chat.id, Chat.user, Chat.created_at, Chat.active_at]


def _chat(chat_id, user_id) -> Insert:
    values = [chat_id, user_id, from_now(), from_now()]
    return _or_active(Chat.insert_many([values], _CHAT_COLUMNS))


def _or_active(chat: Insert) -> Insert:
    """Make a chat, or be active in it once more; no row if it is another user's."""
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
# One trip instead of four; SQLite cannot, and has none to make. A run that replaces others takes
# five, since the database must have locked the chat before it looks at them.
_CHAT_WITH_RUN = Prepared(_chat_with_run, values=13)
