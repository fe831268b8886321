"""Everything that is an account's is deleted with it, in one transaction."""

from peewee import ModelSelect, fn

from runtime import logs
from runtime.database.base import db, from_now
from runtime.models.chats import Chat, Run
from runtime.models.codes import EmailChange, Recovery, SignUp
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import credentials, former_spendings


def erase(user: User, asked_in: Session | None = None) -> None:
    """Delete an account and all that is its: afterwards it is in no table.

    That is its sessions, its journal, its changes of address, its chats with their runs and words.
    What waits for a code at its address, or at an earlier address of it, is void and names no
    person, also if a stranger began it. It counts as before: no limit tells a stranger that an
    owner left. Leaving and coming back gives neither new tries nor a new day's tokens.

    `asked_in` is the session that its owner asked in, with the password that the account had when
    it was read: raises WrongPassword when it has another by now, InvalidAccessToken when the
    session is over or the account gone.
    """
    # Other accounts' changes apart: two that wait for each other's address would wait for each
    # other here. Once more afterwards, for what was begun meanwhile.
    for email in _emails_of(user):
        EmailChange.hide(email)
    with db.atomic():
        if asked_in:
            credentials.hold_account(asked_in)
        # The row first, so that no session is started meanwhile; then in the order in which
        # others take them, so that no two wait for each other.
        User.update(disabled_at=from_now()).where(User.id == user.id).execute()
        Session.delete().where(Session.user == user).execute()
        emails = _emails_of(user)
        for email in emails:
            SignUp.hide(email)
            Recovery.hide(email)
        # Before the account is locked, which a new chat refers to: its run has locked the row of
        # what is spent, which this holds.
        former_spendings.keep(user, emails)
        # No event is recorded, and no chat begins, after this; who ended a session has recorded it.
        _lock(User.select(User.id).where(User.id == user.id))
        _erase_chats(user)
        SecurityEvent.erase(user)
        User.delete().where(User.id == user.id).execute()
    for email in emails:
        EmailChange.hide(email)
    logs.event("user_erased", user_id=user.id)


def _emails_of(user: User) -> set[str]:
    """The address that an account has now, and those that it had, unless they are others' now."""
    emails = {row.email.lower() for row in User.select(User.email).where(User.id == user.id)}
    emails |= {row.old_email.lower() for row in user.email_changes}
    others = User.select(User.email).where(fn.LOWER(User.email).in_(emails), User.id != user.id)
    return emails - {row.email.lower() for row in others}


def _erase_chats(user: User) -> None:
    own_chats = Chat.select(Chat.id).where(Chat.user == user.id)
    own_runs = Run.select(Run.id).where(Run.chat.in_(own_chats))
    # No run begins after this; those that go on are locked in the order in which journals do it.
    chat_ids = [chat_id for (chat_id,) in _lock(own_chats.order_by(Chat.id))]
    _lock(own_runs.where(Run.finished_at.is_null()).order_by(Run.id))
    Chat.erase(chat_ids)


def _lock(rows: ModelSelect) -> list[tuple]:
    """Keep others from changing these rows, or referring to them, to the end of the transaction."""
    return list(rows.for_update(db.obj.for_update).tuples())
