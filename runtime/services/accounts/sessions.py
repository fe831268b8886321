"""Sessions: start one, tell whose an access token is, list them, end them."""

from uuid import UUID

from flask import current_app
from peewee import fn

from runtime import clock, logs
from runtime.caller import Caller
from runtime.database.base import db, from_now
from runtime.database.pagination import Page, page
from runtime.errors import InvalidAccessToken, SessionNotFound, UserNotFound, WrongCredentials
from runtime.models.sessions import Session, database_now
from runtime.models.users import User
from runtime.security.tokens import Claims, InvalidToken, tokens
from runtime.services.accounts import security_log
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair, make_pair

# An account's rows, those of the sessions included that have ended.
REMEMBERED_SESSIONS = 1000


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
    claims = Claims(user.id, session.id, session.generation)
    return make_pair(claims, user.email, session.created_at)


def _note_sign_in(user: User) -> None:
    """Hold the account's row until the session is there.

    Who disables it, or sets another password, comes before or after. Raises WrongCredentials when
    they came before: the password that was looked at is not the account's any more.
    """
    is_open = User.disabled_at.is_null() & (User.password_hash == user.password_hash)
    if not User.update(signed_in_at=from_now()).where(User.id == user.id, is_open).execute():
        raise WrongCredentials


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


def authenticate(access_token: str) -> Session:
    """The session, with its user, that an access token was made for.

    Raises InvalidAccessToken when the token means nothing, has run out, or its session is over.
    """
    claims = _read(access_token)
    return _proven(Session.find_live(claims.session_id), claims)


def authenticate_and_find(access_token: str, username: str) -> tuple[Session, User | None]:
    """As `authenticate`, with the account of that name, if there is one, read in the same trip."""
    claims = _read(access_token)
    session, found = Session.find_live_and_user(claims.session_id, username)
    return _proven(session, claims), found


def _read(access_token: str) -> Claims:
    try:
        return tokens.read_access(access_token, clock.now())
    except InvalidToken as error:
        raise InvalidAccessToken from error


def _proven(session: Session | None, claims: Claims) -> Session:
    """The session of a token that was used now: it shows that the newest tokens arrived.

    From then on the refresh token before them is a thief's.
    """
    if session is None:
        raise InvalidAccessToken
    if claims.generation == session.generation and not session.is_proven:
        current = (Session.id == session.id) & (Session.generation == session.generation)
        Session.update(is_proven=True).where(current).execute()
    return session


def list_live(current: Session, *, cursor: str | None, limit: int) -> Page:
    """A page of the live sessions of a session's user, the newest first, each with `is_current`."""
    is_current = (Session.id == current.id).converter(bool).alias("is_current")
    live = Session.select(Session, is_current).where(Session.user == current.user_id)
    return page(live.where(Session.is_live()), Session.created_at, cursor=cursor, limit=limit)


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
        end_of(claims, Kind.SIGNED_OUT, caller)
        return
    kind = Kind.ALL_SESSIONS_ENDED if scope == "all" else Kind.OTHER_SESSIONS_ENDED
    kept = None if scope == "all" else claims.session_id
    with db.atomic():
        if Session.end_live(claims.user_id, but=kept):
            security_log.record(claims.user_id, kind, caller, session_id=claims.session_id)
    logs.event(kind, user_id=claims.user_id)


def _is_good(claims: Claims) -> bool:
    """Whether a refresh token of these claims would be exchanged."""
    session = Session.find_live(claims.session_id)
    if session is None:
        return False
    is_newest = claims.generation == session.generation
    return is_newest or session.may_repeat(claims.generation, database_now())


def end_of(claims: Claims, kind: Kind, caller: Caller) -> None:
    """End the session of a token, unless it has ended; `kind` says why, to the journal."""
    live = (Session.id == claims.session_id) & Session.ended_at.is_null()
    _end_where(live, claims.user_id, claims.session_id, kind, caller)


def end_one(user: User, session_id: UUID, caller: Caller) -> None:
    """End a session by its id. Raises SessionNotFound unless it is this user's, and live."""
    live = (Session.id == session_id) & (Session.user == user) & Session.is_live()
    if not _end_where(live, user.id, session_id, Kind.SESSION_ENDED, caller):
        raise SessionNotFound


def _end_where(live, user_id: UUID, session_id: UUID, kind: Kind, caller: Caller) -> bool:
    """End a session if the condition holds; its user's journal says why. Whether it did."""
    with db.atomic():
        if not Session.update(ended_at=clock.now()).where(live).execute():
            return False
        security_log.record(user_id, kind, caller, session_id=session_id)
    logs.event("session_ended", session_id=session_id)
    return True


def end_all(user: User, *, by_administrator: bool = False) -> int:
    """End every session of a user, as an operator; returns how many had not been ended.

    Raises UserNotFound when the account was erased meanwhile.
    """
    with db.atomic():
        ended = Session.end_live(user)
        if ended:
            kind = Kind.ALL_SESSIONS_ENDED
            security_log.record(user, kind, by_administrator=by_administrator)
    if not ended and not User.select().where(User.id == user.id).exists():
        raise UserNotFound
    return ended


def has_signed_in_from(email: str, network: str) -> bool:
    """Whether the account with that address, if there is one, has signed in from this network."""
    its = fn.LOWER(User.email) == email.lower()
    return Session.select().join(User).where(its, Session.network == network).exists()
