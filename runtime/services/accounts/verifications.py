"""Sign-up by mailed code: begin one, have the codes mailed again, verify.

Nothing here tells whether an address has an account. A sign-up for an address with an account
waits, and is limited, like any other; only the mail, which the owner alone reads, differs.

A stranger may sign up with the owner's address before the owner does, and hope that the owner
completes it: then the stranger's password would open the owner's account. This keeps it from them:

1. There is no account until a code is verified, and the code goes to the address.
2. A code completes only the sign-up it was mailed for, and the others are discarded then.
3. The mail says who asked for each code: the username, the network, the device, the time.
4. A sign-up is contested while another of the same address and username waits that was begun from
   another network or with another password: its owner cannot tell the mails apart.
5. Who is refused because of a limit still contests the others: the next mail may seem to be theirs.
6. The account of a contested sign-up begins without a password. The session is good, a mail says
   why, and a recovery sets a password.
"""

from collections.abc import Sequence
from functools import partial

from peewee import IntegrityError, fn

from runtime import logs, metrics
from runtime.caller import Caller
from runtime.database.base import db, release
from runtime.errors import (
    InvalidCode,
    NothingToResend,
    TooManyRequests,
    UsernameTaken,
    UsernameTakenMeanwhile,
)
from runtime.limits.rates import (
    RESENDS_BY_OTHERS,
    RESENDS_PER_ADDRESS,
    RESENDS_PER_NETWORK,
    SIGN_UPS_PER_NETWORK,
    TAKEN_NAMES_PER_NETWORK,
    limiter,
)
from runtime.mail.letters import Letter, MailedCode, letters
from runtime.mail.queue import mail
from runtime.models.codes import CODE_LIFE, CODE_MINUTES, SignUp
from runtime.models.users import NO_PASSWORD, User
from runtime.security.passwords import normalized, passwords
from runtime.security.tokens import tokens
from runtime.services.accounts import (
    codes,
    credentials,
    former_spendings,
    languages,
    mail_limits,
    notices,
    sessions,
)
from runtime.services.accounts.security_log import Kind
from runtime.services.accounts.token_pairs import TokenPair

# The codes in one mail, however many sign-ups wait.
CODES_A_MAIL = 3


def begin(
    *, username: str, email: str, password: str, redirect_to: str | None, caller: Caller
) -> None:
    """Let a sign-up wait for its code, and mail the code; the owner of an account gets a notice.

    Who asks again with the same address, username and password from the same network has the
    same sign-up as before, with a new code. Raises InvalidParameters for a `redirect_to` that is
    not allowed, what `credentials.demand_strong` does, UsernameTaken when an account has the name,
    TooManyRequests.
    """
    codes.demand_allowed(redirect_to)
    credentials.demand_strong(password, email, username)
    asked_hash = tokens.hash_asked(email, username, caller.network, normalized(password))
    details = {
        "email": email,
        "username": username,
        "redirect_to": redirect_to,
        "network": caller.network,
        "device": caller.device,
        "asked_hash": asked_hash,
    }
    try:
        _demand_room(details)
        # Also if it waits already, so that it takes the same time.
        details["password_hash"] = passwords.hash(password, caller.network)
        find_waiting = partial(SignUp.find_asked, email, asked_hash)
        with db.atomic():
            sign_up, code = codes.open_row(SignUp, find_waiting, details)
            sign_up.contest()
        limiter.spend(SIGN_UPS_PER_NETWORK, caller.network)
    except TooManyRequests:
        SignUp(**details).contest()
        raise
    owner = User.find_by_email(email)
    letter = _letter_to_owner(owner) if owner else _letter([(sign_up, code, caller)], caller)
    mail.send(email, codes.while_current(letter, sign_up), caller.at + CODE_LIFE)
    logs.event("sign_up_waits", sign_up_id=sign_up.id, network=caller.network)


def resend(*, email: str, caller: Caller) -> None:
    """Mail new codes for the newest sign-ups that wait for the address, with who asked for each.

    If the caller's network began some, these alone get new codes; else the newest of each network.
    The work is done off the request's path, so that its time tells nothing. New codes make the ones
    before worthless and give no new tries. Raises NothingToResend to who has used up the tries at
    all that they began; TooManyRequests.
    """
    network = caller.network
    opened = list(SignUp.opened(email, network))
    if codes.are_used_up(opened):
        raise NothingToResend
    limits = [(RESENDS_PER_NETWORK, network), (RESENDS_PER_ADDRESS, email.lower())]
    limits += [] if opened else [(RESENDS_BY_OTHERS, email.lower())]
    mail_limits.check(email, network, is_opening=False)
    limiter.spend_all(*limits)
    with db.atomic():
        mail_limits.hold_address(email)
        mail_limits.spend(email, network, is_opening=False)
    letter = codes.in_app(_renew_codes, email, bool(opened), caller)
    mail.send(email, letter, caller.at + CODE_LIFE)


