"""Sign-up by mailed code: begin one, have the codes mailed again, verify.

Nothing here tells whether an address has an account. A sign-up for one that has waits like any
other and is limited like any other; only the mail, which the owner alone reads, differs.

How often a code may be guessed is bounded by allowances, kept for the address whether or not it
is known. Networks that opened a sign-up try its code from pools of their own, and a network's
first try from another than its further ones: strangers of fewer than 40 networks may sign up with
an address and guess as often as they like, its owner still has a try, and the right code takes no
more. (Further ones, after a typo, two such networks can use up, for up to 80 minutes a try.)
Everybody else shares a small pool. In any 24 hours that makes at most `40 + 8` first and `14 + 18`
further comparisons with one code each, and `5 + 4` of others with two codes each: 98 chances in a
million, below 1 in 10,000, from however many hosts.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlencode, urlsplit, urlunsplit

from flask import current_app
from peewee import IntegrityError, fn

from .. import clock, letters, logs, metrics
from ..allowances import Rate, spend
from ..config import origin_of
from ..db import db, from_now, release
from ..errors import (
    Fault,
    InvalidCode,
    InvalidParameters,
    UsernameTaken,
    UsernameTakenMeanwhile,
)
from ..letters import Letter, MailedCode
from ..mail import mail
from ..models import CODE_LIFE, SignUp, User
from ..passwords import passwords
from ..ratelimit import (
    CODES_PER_NETWORK,
    RESENDS_BY_OPENER,
    RESENDS_BY_OTHERS,
    RESENDS_PER_ADDRESS,
    RESENDS_PER_NETWORK,
    SIGN_UPS_PER_ADDRESS,
    SIGN_UPS_PER_ADDRESS_AND_NETWORK,
    SIGN_UPS_PER_NETWORK,
    limiter,
)
from ..tokens import make_code, tokens
from . import events, sessions
from .events import Kind
from .sessions import TokenPair

# A single network spends its pool slower than the openers' common one grows back.
OPENER_TRIES = Rate("opener-tries", 10, timedelta(minutes=90))
OPENERS_FIRST_TRIES = Rate("openers-first-tries", 40, timedelta(hours=3))
OPENERS_FURTHER_TRIES = Rate("openers-further-tries", 14, timedelta(minutes=80))
OTHERS_TRIES = Rate("others-tries", 5, timedelta(hours=5))
# A try from elsewhere is compared with the codes of so many sign-ups, the newest.
CODES_A_TRY_FROM_ELSEWHERE = 2


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

    Raises InvalidParameters for a `redirect_to` whose origin is not allowed, UsernameTaken when
    an account has the name, TooManyRequests.
    """
    _demand_allowed(redirect_to)
    limiter.hit(SIGN_UPS_PER_NETWORK, network)
    if User.find_by_username(username):
        raise UsernameTaken
    # Counted below: what others used up, or a busy server, must not cost one's own few a day.
    limiter.check(SIGN_UPS_PER_ADDRESS_AND_NETWORK, email.lower(), network)
    limiter.check(SIGN_UPS_PER_ADDRESS, email.lower())
    release()
    password_hash = passwords.hash(password)
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
    code = _set_code(sign_up)
    sign_up.save(force_insert=True)
    owned = User.find_by_email(email) is not None
    letter = _letter_to_owner(language) if owned else _letter([(sign_up, code)], language)
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
    mail.send(email, _in_app(_renew_codes, email, language), clock.now() + CODE_LIFE)


@metrics.codes_checked.outcomes
def verify(*, email: str, code: str, network: str, device: str | None = None) -> TokenPair:
    """Complete the sign-up that `code` was mailed for, discard the rest, start a session.

    Every comparison is counted before it is made. Raises InvalidCode; UsernameTakenMeanwhile,
    and then the sign-up is over; TooManyRequests.
    """
    limiter.hit(CODES_PER_NETWORK, network)
    for sign_up in _counted(email, network):
        if tokens.matches_code(sign_up.id, code, sign_up.code_hash) and sign_up.has_fresh_code:
            return _complete(sign_up, network, device)
    logs.event("code_refused", network=network)
    events.refuse(Kind.CODE_REFUSED, email, network=network, device=device)
    raise InvalidCode


def _demand_allowed(redirect_to: str | None) -> None:
    allowed = current_app.config["REDIRECT_ALLOWLIST"]
    if redirect_to is not None and origin_of(redirect_to) not in allowed:
        raise InvalidParameters(Fault("#/redirect_to", "not_allowed_redirect"))


def _resend_pool(email: str, network: str) -> tuple:
    """The limit, and its key, that a resend is counted in: openers apart from everybody else."""
    if SignUp.waiting(email).where(SignUp.network == network).exists():
        return RESENDS_BY_OPENER, email.lower(), network
    return RESENDS_BY_OTHERS, email.lower()


