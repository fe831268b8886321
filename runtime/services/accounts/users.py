"""Accounts: find one, change its profile; and what operators do: make, promote and shut one."""

from peewee import IntegrityError

from runtime import clock, logs
from runtime.database.base import db, from_now
from runtime.database.pagination import Page, beginning_with, page, search
from runtime.errors import EmailTaken, Forbidden, InvalidAccessToken, UsernameTaken, UserNotFound
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.passwords import passwords
from runtime.services.accounts import codes, credentials, former_spendings, security_log
from runtime.services.accounts.security_log import Kind


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


def page_of(text: str, *, cursor: str | None, limit: int, anywhere: bool = False) -> Page:
    """Some accounts, the newest first: those whose address or username begins with the text.

    Or has it `anywhere`, which is for operators alone: it reads every account until there are
    enough.
    """
    if not text:
        return page(User.select(), User.created_at, cursor=cursor, limit=limit)
    find = search if anywhere else beginning_with
    columns = (User.email, User.username)
    return find(User.select(), User.created_at, text, columns, cursor=cursor, limit=limit)


def change_profile(user: User, changes: dict) -> User:
    """Set the columns named in `changes` (username, avatar_url, bio) and no other.

    Raises UsernameTaken when another account has the name, in any case; InvalidAccessToken
    when the account was erased or disabled meanwhile.
    """
    if not changes:
        return user
    try:
        with db.atomic():
            if not credentials.change_account(user, **changes):
                raise InvalidAccessToken
    except IntegrityError as error:
        raise UsernameTaken from error
    return user


def create(username: str, email: str, password: str, is_admin: bool = False) -> User:
    """Make an account, as an operator; that its address is its owner's is not proven.

    Raises UsernameTaken, EmailTaken, Overloaded, what `credentials.demand_strong` does.
    """
    credentials.demand_strong(password, email, username)
    password_hash = passwords.hash(password)
    details = {"username": username, "email": email, "password_hash": password_hash}
    try:
        with db.atomic():
            user = User.create(**details, is_admin=is_admin, created_at=clock.now())
            former_spendings.inherit(user)
    except IntegrityError as error:
        raise EmailTaken if User.find_by_email(email) else UsernameTaken from error
    logs.event("user_created", user_id=user.id)
    return user


def promote(user: User) -> User:
    """Make a user an administrator. Raises UserNotFound."""
    return _set_admin(user, True, Kind.PROMOTED)


def demote(user: User) -> User:
    """Make an administrator a user like any other. Raises UserNotFound."""
    return _set_admin(user, False, Kind.DEMOTED)


def _set_admin(user: User, is_admin: bool, kind: Kind) -> User:
    with db.atomic():
        _set(user, kind, is_admin=is_admin)
    user.is_admin = is_admin
    logs.event(f"user_{kind}", user_id=user.id)
    return user


def disable(user: User, *, by_administrator: bool = False) -> int:
    """Shut an account: from now on it is as if its password were wrong, and its tokens nothing.

    Returns how many of its sessions were live; they stay ended when it is enabled again, and codes
    that were mailed worthless. Raises UserNotFound.
    """
    with db.atomic():
        # The row first: a sign-in that holds it has its session there when this goes on.
        _set(user, Kind.DISABLED, by_administrator, disabled_at=from_now())
        ended = Session.forget(user)
        codes.void_all(user)
    logs.event("user_disabled", user_id=user.id)
    return ended


def enable(user: User, *, by_administrator: bool = False) -> None:
    """Open a disabled account again. Raises UserNotFound."""
    with db.atomic():
        _set(user, Kind.ENABLED, by_administrator, disabled_at=None)
    logs.event("user_enabled", user_id=user.id)


def _set(user: User, kind: Kind, by_administrator: bool = False, **columns) -> None:
    """Change an account and record it, in the transaction that the caller is in.

    Raises UserNotFound when it was erased meanwhile, whose journal would take nothing more.
    """
    if not User.update(columns).where(User.id == user.id).execute():
        raise UserNotFound
    security_log.record(user, kind, by_administrator=by_administrator)


def _found(user: User | None) -> User:
    if user is None:
        raise UserNotFound
    return user
