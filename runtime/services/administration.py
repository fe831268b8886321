"""What administrators do to accounts over HTTP: each act is an operator's command too.

The journal of whom it concerns says that an administrator did it, and the log says which one.
"""

from dataclasses import dataclass
from uuid import UUID

from runtime import logs
from runtime.errors import AdministratorProtected, UserNotFound
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services import closures
from runtime.services.accounts import sessions, users


@dataclass(frozen=True)
class Account:
    """An account, and how many live sessions and chats it has."""

    user: User
    sessions: int
    chats: int


def account_of(user: User) -> Account:
    """What there is to show of an account."""
    return Account(user, Session.count_live(user), user.chats.count())


def show(administrator: User, user_id: UUID) -> Account:
    """An account, for an administrator to look at. Raises UserNotFound."""
    user = _get(user_id)
    _log(administrator, "shown", user)
    return account_of(user)


def change(administrator: User, user_id: UUID, changes: dict) -> Account:
    """Shut an account, or open it again, as `disabled` says if it is there.

    One that is so already stays as it is. Raises UserNotFound, AdministratorProtected.
    """
    user = _get_unprotected(user_id)
    disabled = changes.get("disabled", user.is_disabled)
    if user.is_disabled != disabled:
        act = closures.disable if disabled else users.enable
        act(user, by_administrator=True)
        _log(administrator, "disabled" if disabled else "enabled", user)
    return account_of(_get(user_id))


def end_sessions(administrator: User, user_id: UUID) -> None:
    """Sign an account out everywhere, an administrator's too. Raises UserNotFound."""
    user = _get(user_id)
    sessions.end_all(user, by_administrator=True)
    _log(administrator, "sessions_ended", user)


def erase(administrator: User, user_id: UUID) -> None:
    """Erase an account and all that is its; its owner is told by mail.

    Raises UserNotFound, AdministratorProtected.
    """
    user = _get_unprotected(user_id)
    closures.erase(user)
    _log(administrator, "erased", user)


def _get_unprotected(user_id: UUID) -> User:
    """An account that is no administrator's.

    Who has the token of one administrator locks no other out, nor themselves by mistake: so there
    is always one left. Operators demote them first.
    """
    user = _get(user_id)
    if user.is_admin:
        raise AdministratorProtected
    return user


def _get(user_id: UUID) -> User:
    user = User.get_or_none(User.id == user_id)
    if user is None:
        raise UserNotFound
    return user


def _log(administrator: User, act: str, user: User) -> None:
    logs.event("administrator_acted", administrator_id=administrator.id, act=act, user_id=user.id)
