"""Another address for an account: proven by a mailed code, and taken back by its old one.

Nothing here tells whether the new address has an account. A change to an address with an account
waits, and is limited, like any other; only the mail, which is written later on another thread,
differs.
"""

from functools import partial

from flask import current_app
from peewee import IntegrityError, fn

from runtime import clock, logs, metrics
from runtime.caller import Caller
from runtime.database.base import db, from_now
from runtime.errors import (
    CodeUsedUp,
    EmailCodeUsedUp,
    Fault,
    InvalidAccessToken,
    InvalidCode,
    InvalidEmailCode,
    InvalidParameters,
)
from runtime.limits.rates import EMAIL_CHANGES_PER_USER, limiter
from runtime.mail.letters import Letter, MailedCode, WayBack, letters
from runtime.mail.queue import mail
from runtime.models.codes import CODE_LIFE, CODE_MINUTES, EmailChange, SignUp
from runtime.models.sessions import Session
from runtime.models.users import NO_PASSWORD, User
from runtime.security.tokens import InvalidToken, tokens
from runtime.services.accounts import (
    codes,
    credentials,
    languages,
    notices,
    security_log,
    sessions,
)
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair


def begin(
    session: Session,
    *,
    email: str,
    current_password: str,
    redirect_to: str | None,
    caller: Caller,
) -> None:
    """Let a change of address wait for its code, which is mailed to the new address.

    The old one is told, with the way back. Who asks again from the same network has the same
    change as before, with a new code. Raises InvalidParameters for a `redirect_to` that is not
    allowed and for the address that the account has already; WrongPassword, NoPassword;
    TooManyRequests; InvalidAccessToken when the session is over or the account gone by now.
    """
    user = session.user
    codes.demand_allowed(redirect_to)
    if email.lower() == user.email.lower():
        raise InvalidParameters(Fault("#/email", "own_email"))
    credentials.demand_password(session, current_password, caller)
    # Also by the address: who erases the account and signs up anew has another id.
    limits = [(EMAIL_CHANGES_PER_USER, key) for key in (str(user.id), user.email.lower())]
    for limit in limits:
        limiter.check(*limit)
    with db.atomic():
        # Who sets another password meanwhile makes all codes worthless, this one too; and the
        # notice goes to the address that the account has.
        credentials.hold_account(session, at=user.email)
        change, code = _open(user, email, redirect_to, caller)
        security_log.record(user, Kind.EMAIL_CHANGE_REQUESTED, caller, session_id=session.id)
    limiter.spend_all(*limits)
    logs.event("email_change_waits", user_id=user.id, email_change_id=change.id)
    letter = codes.in_app(_letter_to_new, change, code, user.username, caller)
    mail.send(email, letter, caller.at + CODE_LIFE)
    _tell_old(user, change, "email_change", caller)


def _open(
    user: User, email: str, redirect_to: str | None, caller: Caller
) -> tuple[EmailChange, str]:
    """The change that waits now, and its code."""
    find_waiting = partial(EmailChange.find_waiting, user, email, caller.network)
    details = {
        "user": user,
        "old_email": user.email,
        "email": email,
        "network": caller.network,
        "redirect_to": redirect_to,
    }
    # If an account has this address, it is another owner's.
    return codes.open_row(EmailChange, find_waiting, details, may_own=False)


@metrics.count_outcomes(metrics.codes_checked)
def verify(session: Session, *, email: str, code: str, caller: Caller) -> TokenPair:
    """Give the account of who is signed in the address that `code` was mailed to.

    Ends every session, `session` too, and starts another in its place. Makes all other
    codes worthless, and tells the old address. Every comparison is counted before it is made.
    Raises InvalidEmailCode, also when the address has an account by now; EmailCodeUsedUp when no
    try is left; TooManyRequests; InvalidAccessToken when the session is over or the account gone
    by now.
    """
    try:
        change, pair = _change(session, email, code, caller)
    except CodeUsedUp as error:
        raise EmailCodeUsedUp from error
    except InvalidCode as error:
        raise InvalidEmailCode from error
    user = session.user
    SignUp.void(fn.LOWER(SignUp.email) == email.lower())
    logs.event("email_changed", user_id=user.id)
    _tell_old(user, change, "email_changed", caller)
    return pair


