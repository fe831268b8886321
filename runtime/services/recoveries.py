"""Recovery by mailed code: whoever reads the account's mail may set another password.

Nothing here tells whether an address has an account. A recovery for one that has none waits like
any other and is limited like any other; only the mail, which is sent later on another thread, is
not written.
"""

from datetime import datetime, timedelta

from .. import clock, logs, metrics
from ..callers import Caller
from ..db import db, from_now, release
from ..errors import InvalidCode
from ..letters import MailedCode, letters
from ..mail import NOTICE_LIFE, mail
from ..models import CODE_LIFE, Recovery, User
from ..passwords import passwords
from ..ratelimit import (
    RECOVERIES_PER_ADDRESS,
    RECOVERIES_PER_ADDRESS_AND_NETWORK,
    RECOVERIES_PER_NETWORK,
    limiter,
)
from . import codes, credentials, languages, sessions
from .events import Kind
from .sessions import TokenPair


def begin(*, email: str, redirect_to: str | None, network: str, language: str) -> None:
    """Let a recovery wait for its code, which is mailed if the address has an account.

    Raises InvalidParameters for a `redirect_to` whose origin is not allowed, TooManyRequests.
    """
    codes.demand_allowed(redirect_to)
    limiter.hit(RECOVERIES_PER_NETWORK, network)
    limiter.check(RECOVERIES_PER_ADDRESS_AND_NETWORK, email.lower(), network)
    if not sessions.has_signed_in_from(email, network):
        limiter.hit(RECOVERIES_PER_ADDRESS, email.lower())
    limiter.hit(RECOVERIES_PER_ADDRESS_AND_NETWORK, email.lower(), network)
    recovery = Recovery(
        email=email, network=network, redirect_to=redirect_to, created_at=from_now()
    )
    code = codes.renew(recovery)
    recovery.save(force_insert=True)
    good_until = clock.now() + CODE_LIFE
    mail.send(email, codes.in_app(_mail_code, recovery, code, language, good_until), good_until)
    logs.event("recovery_waits", recovery_id=recovery.id, network=network)


@metrics.codes_checked.outcomes
def verify(
    *,
    email: str,
    code: str,
    password: str,
    network: str,
    device: str | None = None,
    language: str | None = None,
) -> TokenPair:
    """Set the password of the account that `code` was mailed to, and start its only session.

    Every comparison is counted before it is made. Raises InvalidCode; TooManyRequests, and when
    too many passwords are being hashed; what `credentials.demand_strong` does. After the last two
    the code is still good; a try is spent all the same, unless nobody may have such a password.
    """
    credentials.demand_strong(password, email)
    recovery = codes.find(Recovery, email, code, network)
    user = recovery and User.find_by_email(email)
    if user is None or user.is_disabled:
        codes.refuse(email, network, device)
    credentials.demand_strong(password, user.email, user.username)
    release()
    password_hash = passwords.hash(password, network)
    with db.atomic():
        if not credentials.replace_password(user, password_hash):
            raise InvalidCode
        codes.use_up(recovery)
        codes.void_all(user)
        pair = sessions.start(user, network, device, Kind.PASSWORD_RESET)
    logs.event("password_reset", user_id=user.id)
    letter = letters.new_password_letter(languages.of(user, language), device, network, clock.now())
    mail.send(user.email, letter, clock.now() + NOTICE_LIFE)
    languages.note(user, language)
    return pair


def _mail_code(recovery: Recovery, code: str, language: str, good_until: datetime) -> None:
    """Mail a code to the account's own address, if there is an account.

    Not to the address as it was typed: two that differ in case alone might be two mailboxes.
    """
    user = User.find_by_email(recovery.email)
    if user is None or user.is_disabled:
        return
    metrics.codes_sent.inc()
    asker = Caller(recovery.network)
    mailed = MailedCode(user.username, code, codes.link(recovery, code), asker)
    minutes = CODE_LIFE // timedelta(minutes=1)
    letter = letters.recovery_letter(languages.of(user, language), mailed, minutes)
    mail.send(user.email, letter, good_until)
