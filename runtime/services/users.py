"""Accounts: find one, change its profile, make an administrator."""

from peewee import IntegrityError

from .. import logs
from ..db import db
from ..errors import Forbidden, UsernameTaken, UserNotFound
from ..models import User


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
    User.update(is_admin=True).where(User.id == user.id).execute()
    user.is_admin = True
    logs.event("user_promoted", user_id=user.id)
    return user


def _found(user: User | None) -> User:
    if user is None:
        raise UserNotFound
    return user
