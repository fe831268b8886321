"""Another password for who is signed in and knows the one so far."""

from runtime import logs
from runtime.caller import Caller
from runtime.database.base import db
from runtime.models.sessions import Session
from runtime.security.passwords import passwords
from runtime.services.accounts import codes, credentials, notices, sessions
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair


def change(
    session: Session,
    *,
    current_password: str,
    password: str,
    caller: Caller,
) -> TokenPair:
    """Set another password, and start the account's only session.

    Every token made before it is dead, those of `session` too: they may have been copied. Makes
    all codes worthless, and tells the owner by mail. Raises what `credentials.demand_strong` does;
    WrongPassword; TooManyRequests after too many tries, and when too many passwords are being
    hashed; InvalidAccessToken when the session is over or the account gone by now.
    """
    user = session.user
    credentials.demand_strong(password, user.email, user.username)
    credentials.demand_password(session, current_password, caller)
    password_hash = passwords.hash(password, caller.network)
    with db.atomic():
        credentials.hold_account(session)
        credentials.replace_password(user, password_hash)
        codes.void_all(user)
        pair = sessions.start(user, caller, Kind.PASSWORD_CHANGED)
    logs.event("password_changed", user_id=user.id)
    notices.send(user, "new_password", asker=caller)
    return pair
