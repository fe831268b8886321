"""The language of an account's mails: what its owner last used.

A thief's is not learnt, as far as one can tell: only a mailed code, and a network and device that
the account knew before, teach it. So a notice of what a thief did is in its owner's words.
"""

from runtime.caller import Caller
from runtime.i18n import LANGUAGES
from runtime.models.rotations import Rotation
from runtime.models.sessions import Session
from runtime.models.users import User


def of(user: User, otherwise: str | None = None) -> str:
    """The language to mail an account's owner in; `otherwise`, or the default, if unknown."""
    return user.language or otherwise or LANGUAGES[0]


def note(user: User, language: str | None) -> None:
    """Note that an account's owner uses this language; writes only what is new."""
    if language and user.language != language:
        User.update(language=language).where(User.id == user.id).execute()
        user.language = language


def note_refresh(rotation: Rotation, caller: Caller) -> None:
    """Note the language of a refresh, where the session began and was no new device."""
    language = caller.stated_language
    if not language or rotation.language == language:
        return
    session = Session.find_live(rotation.claims.session_id)
    if session and (session.network, session.device) == caller.origin and _was_known(session):
        note(session.user, language)


def _was_known(session: Session) -> bool:
    """Whether the session was its account's first, or an earlier one had its network and device."""
    earlier = Session.select().where(
        Session.user == session.user, Session.created_at < session.created_at
    )
    same_place = (Session.network == session.network) & (Session.device == session.device)
    return earlier.where(same_place).exists() or not earlier.exists()
