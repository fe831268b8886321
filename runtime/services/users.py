"""Accounts: find one, change its profile, make an administrator, shut one."""

from peewee import IntegrityError

from .. import logs
from ..db import db, from_now
from ..errors import Forbidden, UsernameTaken, UserNotFound
from ..models import Session, User
from . import events
from .events import Kind


def get_by_email(email: str, asker: User) -> User:
    """Oneself, or anybody for an administrator.

    Raises Forbidden for any other address, whether or not it has an account; UserNotFound, which
    only an administrator can see.
    """
    if email.lower() == asker.email.lower():
        return asker
    if not asker.is_admin:
        raise Forbidden
    return _found(User.find_by_email(email))


def change_profile(user: User, changes: dict) -> User:
    """Set the columns named in `changes` (username, avatar_url, bio) and no other.

    Raises UsernameTaken when another account has the name, in whatever case.
    """
    if not changes:
        return user
    try:
        with db.atomic():
            User.update(changes).where(User.id == user.id).execute()
    except IntegrityError as error:
        raise UsernameTaken from error
    for name, value in changes.items():
        setattr(user, name, value)
    return user


def promote(user: User) -> User:
    """Make a user an administrator."""
    with db.atomic():
        User.update(is_admin=True).where(User.id == user.id).execute()
        events.record(user, Kind.PROMOTED)
    user.is_admin = True
    logs.event("user_promoted", user_id=user.id)
    return user


def disable(user: User) -> int:
    """Shut an account: from now on it is as if its password were wrong, and its tokens nothing.

    Returns how many of its sessions were live; they stay ended when it is enabled again.
    """
    with db.atomic():
        # The row first: a sign-in that holds it has its session there when this goes on.
        User.update(disabled_at=from_now()).where(User.id == user.id).execute()
        ended = Session.end_live(user)
        events.record(user, Kind.DISABLED)
    logs.event("user_disabled", user_id=user.id)
    return ended


def enable(user: User) -> None:
    """Open a disabled account again."""
    with db.atomic():
        User.update(disabled_at=None).where(User.id == user.id).execute()
        events.record(user, Kind.ENABLED)
    logs.event("user_enabled", user_id=user.id)


def _found(user: User | None) -> User:
    if user is None:
        raise UserNotFound
    return user
