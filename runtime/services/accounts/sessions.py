"""Sessions: start one, tell whose a token is, refresh it, list them, end them.

The rules are those of RFC 9700 §4.14.2: a refresh token is good once. Two clients are not thieves:
the one that raced with itself, and the one whose answer was lost on the way.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from flask import current_app
from peewee import fn

from runtime import clock, logs, metrics
from runtime.caller import Caller
from runtime.database.base import db, from_now, release
from runtime.database.pagination import Page, page
from runtime.errors import (
    InvalidAccessToken,
    InvalidRefreshToken,
    Overloaded,
    SessionNotFound,
    TooManyRequests,
    UserNotFound,
    WrongCredentials,
)
from runtime.limits.rates import (
    SIGN_INS_BY_DEVICES,
    SIGN_INS_PER_ADDRESS,
    SIGN_INS_PER_ADDRESS_AND_NETWORK,
    SIGN_INS_PER_DEVICE,
    SIGN_INS_PER_NETWORK,
    limiter,
)
from runtime.mail.letters import letters
from runtime.mail.queue import NOTICE_LIFE, mail
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.passwords import needs_rehash, passwords
from runtime.security.tokens import ACCESS_SECONDS, Claims, InvalidToken, tokens
from runtime.services.accounts import languages, security_log
from runtime.services.accounts.security_log import Kind

# An account's rows, those of the sessions included that have ended.
REMEMBERED_SESSIONS = 1000


@dataclass(frozen=True)
class TokenPair:
    """What a client holds of its session; the access token is good for `expires_in` seconds."""

    access_token: str
    refresh_token: str
    user: User
    expires_in: int = ACCESS_SECONDS
    token_type: str = "bearer"


@metrics.count_outcomes(metrics.sign_ins)
def sign_in(
    email: str,
    password: str,
    refresh_token: str | None = None,
    *,
    caller: Caller,
) -> TokenPair:
    """Start a session for whoever knows the password; a device not seen before is told by mail.

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
    is_right = passwords.verify(password, user and user.password_hash, caller.network, count=count)
    if not is_right or user is None or user.is_disabled:
        logs.event("sign_in_refused", network=caller.network)
        security_log.refuse(Kind.SIGN_IN_REFUSED, email, caller)
        raise WrongCredentials
    limiter.clear(SIGN_INS_PER_ADDRESS_AND_NETWORK, email.lower(), caller.network)
    if needs_rehash(user.password_hash):
        _renew_hash(user, password, caller.network)
    is_new = _is_new_device(user, caller)
    pair = start(user, caller)
    if is_new:
        letter = letters.new_device_letter(languages.of(user), caller)
        mail.send(user.email, letter, caller.at + NOTICE_LIFE)
    else:
        languages.note(user, caller.stated_language)
    return pair


def start(user: User, caller: Caller, kind: Kind = Kind.SIGNED_IN) -> TokenPair:
    """Start a session for `user`, who has proven to be that; `kind` says how, to the journal.

    Raises WrongCredentials when the account is disabled, has another password by now, or is gone.
    """
    with db.atomic():
        _note_sign_in(user)
        session = Session.begin(user, caller)
        security_log.record(user, kind, caller, session_id=session.id)
        _keep_few(user)
    logs.event("session_started", user_id=user.id, session_id=session.id)
    return _pair(session, session.now)


def _keep_few(user: User) -> None:
    """End and forget what an account has too many of, in the transaction that has begun one more.

    No load test is to end the sessions of others.
    """
    if not current_app.config["RATE_LIMITS"]:
        return
    for session_id in Session.end_beyond(user, current_app.config["MAX_SESSIONS"]):
        security_log.record(user, Kind.SESSION_ENDED, session_id=session_id)
        logs.event("session_ended", session_id=session_id)
    Session.forget_beyond(user, REMEMBERED_SESSIONS)


def authenticate(access_token: str, ask_for: str | None = None) -> Session:
    """The session, with its user, that an access token was made for.

    Of itself it has what `Session.find_live_with_user` says. With a username in `ask_for` it comes
    with that user instead, in `asked_for`. Raises InvalidAccessToken when the token means nothing,
    has run out, or its session is over.
    """
    try:
        claims = tokens.read_access(access_token, clock.now())
    except InvalidToken as error:
        raise InvalidAccessToken from error
    if ask_for:
        session = Session.find_live_asking_for(claims.session_id, ask_for)
    else:
        session = Session.find_live_with_user(claims.session_id)
    if session is None:
        raise InvalidAccessToken
    if claims.generation == session.generation and not session.is_proven:
        _prove(session)
    return session