def _change(
    session: Session, email: str, code: str, caller: Caller
) -> tuple[EmailChange, TokenPair]:
    """The change that the code completes, made, and the account's only session."""
    user, old_email = session.user, session.user.email
    opened = list(EmailChange.opened_by(user, email))
    change = codes.find_opened(opened, code, caller, old_email)
    try:
        with db.atomic():
            if not (_move(user, change.email) and Session.hold_live(session.id)):
                raise InvalidAccessToken
            codes.use_up(change)
            EmailChange.update(changed_at=from_now()).where(EmailChange.id == change.id).execute()
            codes.void_all(user, old_email)
            Session.end_live(user)
            pair = sessions.start(user, caller, Kind.EMAIL_CHANGED)
    except IntegrityError as error:
        EmailChange.void(EmailChange.id == change.id)
        raise InvalidCode from error
    return change, pair


def undo(token: str, *, caller: Caller) -> None:
    """Give an account the address back that a change replaced, or was to replace.

    Who asked for the change knew the password: all sessions end, all codes are worthless, and
    the account has no password until its owner sets one by recovery. All later changes go, so that
    none of them leads back in turn. The token is too long to be guessed, so that no limit holds:
    a neighbour's wrong codes do not close the way back. Raises InvalidCode when it means nothing,
    has run out or was used, or when another account has the old address by now.
    """
    change = _find_undoable(token)
    if change is None:
        raise InvalidCode
    user = change.user
    try:
        with db.atomic():
            # The account first, so that the change is either done by now or comes to nothing.
            if not credentials.replace_password(user, NO_PASSWORD):
                raise InvalidCode
            later = (EmailChange.user == user) & (EmailChange.created_at >= change.created_at)
            if not EmailChange.delete().where(EmailChange.id == change.id).execute():
                raise InvalidCode
            EmailChange.delete().where(later).execute()
            replaced = User.get_by_id(user.id).email
            _move(user, change.old_email)
            codes.void_all(user, replaced)
            security_log.record(user, Kind.EMAIL_CHANGE_UNDONE, caller)
    except IntegrityError as error:
        raise InvalidCode from error
    logs.event("email_change_undone", user_id=user.id)
    for address in dict.fromkeys((user.email, replaced)):
        notices.send(user, "email_restored", to=address, email=user.email)


def _move(user: User, email: str) -> bool:
    """Give an account an address. Raises IntegrityError when another account has it."""
    return credentials.change_account(user, email=email, email_confirmed_at=clock.now())


def _find_undoable(token: str) -> EmailChange | None:
    try:
        change_id = tokens.read_restoration(token)
    except InvalidToken:
        return None
    return EmailChange.get_or_none(EmailChange.id == change_id, ~EmailChange.has_run_out())


def _letter_to_new(change: EmailChange, code: str, username: str, caller: Caller) -> Letter | None:
    """What the new address is mailed; None for a code that is good for nothing any more."""
    if owner := User.find_by_email(change.email):
        letter = letters.write("address_in_use", languages.of(owner))
    else:
        metrics.codes_sent.inc()
        mailed = MailedCode(username, code, codes.link(change, code), caller)
        letter = letters.write("new_address", caller.language, codes=[mailed], minutes=CODE_MINUTES)
    return codes.while_current(letter, change)


def _tell_old(user: User, change: EmailChange, name: str, caller: Caller) -> None:
    """Tell the address that an account has or had of its change, with the way back."""
    token = tokens.make_restoration(change.id)
    # Who asked may be a thief, and chose where `redirect_to` leads.
    url = current_app.config["APP_URL"]
    link = url and codes.add_to_query(url, email=change.old_email, restoration=token)
    way_back = WayBack(token, link)
    told = {"to": change.old_email, "email": change.email}
    notices.send(user, name, asker=caller, way_back=way_back, **told)
