"""Sign-up by mailed code: begin one, have the codes mailed again, verify.

Nothing here tells whether an address has an account. A sign-up for one that has waits like any
other and is limited like any other; only the mail, which the owner alone reads, differs.
"""

from datetime import timedelta

from peewee import IntegrityError, fn

from .. import clock, logs, metrics
from ..db import db, from_now, release
from ..errors import InvalidCode, UsernameTaken, UsernameTakenMeanwhile
from ..letters import Letter, MailedCode, letters
from ..mail import mail
from ..models import CODE_LIFE, SignUp, User
from ..passwords import passwords
from ..ratelimit import (
    RESENDS_BY_OPENER,
    RESENDS_BY_OTHERS,
    RESENDS_PER_ADDRESS,
    RESENDS_PER_NETWORK,
    SIGN_UPS_PER_ADDRESS,
    SIGN_UPS_PER_ADDRESS_AND_NETWORK,
    SIGN_UPS_PER_NETWORK,
    limiter,
)
from . import codes, credentials, former_spendings, languages, sessions
from .events import Kind
from .sessions import TokenPair


def begin(
    *,
    username: str,
    email: str,
    password: str,
    redirect_to: str | None,
    network: str,
    language: str,
) -> None:
    """Let a sign-up wait for its code, and mail the code; the owner of an account gets a notice.

    Raises InvalidParameters for a `redirect_to` whose origin is not allowed, what
    `credentials.demand_strong` does, UsernameTaken when an account has the name, TooManyRequests.
    """
    codes.demand_allowed(redirect_to)
    credentials.demand_strong(password, email, username)
    limiter.hit(SIGN_UPS_PER_NETWORK, network)
    if User.find_by_username(username):
        raise UsernameTaken
    # Counted below: what others used up, or a busy server, must not cost one's own few a day.
    limiter.check(SIGN_UPS_PER_ADDRESS_AND_NETWORK, email.lower(), network)
    limiter.check(SIGN_UPS_PER_ADDRESS, email.lower())
    release()
    password_hash = passwords.hash(password, network)
    limiter.hit(SIGN_UPS_PER_ADDRESS, email.lower())
    limiter.hit(SIGN_UPS_PER_ADDRESS_AND_NETWORK, email.lower(), network)
    sign_up = SignUp(
        email=email,
        username=username,
        password_hash=password_hash,
        network=network,
        redirect_to=redirect_to,
        created_at=from_now(),
    )
    code = codes.renew(sign_up)
    sign_up.save(force_insert=True)
    owner = User.find_by_email(email)
    letter = _letter_to_owner(owner) if owner else _letter([(sign_up, code)], language)
    mail.send(email, letter, clock.now() + CODE_LIFE)
    logs.event("sign_up_waits", sign_up_id=sign_up.id, network=network)


def resend(*, email: str, network: str, language: str) -> None:
    """Mail a new code for every sign-up that waits for the address, with its username.

    The work is done off the request's path, so that its time tells nothing. New codes make the
    ones before worthless and give no new tries. Raises TooManyRequests.
    """
    limiter.hit(RESENDS_PER_NETWORK, network)
    pool = _resend_pool(email, network)
    limiter.check(*pool)
    limiter.hit(RESENDS_PER_ADDRESS, email.lower())
    limiter.hit(*pool)
    mail.send(email, codes.in_app(_renew_codes, email, language), clock.now() + CODE_LIFE)


@metrics.codes_checked.outcomes
def verify(
    *,
    email: str,
    code: str,
    network: str,
    device: str | None = None,
    language: str | None = None,
) -> TokenPair:
    """Complete the sign-up that `code` was mailed for, discard the rest, start a session.

    Every comparison is counted before it is made. Raises InvalidCode; UsernameTakenMeanwhile,
    and then the sign-up is over; TooManyRequests.
    """
    sign_up = codes.find(SignUp, email, code, network)
    if sign_up is None:
        codes.refuse(email, network, device)
    return _complete(sign_up, network, device, language)


def _resend_pool(email: str, network: str) -> tuple:
    """The limit, and its key, that a resend is counted in: openers apart from everybody else."""
    if SignUp.opened(email, network).exists():
        return RESENDS_BY_OPENER, email.lower(), network
    return RESENDS_BY_OTHERS, email.lower()


def _complete(sign_up: SignUp, network: str, device: str | None, language: str | None) -> TokenPair:
    """Make the account, once; of two right codes at once the second finds the address taken."""
    try:
        with db.atomic():
            codes.use_up(sign_up)
            user = User.create(
                username=sign_up.username,
                email=sign_up.email,
                password_hash=sign_up.password_hash,
                email_confirmed_at=clock.now(),
                language=language,
            )
            former_spendings.inherit(user)
            pair = sessions.start(user, network, device, Kind.SIGNED_UP)
    except IntegrityError as error:
        SignUp.void(SignUp.id == sign_up.id)
        if User.find_by_email(sign_up.email):
            raise InvalidCode from error
        raise UsernameTakenMeanwhile from error
    logs.event("user_created", user_id=user.id)
    SignUp.void(fn.LOWER(SignUp.email) == sign_up.email.lower())
    return pair


def _renew_codes(email: str, language: str) -> Letter | None:
    """New codes for all that wait, and the letter that tells them; None when nothing waits.

    Those that are void stay so, though their address may have no account any more. Row by row and
    not in one transaction: one that holds several rows while a verification holds others of the
    address would wait for it, and it for this one.
    """
    waiting = list(SignUp.waiting(email))
    if not waiting:
        return None
    if owner := User.find_by_email(email):
        return _letter_to_owner(owner)
    renewed = [(sign_up, codes.renew(sign_up)) for sign_up in waiting]
    saved = [(sign_up, code) for sign_up, code in renewed if _save_code(sign_up)]
    return _letter(saved, language) if saved else None


def _save_code(sign_up: SignUp) -> bool:
    """Whether the row, which has a new code, is not void, or was not made so meanwhile."""
    renewed = SignUp.update(
        code_hash=sign_up.code_hash, code_expires_at=sign_up.code_expires_at
    ).where(SignUp.id == sign_up.id, SignUp.password_hash != "")
    return renewed.execute() == 1


def _letter(renewed: list[tuple[SignUp, str]], language: str) -> Letter:
    metrics.codes_sent.inc(by=len(renewed))
    mailed = [MailedCode(s.username, code, codes.link(s, code)) for s, code in renewed]
    return letters.verification_letter(language, mailed, CODE_LIFE // timedelta(minutes=1))


def _letter_to_owner(owner: User) -> Letter:
    return letters.already_registered_letter(languages.of(owner))