@metrics.count_outcomes(metrics.refreshes)
def refresh(refresh_token: str, caller: Caller) -> TokenPair:
    """Exchange a refresh token for the next pair.

    The one rotated away last gets the same successor again while it may be a retry; any older
    one is a thief's, or its victim's, and ends the session. Another network or device than the
    session was used from last is recorded. Raises InvalidRefreshToken when the token means nothing
    or its session is over.
    """
    try:
        claims = tokens.read_refresh(refresh_token)
    except InvalidToken as error:
        raise InvalidRefreshToken from error
    rotated = Session.rotate(claims.session_id, claims.generation, caller)
    if rotated:
        languages.note_refresh(rotated, caller)
        return _pair(rotated, rotated.refreshed_at)
    session = Session.find_with_user(claims.session_id)
    if session and session.generation == claims.generation:
        rotated = _rotate_elsewhere(session, caller)
        if rotated:
            languages.note_refresh(rotated, caller)
            return _pair(rotated, rotated.refreshed_at)
        session = Session.find_with_user(claims.session_id)
    if session is None or session.is_over:
        raise InvalidRefreshToken
    if session.may_repeat(claims.generation):
        _note_repeat(session, caller)
        return _pair(session, _repeated_at(session))
    if claims.generation < session.generation:
        metrics.refresh_tokens_reused.inc()
        logs.event("refresh_token_reused", user_id=session.user_id, session_id=session.id)
        _end(claims, Kind.REFRESH_TOKEN_REUSED, caller)
    raise InvalidRefreshToken


def _rotate_elsewhere(session: Session, caller: Caller) -> Session | None:
    """Rotate a session that was used from another place last, and record that.

    None when it is over, or when somebody else rotated it meanwhile: of many at once the others
    wait for this transaction, and then find the next generation.
    """
    with db.atomic():
        rotated = Session.rotate_elsewhere(session.id, session.generation, caller)
        if rotated and session.last_caller.origin != caller.origin:
            security_log.record_place(session, Kind.SESSION_MOVED, caller)
    return rotated


def _note_repeat(session: Session, caller: Caller) -> None:
    """Record that the last successor goes to another place than before: it may be a thief's."""
    if session.last_caller.origin == caller.origin:
        return
    with db.atomic():
        if session.use_elsewhere(caller):
            security_log.record_place(session, Kind.REFRESH_TOKEN_REPEATED, caller)


def find_live(current: Session, *, cursor: str | None, limit: int) -> Page:
    """A page of the live sessions of a session's user, the newest first; `is_current` tells it."""
    live = Session.select().where(Session.user == current.user, Session.is_live())
    found = page(live, Session.created_at, cursor=cursor, limit=limit)
    for session in found.rows:
        session.is_current = session.id == current.id
    return found


def end(refresh_token: str, scope: str = "this", *, caller: Caller) -> None:
    """End the session of a refresh token, whichever of its tokens it is, if there is one.

    With the scope `others` those that its user has besides, with `all` every one. That takes a
    token that is good for a refresh: any other ends no session but its own.
    """
    try:
        claims = tokens.read_refresh(refresh_token)
    except InvalidToken:
        return
    if scope == "this" or not _is_good(claims):
        _end(claims, Kind.SIGNED_OUT, caller)
        return
    kind = Kind.ALL_SESSIONS_ENDED if scope == "all" else Kind.OTHER_SESSIONS_ENDED
    kept = None if scope == "all" else claims.session_id
    with db.atomic():
        if Session.end_live(claims.user_id, but=kept):
            security_log.record(claims.user_id, kind, caller, session_id=claims.session_id)
    logs.event(kind, user_id=claims.user_id)


def end_one(user: User, session_id: UUID, caller: Caller) -> None:
    """End a session by its id. Raises SessionNotFound unless it is this user's, and live."""
    live = (Session.id == session_id) & (Session.user == user) & Session.is_live()
    if not _end_where(live, user.id, session_id, Kind.SESSION_ENDED, caller):
        raise SessionNotFound


