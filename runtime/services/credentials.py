"""Passwords of accounts: demanded once more before what cannot be taken back, and replaced."""

from uuid import UUID

from .. import clock, letters, logs
from ..db import db, release
from ..errors import WrongPassword
from ..mail import NOTICE_LIFE, mail
from ..models import Session, User
from ..passwords import passwords
from ..ratelimit import PASSWORDS_PER_SESSION, SIGN_INS_PER_NETWORK, limiter
from . import codes, events
from .events import Kind


def demand_password(
    session: Session, password: str, network: str, device: str | None = None
) -> None:
    """Return if the password is that of the session's user.

    Every try is counted before the password is looked at, for the session alone: whoever has
    stolen its tokens gets a few guesses, and its owner signs in anew. Raises WrongPassword;
    TooManyRequests after too many tries, and when too many passwords are being hashed.
    """
    user = session.user
    limiter.hit(SIGN_INS_PER_NETWORK, network)
    limiter.hit(PASSWORDS_PER_SESSION, str(session.id))
    release()
    if not passwords.verify(password, user.password_hash):
        logs.event("password_refused", user_id=user.id, session_id=session.id)
        events.refuse(Kind.PASSWORD_REFUSED, user.email, network=network, device=device)
        raise WrongPassword
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
    WrongPassword; TooManyRequests after too many tries, and when too many passwords are being
    hashed.
    """
    user = session.user
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
    """Set a password and end all sessions but one, in the transaction that the caller is in.

    Returns whether the account was there, not disabled, and had the hash that it should. Its row
    is held first, as by whoever starts a session: one for the password before is there to be
    ended, or comes to nothing.
    """
    is_open = (User.id == user.id) & User.disabled_at.is_null()
    if was:
        is_open &= User.password_hash == was
    if not User.update(password_hash=password_hash).where(is_open).execute():
        return False
    Session.end_live(user, but=but)
    user.password_hash = password_hash
    return True
