"""Passwords of accounts: demanded once more before what cannot be taken back, and replaced."""

from uuid import UUID

from .. import logs
from ..db import release
from ..errors import WrongPassword
from ..models import Session, User
from ..passwords import passwords
from ..ratelimit import PASSWORDS_PER_SESSION, SIGN_INS_PER_NETWORK, limiter
from . import events
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


def replace_password(user: User, password_hash: str, but: UUID | None = None) -> bool:
    """Set a password and end all sessions but one, in the transaction that the caller is in.

    Returns whether the account was there, and not disabled. Its row is held first, as by whoever
    starts a session: one for the password before is there to be ended, or comes to nothing.
    """
    is_open = (User.id == user.id) & User.disabled_at.is_null()
    if not User.update(password_hash=password_hash).where(is_open).execute():
        return False
    Session.end_live(user, but=but)
    user.password_hash = password_hash
    return True
