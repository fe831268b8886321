"""Signing in with a password, and the limits on guesses at it.

A device that has signed in before has tries of its own first: a flood of wrong passwords leaves its
owner a way in. All other tries count for their network, for address and network together, and for
the address unless the account has signed in from the network.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

from runtime import logs, metrics
from runtime.caller import Caller
from runtime.database.base import release
from runtime.errors import Overloaded, TooManyRequests, WrongCredentials
from runtime.limits.rates import (
    SIGN_INS_BY_DEVICES,
    SIGN_INS_PER_ADDRESS,
    SIGN_INS_PER_ADDRESS_AND_NETWORK,
    SIGN_INS_PER_DEVICE,
    SIGN_INS_PER_NETWORK,
    limiter,
)
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.passwords import passwords
from runtime.security.tokens import InvalidToken, tokens
from runtime.services.accounts import languages, notices, security_log, sessions
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair


@metrics.count_outcomes(metrics.sign_ins)
def sign_in(
    email: str, password: str, refresh_token: str | None = None, *, caller: Caller
) -> TokenPair:
    """Start a session for who knows the password; a device not seen before is told by mail.

    A `refresh_token` of the account, however old, shows that the device has signed in before:
    it is let in when a flood of wrong passwords has used up the limits for all others. An unknown
    address costs the same time, and a disabled account is told, and counted, as if the password
    were wrong. Raises WrongCredentials; TooManyRequests after too many tries, and when too many
    passwords are being hashed, which costs no try.
    """
    user = User.find_by_email(email)
    limits = _limits_of_device(user, refresh_token), _limits_of_all(email.lower(), caller.network)
    _within(limiter.check_all, *limits)
    release()
    count = partial(_within, limiter.spend_all, *limits)
    kept = user and user.password_hash
    is_right = passwords.verify(password, kept, caller.network, count=count)
    if not is_right or user is None or user.is_disabled:
        logs.event("sign_in_refused", network=caller.network)
        security_log.refuse(Kind.SIGN_IN_REFUSED, email, caller)
        raise WrongCredentials
    limiter.clear(SIGN_INS_PER_ADDRESS_AND_NETWORK, email.lower(), caller.network)
    if passwords.needs_rehash(user.password_hash):
        _renew_hash(user, password, caller.network)
    is_new = _is_new_device(user, caller)
    pair = sessions.start(user, caller)
    if is_new:
        notices.send(user, "new_device", asker=caller)
    else:
        languages.note(user, caller.stated_language)
    return pair


def _within(act: Callable, of_device: Sequence[tuple], of_all: Sequence[tuple]) -> None:
    """Check or count a try by a known device, if it is one and has tries left; else by anybody.

    Raises TooManyRequests.
    """
    if of_device:
        with suppress(TooManyRequests):
            act(*of_device)
            return
    act(*of_all)


def _limits_of_all(email: str, network: str) -> list[tuple]:
    limits = [(SIGN_INS_PER_NETWORK, network), (SIGN_INS_PER_ADDRESS_AND_NETWORK, email, network)]
    if not sessions.has_signed_in_from(email, network):
        limits.append((SIGN_INS_PER_ADDRESS, email))
    return limits


def _limits_of_device(user: User | None, refresh_token: str | None) -> list[tuple]:
    """The limits of a device whose token is of a session that the account has had; none otherwise.

    With a stolen token one guesses no more often than that. For an address without an account it
    asks the database the same.
    """
    try:
        claims = tokens.read_refresh(refresh_token or "")
    except InvalidToken:
        return []
    # Not NULL if there is no account: that would be another query.
    owner = user.id if user else UUID(int=0)
    had = Session.select().where(Session.id == claims.session_id, Session.user == owner).exists()
    if not had or user.is_disabled:
        return []
    return [(SIGN_INS_PER_DEVICE, str(claims.session_id)), (SIGN_INS_BY_DEVICES, str(owner))]


def _is_new_device(user: User, caller: Caller) -> bool:
    """Whether the account has been signed in to before, and never by this device on this network.

    Both: anybody may say that they are `Chrome · Windows`, but only the owner is on the owner's
    network; and a network may be a carrier's, a thousand people on it. A client that names no
    device is known by a session that named none, and makes no other known. The session that began
    the account is no news to its owner.
    """
    before = Session.select().where(Session.user == user)
    if before.where(Session.network == caller.network, Session.device == caller.device).exists():
        return False
    return user.signed_in_at is not None or before.exists()


def _renew_hash(user: User, password: str, network: str) -> None:
    """Hash again with today's parameters, unless the hash was changed meanwhile.

    When too many are being hashed it waits for another sign-in; this one has succeeded.
    """
    with suppress(Overloaded):
        renewed = passwords.hash(password, network)
        same = (User.id == user.id) & (User.password_hash == user.password_hash)
        if User.update(password_hash=renewed).where(same).execute():
            user.password_hash = renewed
            return
        # Another sign-in may have renewed it too; with another password no session is started.
        now = User.get_or_none(User.id == user.id)
        release()
        if now and passwords.verify(password, now.password_hash, network):
            user.password_hash = now.password_hash
