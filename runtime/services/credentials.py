"""Passwords of accounts: which are good enough, demanded once more, and replaced."""

from uuid import UUID

from flask import current_app

from .. import clock, letters, logs, weakness
from ..db import db, release
from ..errors import (
    CommonPassword,
    Fault,
    InvalidParameters,
    NoPassword,
    OwnNameAsPassword,
    WrongPassword,
)
from ..mail import NOTICE_LIFE, mail
from ..models import Session, User
from ..passwords import normalized, passwords
from ..ratelimit import PASSWORDS_PER_SESSION, SIGN_INS_PER_NETWORK, limiter
from . import codes, events
from .events import Kind


def demand_strong(password: str, email: str, username: str | None = None) -> None:
    """Return if an account with this address and name may have the password from now on.

    Raises InvalidParameters when it has fewer characters than PASSWORD_MIN_LENGTH, CommonPassword,
    OwnNameAsPassword. Never asked about one that an account has already.
    """
    low = current_app.config["PASSWORD_MIN_LENGTH"]
    if len(normalized(password)) < low:
        raise InvalidParameters(Fault("#/password", f"too_short {low}"))
    if weakness.is_common(password):
        raise CommonPassword
    names = [email, email.partition("@")[0], username or ""]
    if weakness.is_like(password, *names):
        raise OwnNameAsPassword


def demand_password(
    session: Session, password: str, network: str, device: str | None = None
) -> None:
    """Return if the password is that of the session's user.

    Every try is counted before the password is looked at, for the session alone: whoever has
    stolen its tokens gets a few guesses, and its owner signs in anew. Raises WrongPassword, or
    NoPassword when the account has none; TooManyRequests after too many tries, and when too many
    passwords are being hashed.
    """
    user = session.user
    limiter.hit_all((SIGN_INS_PER_NETWORK, network), (PASSWORDS_PER_SESSION, str(session.id)))
    release()
    if not passwords.verify(password, user.password_hash):
        logs.event("password_refused", user_id=user.id, session_id=session.id)
        events.refuse(Kind.PASSWORD_REFUSED, user.email, network=network, device=device)
        raise WrongPassword if user.has_password else NoPassword
    limiter.clear(PASSWORDS_PER_SESSION, str(session.id))


def change_password(
    session: Session,
    *,
    current_password: str,
    password: str,
    network: str,
    device: str | None = None,
    language: str = "zh",
) -> None:
    """Set another password for whoever is signed in and knows the one so far.

    Ends all other sessions, makes all codes worthless, and tells the owner by mail. Raises
    what `demand_strong` does; WrongPassword; TooManyRequests after too many tries, and when too
    many passwords are being hashed.
    """
    user = session.user
    demand_strong(password, user.email, user.username)
    demand_password(session, current_password, network, device)
    password_hash = passwords.hash(password)
    with db.atomic():
        if not replace_password(user, password_hash, was=user.password_hash, but=session.id):
            raise WrongPassword
        codes.void_all(user)
        events.record(
            user, Kind.PASSWORD_CHANGED, network=network, device=device, session_id=session.id
        )
    logs.event("password_changed", user_id=user.id)
    letter = letters.new_password_letter(language, device, network, clock.now())
    mail.send(user.email, letter, clock.now() + NOTICE_LIFE)


def replace_password(
    user: User, password_hash: str, *, was: str | None = None, but: UUID | None = None
) -> bool:
    """Set a password and forget all sessions but one, in the transaction that the caller is in.

    Returns whether the account was there, not disabled, and had the hash that it should. Its row
    is held first, as by whoever starts a session: one for the password before is there to be
    ended, or comes to nothing.
    """
    if not change_account(user, was=was, password_hash=password_hash):
        return False
    Session.forget(user, but=but)
    return True


def change_account(user: User, *, was: str | None = None, at: str | None = None, **columns) -> bool:
    """Set columns of an account, if any, and hold its row to the end of the caller's transaction.

    Returns whether the account was there, not disabled, and had the password hash and the address
    that it should.
    """
    is_open = (User.id == user.id) & User.disabled_at.is_null()
    if was is not None:
        is_open &= User.password_hash == was
    if at is not None:
        is_open &= User.email == at
    changes = columns or {"disabled_at": None}
    if not User.update(changes).where(is_open).execute():
        return False
    for name, value in columns.items():
        setattr(user, name, value)
    return True
