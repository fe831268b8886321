"""The rotation of a session's refresh token, as one guarded statement.

A statement rotates a session only from the generation that it is given, so that of many at once
one succeeds.
"""

from dataclasses import dataclass
from datetime import datetime

from peewee import SQL, fn

from runtime.caller import Caller
from runtime.database.base import from_now
from runtime.database.prepared import Prepared
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.tokens import Claims


@dataclass(frozen=True)
class Rotation:
    """What the next tokens need: when they begin, by the database's clock, and whose they are."""

    claims: Claims
    rotated_at: datetime
    email: str
    language: str | None


def rotate(claims: Claims, caller: Caller) -> Rotation | None:
    """Move a live session to the generation after `claims`, if `caller` was the last to use it.

    None otherwise. A change of place is recorded in the transaction that rotates, which would make
    every refresh slower: so this statement finds the session only where it was used last.
    """
    place = caller.network, caller.device or ""
    return _made(claims, _ROTATE.rows(claims.session_id.hex, claims.generation, *place))


def rotate_elsewhere(claims: Claims, caller: Caller) -> Rotation | None:
    """The same from any place; from now on `caller` is the last who used the session."""
    return _made(claims, _MOVE.rows(*caller.origin, claims.session_id.hex, claims.generation))


def _made(claims: Claims, rows: list[tuple]) -> Rotation | None:
    if not rows:
        return None
    rotated_at, email, language = rows[0]
    following = claims._replace(generation=claims.generation + 1)
    return Rotation(following, Session.refreshed_at.python_value(rotated_at), email, language)


def _rotation(session_id, generation, *guards, **place):
    changes = {
        "generation": Session.generation + SQL("1"),
        "is_proven": SQL("FALSE"),
        "refreshed_at": from_now(),
    }
    live = (Session.id == session_id, Session.generation == generation, Session.is_live())
    email, language = (
        User.select(column).where(User.id == Session.user) for column in (User.email, User.language)
    )
    rotated = Session.update(**changes, **place).where(*live, *guards)
    return rotated.returning(Session.refreshed_at, email, language)


_ROTATE = Prepared(
    lambda session_id, generation, network, device: _rotation(
        session_id,
        generation,
        Session.last_network == network,
        fn.COALESCE(Session.last_device, SQL("''")) == device,
    ),
    values=4,
)
_MOVE = Prepared(
    lambda network, device, session_id, generation: _rotation(
        session_id, generation, last_network=network, last_device=device
    ),
    values=4,
)
