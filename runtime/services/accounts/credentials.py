"""Passwords of accounts: which are good enough, demanded once more, and replaced."""

from functools import partial

from flask import current_app

from runtime import logs
from runtime.caller import Caller
from runtime.database.base import release
from runtime.errors import (
    CommonPassword,
    Fault,
    InvalidAccessToken,
    InvalidParameters,
    NoPassword,
    OwnNameAsPassword,
    WrongPassword,
)
from runtime.limits.rates import PASSWORDS_PER_SESSION, SIGN_INS_PER_NETWORK, limiter
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security import common_passwords
from runtime.security.passwords import normalized, passwords
from runtime.services.accounts import security_log
from runtime.services.accounts.security_log import Kind


def demand_strong(password: str, email: str, username: str | None = None) -> None:
    """Return if an account with this address and name may have the password from now on.

    Raises InvalidParameters when it has fewer characters than PASSWORD_MIN_LENGTH, CommonPassword,
    OwnNameAsPassword. Never asked of a password that an account has already.
    """
    low = current_app.config["PASSWORD_MIN_LENGTH"]
    if len(normalized(password)) < low:
        raise InvalidParameters(Fault("#/password", f"too_short {low}"))
    if common_passwords.is_common(password):
        raise CommonPassword
    names = [email, email.partition("@")[0], username or ""]
    if common_passwords.is_like(password, *names):
        raise OwnNameAsPassword


def demand_password(session: Session, password: str, caller: Caller) -> None:
    """Return if the password is that of the session's user.

    Every try is counted before the password is looked at, for the session alone: a thief of
    its tokens gets a few guesses, and its owner signs in anew. Raises WrongPassword, or
    NoPassword when the account has none; TooManyRequests after too many tries, and when too many
    passwords are being hashed, which costs no try.
    """
    user = session.user
    limits = (SIGN_INS_PER_NETWORK, caller.network), (PASSWORDS_PER_SESSION, str(session.id))
    limiter.check_all(*limits)
    release()
    count = partial(limiter.spend_all, *limits)
    if not passwords.verify(password, user.password_hash, caller.network, count=count):
        logs.event("password_refused", user_id=user.id, session_id=session.id)
        security_log.refuse(Kind.PASSWORD_REFUSED, user.email, caller)
        raise WrongPassword if user.has_password else NoPassword
    limiter.clear(PASSWORDS_PER_SESSION, str(session.id))


def replace_password(user: User, password_hash: str) -> bool:
    """Set a password and forget all sessions, in the transaction that the caller is in.

    Returns whether the account was there and not disabled. Its row is held first, as when
    a session starts: a session for the old password is there to be ended, or never starts.
    """
    if not change_account(user, password_hash=password_hash):
        return False
    Session.forget(user)
    return True


def hold_account(session: Session, *, at: str | None = None) -> None:
    """Hold the account that a session was read with, to the end of the caller's transaction.

    What was looked at before then still holds. Raises InvalidAccessToken when the session is over
    by now, or the account gone or disabled; WrongPassword when the account has another password
    than it was read with, or an address other than `at`.
    """
    user = session.user
    is_same = change_account(user, was=user.password_hash, at=at)
    # The account first, as by all who end its sessions.
    if not Session.hold_live(session.id):
        raise InvalidAccessToken
    if not is_same:
        raise WrongPassword


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
