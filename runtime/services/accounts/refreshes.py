"""A refresh token is exchanged for the next pair, once (RFC 9700 §4.14.2).

A client may send a token twice without being a thief: when its tabs race, and when the answer was
lost on the way. The steps of `POST /auth/sessions/refresh`, in this order:

1. The token is read: whose it is, which session, which generation.
2. The session is rotated, if the token is of its newest generation and from where it was used last.
3. Or it is rotated from a new place, which the account's journal records.
4. Or the token was rotated away: it gets its successor again if it is a retry, else it is refused,
   and the session ends if the token is older. `Session` in models says what a generation is.
"""

from runtime import logs, metrics
from runtime.caller import Caller
from runtime.database.base import db
from runtime.errors import InvalidRefreshToken
from runtime.models import rotations
from runtime.models.rotations import Rotation
from runtime.models.sessions import Session, database_now
from runtime.security.tokens import Claims, InvalidToken, tokens
from runtime.services.accounts import languages, security_log, sessions
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair, make_pair


@metrics.count_outcomes(metrics.refreshes)
def refresh(refresh_token: str, caller: Caller) -> TokenPair:
    """Exchange a refresh token for the next pair.

    The one rotated away last gets the same successor again while it may be a retry; any older one
    is a thief's, or its victim's, and ends the session. Another network or device than the session
    was used from last is recorded. Raises InvalidRefreshToken when the token means nothing or its
    session is over.
    """
    try:
        claims = tokens.read_refresh(refresh_token)
    except InvalidToken as error:
        raise InvalidRefreshToken from error
    rotation = rotations.rotate(claims, caller) or _rotate_elsewhere(claims, caller)
    if rotation is None:
        return _repeat(claims, caller)
    languages.note_refresh(rotation, caller)
    return make_pair(rotation.claims, rotation.email, rotation.rotated_at)


def _rotate_elsewhere(claims: Claims, caller: Caller) -> Rotation | None:
    """Rotate a session that was used from another place last, and record that.

    None when it is over or has another generation. Of many at once the others wait for this
    transaction, and then find the next generation.
    """
    session = Session.find_live(claims.session_id)
    if session is None or session.generation != claims.generation:
        return None
    with db.atomic():
        rotation = rotations.rotate_elsewhere(claims, caller)
        if rotation and session.last_caller.origin != caller.origin:
            security_log.record_place(session, Kind.SESSION_MOVED, caller)
    return rotation


def _repeat(claims: Claims, caller: Caller) -> TokenPair:
    """Give the last successor again to a token that was rotated away and may be a retry.

    Tabs that race get the very same access token; an answer lost long ago gets a fresh one. Raises
    InvalidRefreshToken for any other token, and ends the session if that was rotated away.
    """
    session = Session.find_live(claims.session_id)
    if session is None:
        raise InvalidRefreshToken
    now = database_now()
    if session.may_repeat(claims.generation, now):
        _note_repeat(session, caller)
        newest = claims._replace(generation=session.generation)
        issued_at = session.refreshed_at if session.was_just_refreshed(now) else now
        return make_pair(newest, session.user.email, issued_at)
    # A database that was put back from a copy may know less than the token: that ends nothing.
    if claims.generation < session.generation:
        metrics.refresh_tokens_reused.inc()
        logs.event("refresh_token_reused", user_id=session.user_id, session_id=session.id)
        sessions.end_of(claims, Kind.REFRESH_TOKEN_REUSED, caller)
    raise InvalidRefreshToken


def _note_repeat(session: Session, caller: Caller) -> None:
    """Record that the last successor goes to another place than before: it may be a thief's."""
    if session.last_caller.origin == caller.origin:
        return
    with db.atomic():
        if session.note_last_caller(caller):
            security_log.record_place(session, Kind.REFRESH_TOKEN_REPEATED, caller)