@metrics.count_outcomes(metrics.codes_checked)
def verify(*, email: str, code: str, caller: Caller) -> TokenPair:
    """Complete the sign-up that `code` was mailed for, discard the rest, start a session.

    The account of a contested sign-up has no password, and a mail says so. Every comparison is
    counted before it is made. Raises InvalidCode; UsernameTakenMeanwhile, and then the sign-up is
    over; TooManyRequests.
    """
    return _complete(codes.find(SignUp, email, code, caller), caller)


def _demand_room(details: dict) -> None:
    """Raises TooManyRequests when no such sign-up may begin now, UsernameTaken; counts no mail."""
    email, network = details["email"], details["network"]
    limiter.check(SIGN_UPS_PER_NETWORK, network)
    if User.find_by_username(details["username"]):
        limiter.spend(TAKEN_NAMES_PER_NETWORK, network)
        raise UsernameTaken
    is_new = SignUp.find_asked(email, details["asked_hash"]) is None
    mail_limits.check(email, network, is_opening=is_new)
    release()


def _complete(sign_up: SignUp, caller: Caller) -> TokenPair:
    """Make the account, once; of two right codes at once the second finds the address taken."""
    try:
        with db.atomic():
            codes.use_up(sign_up)
            is_contested = sign_up.is_contested
            user = User.create(
                username=sign_up.username,
                email=sign_up.email,
                password_hash=NO_PASSWORD if is_contested else sign_up.password_hash,
                email_confirmed_at=caller.at,
                language=caller.language,
            )
            former_spendings.inherit(user)
            pair = sessions.start(user, caller, Kind.SIGNED_UP)
    except IntegrityError as error:
        SignUp.void(SignUp.id == sign_up.id)
        if User.find_by_email(sign_up.email):
            raise InvalidCode from error
        raise UsernameTakenMeanwhile from error
    logs.event("user_created", user_id=user.id)
    SignUp.void(fn.LOWER(SignUp.email) == sign_up.email.lower())
    if is_contested:
        logs.event("sign_up_contested", user_id=user.id)
        notices.send(user, "no_password", username=user.username)
    return pair


def _renew_codes(email: str, is_opener: bool, caller: Caller) -> Letter | None:
    """New codes for what waits, and the letter that tells them; None when nothing waits.

    A row that is void, or for an address with an account, only has its code's end moved: who tries
    it cannot tell it from any other. Each row is written on its own: a transaction over several
    rows and a verification that holds others of the address could wait for each other.
    """
    newest = _newest(list(SignUp.waiting(email)), caller.network if is_opener else None)
    renewed = [(sign_up, codes.renew(sign_up), _asker(sign_up)) for sign_up in newest]
    saved = [each for each in renewed if _save_code(each[0])]
    if newest and (owner := User.find_by_email(email)):
        return _letter_to_owner(owner)
    if not saved:
        return None
    return codes.while_current(_letter(saved, caller), *(sign_up for sign_up, *_ in saved))


def _newest(waiting: Sequence[SignUp], opener: str | None) -> list[SignUp]:
    """The newest of these, which are in their order: those of one network, or one of each.

    So a network that begins many keeps no other's out of a mail. Void ones come in if there is no
    other.
    """
    waiting = [sign_up for sign_up in waiting if sign_up.password_hash] or waiting
    if opener:
        mine = (opener, tokens.keyed_hash(opener))
        return [sign_up for sign_up in waiting if sign_up.network in mine][:CODES_A_MAIL]
    by_network: dict[str, SignUp] = {}
    for sign_up in waiting:
        by_network.setdefault(sign_up.network, sign_up)
    return [*by_network.values()][:CODES_A_MAIL]


def _asker(sign_up: SignUp) -> Caller:
    """Who began a sign-up, and when."""
    return Caller(sign_up.network, sign_up.device, at=sign_up.created_at)


def _save_code(sign_up: SignUp) -> bool:
    """Whether the row, which has a new code, is not void, or was not made so meanwhile."""
    its = SignUp.id == sign_up.id
    SignUp.update(code_expires_at=sign_up.code_expires_at).where(its).execute()
    renewed = SignUp.update(code_hash=sign_up.code_hash).where(its, SignUp.password_hash != "")
    return renewed.execute() == 1


def _letter(mailed: Sequence[tuple[SignUp, str, Caller]], caller: Caller) -> Letter:
    metrics.codes_sent.inc(len(mailed))
    told = [MailedCode(s.username, code, codes.link(s, code), asker) for s, code, asker in mailed]
    name = "verification" if len(told) == 1 else "verifications"
    counts = {"count": len(told), "minutes": CODE_MINUTES}
    return letters.write(name, caller.language, codes=told, **counts)


def _letter_to_owner(owner: User) -> Letter:
    return letters.write("registered", languages.of(owner))
