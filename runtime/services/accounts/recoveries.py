"""Recovery by mailed code: who reads the account's mail may set another password.

Nothing here tells whether an address has an account. A recovery for an address without one waits,
and is limited, like any other; only the mail is not written, which is sent later on another thread.
"""

from functools import partial

from runtime import logs, metrics
from runtime.caller import Caller
from runtime.database.base import db, release
from runtime.errors import InvalidCode, InvalidParameters, Overloaded
from runtime.limits.rates import RECOVERIES_PER_NETWORK, limiter
from runtime.mail.letters import MailedCode, letters
from runtime.mail.queue import mail
from runtime.models.codes import CODE_LIFE, CODE_MINUTES, Recovery
from runtime.models.users import User
from runtime.security.passwords import passwords
from runtime.services.accounts import codes, credentials, languages, notices, sessions
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair


def begin(*, email: str, redirect_to: str | None, caller: Caller) -> None:
    """Let a recovery wait for its code, which is mailed if the address has an account.

    Who asks again from the same network has the same recovery as before, with a new code. Raises
    InvalidParameters for a `redirect_to` that is not allowed, TooManyRequests.
    """
    codes.demand_allowed(redirect_to)
    limiter.check(RECOVERIES_PER_NETWORK, caller.network)
    with db.atomic():
        find_waiting = partial(Recovery.find_waiting, email, caller.network)
        details = {"email": email, "network": caller.network, "redirect_to": redirect_to}
        recovery, code = codes.open_row(Recovery, find_waiting, details)
    limiter.spend(RECOVERIES_PER_NETWORK, caller.network)
    good_until = caller.at + CODE_LIFE
    mail.send(email, codes.in_app(_mail_code, recovery, code, caller), good_until)
    logs.event("recovery_waits", recovery_id=recovery.id, network=caller.network)


@metrics.count_outcomes(metrics.codes_checked)
def verify(*, email: str, code: str, password: str, caller: Caller) -> TokenPair:
    """Set the password of the account that `code` was mailed to, and start its only session.

    Its address is confirmed, too. Every comparison is counted before it is made. Raises
    InvalidCode; TooManyRequests, and when too many passwords are being hashed; what
    `credentials.demand_strong` does. After the last two the code is as good as before.
    """
    credentials.demand_strong(password, email)
    recovery = codes.find(Recovery, email, code, caller)
    user = User.find_by_email(email)
    if user is None or user.is_disabled:
        codes.refuse(email, caller)
    password_hash = _hash(password, user, recovery, caller)
    with db.atomic():
        confirmed_at = user.email_confirmed_at or caller.at
        if not credentials.replace_password(user, password_hash):
            raise InvalidCode
        credentials.change_account(user, email_confirmed_at=confirmed_at)
        codes.use_up(recovery)
        codes.void_all(user)
        pair = sessions.start(user, caller, Kind.PASSWORD_RESET)
    logs.event("password_reset", user_id=user.id)
    language = languages.of(user, caller.language)
    notices.send(user, "new_password", asker=caller, language=language)
    languages.note(user, caller.stated_language)
    return pair


def _hash(password: str, user: User, recovery: Recovery, caller: Caller) -> str:
    """The hash of a password that the user may have; if there is none the code stays as good."""
    try:
        credentials.demand_strong(password, user.email, user.username)
        release()
        return passwords.hash(password, caller.network)
    except (InvalidParameters, Overloaded):
        codes.give_back(recovery, user.email, caller)
        raise


def _mail_code(recovery: Recovery, code: str, caller: Caller) -> None:
    """Mail a code to the account's own address, if there is an account and no newer code.

    Not to the address as it was typed: two that differ in case alone might be two mailboxes. Of two
    mails of one moment the last to arrive may be the first that was asked for.
    """
    user = User.find_by_email(recovery.email)
    if user is None or user.is_disabled:
        return
    metrics.codes_sent.inc()
    mailed = MailedCode(user.username, code, codes.link(recovery, code), caller)
    language = languages.of(user, caller.language)
    letter = letters.write("recovery", language, codes=[mailed], minutes=CODE_MINUTES)
    mail.send(user.email, codes.while_current(letter, recovery), caller.at + CODE_LIFE)