def _counted(email: str, network: str) -> Iterator[SignUp]:
    """The sign-ups that a try from this network is good for, the newest first.

    Each comparison is counted before its sign-up is handed out; one from elsewhere counts once
    for all, so that it is the same when nothing waits. Raises TooManyRequests.
    """
    address = tokens.hash_address(email)
    opened = list(SignUp.waiting(email).where(SignUp.network == network))
    if not opened:
        spend(OTHERS_TRIES, address)
        # A list: a SELECT that is still open would keep SQLite from beginning to write.
        yield from list(SignUp.waiting(email).limit(CODES_A_TRY_FROM_ELSEWHERE))
    for sign_up in opened:
        if _count_try_of_opener(sign_up, address):
            yield sign_up


def _count_try_of_opener(sign_up: SignUp, address: str) -> bool:
    """Take one of the sign-up's tries and of its network's; False when it had none left."""
    left = (SignUp.id == sign_up.id) & (SignUp.tries_left > 0)
    with db.atomic():
        if not SignUp.update(tries_left=SignUp.tries_left - 1).where(left).execute():
            return False
        is_first = spend(OPENER_TRIES, address, sign_up.network)
        spend(OPENERS_FIRST_TRIES if is_first else OPENERS_FURTHER_TRIES, address)
    return True


def _complete(sign_up: SignUp, network: str, device: str | None) -> TokenPair:
    """Make the account, once; of two right codes at once the second finds the address taken.

    The rows stay until they run out, void: if they went, whoever waits beside the owner could
    tell from the limits that the address has an account now.
    """
    try:
        with db.atomic():
            if not _void((SignUp.id == sign_up.id) & (SignUp.code_hash == sign_up.code_hash)):
                raise InvalidCode
            user = User.create(
                username=sign_up.username,
                email=sign_up.email,
                password_hash=sign_up.password_hash,
                email_confirmed_at=clock.now(),
            )
            logs.event("user_created", user_id=user.id)
            pair = sessions.start(user, network, device, Kind.SIGNED_UP)
    except IntegrityError as error:
        _void(SignUp.id == sign_up.id)
        if User.find_by_email(sign_up.email):
            raise InvalidCode from error
        raise UsernameTakenMeanwhile from error
    _void(fn.LOWER(SignUp.email) == sign_up.email.lower())
    return pair


def _void(which) -> int:
    """Leave nothing in these sign-ups that could complete them; returns how many they were."""
    return SignUp.update(code_hash="", password_hash="").where(which).execute()


def _set_code(sign_up: SignUp) -> str:
    """Give the sign-up a new code; only its keyed hash stays."""
    code = make_code()
    sign_up.code_hash = tokens.hash_code(sign_up.id, code)
    sign_up.code_expires_at = from_now(seconds=CODE_LIFE.total_seconds())
    return code


def _renew_codes(email: str, language: str) -> Letter | None:
    """New codes for all that wait, and the letter that tells them; None when nothing waits.

    Row by row and not in one transaction: one that holds several rows while a verification holds
    others of the address would wait for it, and it for this one.
    """
    waiting = list(SignUp.waiting(email))
    if not waiting:
        return None
    if User.find_by_email(email):
        return _letter_to_owner(language)
    renewed = [(sign_up, _set_code(sign_up)) for sign_up in waiting]
    for sign_up, _code in renewed:
        sign_up.save(only=[SignUp.code_hash, SignUp.code_expires_at])
    return _letter(renewed, language)


def _letter(codes: list[tuple[SignUp, str]], language: str) -> Letter:
    metrics.codes_sent.inc(by=len(codes))
    mailed = [MailedCode(s.username, code, _link(s, code)) for s, code in codes]
    return letters.verification_letter(language, mailed, CODE_LIFE // timedelta(minutes=1))


def _letter_to_owner(language: str) -> Letter:
    return letters.already_registered_letter(language)


def _link(sign_up: SignUp, code: str) -> str | None:
    """`redirect_to` with `email` and `token` added to its query."""
    if sign_up.redirect_to is None:
        return None
    url = urlsplit(sign_up.redirect_to)
    ours = urlencode({"email": sign_up.email, "token": code})
    # What is there already stays as it is: decoded and encoded again it might mean another thing.
    query = f"{url.query}&{ours}" if url.query else ours
    return urlunsplit(url._replace(query=query))


def _in_app(function: Callable, *arguments) -> Callable:
    """The call, to be made later on another thread, in this application."""
    app = current_app._get_current_object()

    def call():
        with app.app_context():
            return function(*arguments)

    return call