def end_all(user: User) -> int:
    """End every session of a user, as an operator; returns how many nobody had ended.

    Raises UserNotFound when the account was erased meanwhile.
    """
    with db.atomic():
        ended = Session.end_live(user)
        if ended:
            security_log.record(user, Kind.ALL_SESSIONS_ENDED)
    if not ended and not User.select().where(User.id == user.id).exists():
        raise UserNotFound
    return ended


def has_signed_in_from(email: str, network: str) -> bool:
    """Whether the account with that address, if there is one, has signed in from this network."""
    its = fn.LOWER(User.email) == email.lower()
    return Session.select().join(User).where(its, Session.network == network).exists()


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
    if not has_signed_in_from(email, network):
        limits.append((SIGN_INS_PER_ADDRESS, email))
    return limits


def _limits_of_device(user: User | None, refresh_token: str | None) -> list[tuple]:
    """The limits of a device whose token is of a session that the account has had; none otherwise.

    Whoever stole the token guesses no more often than that. For anybody's address it asks the
    database the same.
    """
    try:
        claims = tokens.read_refresh(refresh_token or "")
    except InvalidToken:
        return []
    # Not NULL for nobody: that would be another query.
    owner = user.id if user else UUID(int=0)
    had = Session.select().where(Session.id == claims.session_id, Session.user == owner).exists()
    if not had or user.is_disabled:
        return []
    return [(SIGN_INS_PER_DEVICE, str(claims.session_id)), (SIGN_INS_BY_DEVICES, str(owner))]


def _is_new_device(user: User, caller: Caller) -> bool:
    """Whether the account has been signed in to before, and never by this device on this network.

    Both: anybody may say that they are `Chrome · Windows`, nobody that they are on the owner's
    network; and a network may be a carrier's, a thousand people on it. A client that names no
    device is known by a session that named none, and makes no other known. The session that began
    the account is no news to its owner.
    """
    before = Session.select().where(Session.user == user)
    same_device = Session.device == caller.device
    if before.where(Session.network == caller.network, same_device).exists():
        return False
    return user.signed_in_at is not None or before.exists()


def _note_sign_in(user: User) -> None:
    """Hold the account's row until the session is there.

    Whoever disables it, or sets another password, comes before or after. Raises WrongCredentials
    when they came before: the password that was looked at is not the account's any more.
    """
    is_open = User.disabled_at.is_null() & (User.password_hash == user.password_hash)
    if not User.update(signed_in_at=from_now()).where(User.id == user.id, is_open).execute():
        raise WrongCredentials


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


def _prove(session: Session) -> None:
    """Note that the newest tokens arrived: from now on the one before them is a thief's."""
    current = (Session.id == session.id) & (Session.generation == session.generation)
    Session.update(is_proven=True).where(current).execute()


def _is_good(claims: Claims) -> bool:
    """Whether a refresh token of these claims would be exchanged."""
    session = Session.find_with_user(claims.session_id)
    if session is None or session.is_over:
        return False
    return claims.generation == session.generation or session.may_repeat(claims.generation)


def _end(claims: Claims, kind: Kind, caller: Caller) -> None:
    """End the session of a token, unless it has ended."""
    live = (Session.id == claims.session_id) & Session.ended_at.is_null()
    _end_where(live, claims.user_id, claims.session_id, kind, caller)


def _end_where(live, user_id: UUID, session_id: UUID, kind: Kind, caller: Caller) -> bool:
    """End a session if the condition holds; its user's journal says why. Whether it did."""
    with db.atomic():
        if not Session.update(ended_at=clock.now()).where(live).execute():
            return False
        security_log.record(user_id, kind, caller, session_id=session_id)
    logs.event("session_ended", session_id=session_id)
    return True


def _repeated_at(session: Session) -> datetime:
    """Tabs that race get the very same access token; an answer lost long ago gets a fresh one."""
    return session.refreshed_at if session.was_just_refreshed else session.now


def _pair(session: Session, issued_at: datetime) -> TokenPair:
    claims = Claims(session.user_id, session.id, session.generation)
    return TokenPair(
        tokens.make_access(claims, issued_at), tokens.make_refresh(claims), session.user
    )
