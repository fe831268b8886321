"""Mailed codes of all kinds: make one, count the tries at it, find the row that it completes.

How often a code may be guessed is bounded in the database, whether or not the address is known.
Who opened something that waits for a code has five tries at that code alone, which are kept in its
row: nothing that anybody else does takes one. How much is opened is bounded for an address, over
all kinds, by `mail_limits`. All who try from elsewhere share a small pool for each kind, of which
one network has a part.

In any 24 hours those codes can be tried that were opened in the 48 hours until their end, since
each waits for a day: 11 by strangers and 3 from networks of the account, five tries each, at most
`(11 + 3) * 5 = 70` comparisons with one code. From elsewhere there are `5 + 24 / 12 = 7` tries at
sign-ups and as many at recoveries, with two codes each, at most 28 comparisons; a change of address
is tried by the account that asked for it alone. That is 98 chances in a million, below 1 in 10,000,
from however many hosts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

from flask import current_app
from peewee import fn

from runtime import logs
from runtime.caller import Caller
from runtime.config import redirects
from runtime.database.base import db, from_now
from runtime.errors import CodeUsedUp, Fault, InvalidCode, InvalidParameters
from runtime.limits import allowances
from runtime.limits.allowances import Bucket
from runtime.limits.rates import WRONG_CODES_PER_NETWORK, limiter
from runtime.mail.letters import Letter
from runtime.models.codes import CODE_LIFE, TRIES_A_CODE, AwaitsCode, EmailChange, Recovery
from runtime.models.users import User
from runtime.security.tokens import make_code, tokens
from runtime.services.accounts import mail_limits, security_log
from runtime.services.accounts.security_log import Kind

OTHERS_TRIES = Bucket("others-tries", 5, timedelta(hours=12))
OTHERS_TRIES_A_NETWORK = Bucket("others-tries-network", 3, timedelta(hours=24))
# A try from elsewhere is compared with so many codes: the newest of each of the last openers.
CODES_A_TRY_FROM_ELSEWHERE = 2


def demand_allowed(redirect_to: str | None) -> None:
    """Raises InvalidParameters for a `redirect_to` that is not allowed.

    Or that has a name of ours among its parameters: a reader might take it for what the mail adds.
    """
    if redirect_to is None:
        return
    if not redirects.is_allowed(redirect_to, current_app.config["REDIRECT_ALLOWLIST"]):
        raise InvalidParameters(Fault("#/redirect_to", "not_allowed_redirect"))
    if redirects.has_own_name(redirect_to):
        raise InvalidParameters(Fault("#/redirect_to", "own_name_in_redirect"))


def open_row(
    kind: type[AwaitsCode],
    find_waiting: Callable[[], AwaitsCode | None],
    columns: dict[str, object],
    *,
    may_own: bool = True,
) -> tuple[AwaitsCode, str]:
    """A row of these columns that waits for a code, and its code, in the caller's transaction.

    The row that `find_waiting` finds gets a new code, and keeps the tries that it has left; if it
    finds none, a new row is counted. Without `may_own` the asker is taken for a stranger to the
    address. Raises TooManyRequests, and then nothing is opened.
    """
    email, network = columns["email"], columns["network"]
    mail_limits.hold_address(email)
    waiting = find_waiting()
    may_try = mail_limits.spend(email, network, is_opening=waiting is None, may_own=may_own)
    row = waiting or kind(created_at=from_now(), tries_left=TRIES_A_CODE if may_try else 0)
    for name, value in columns.items():
        setattr(row, name, value)
    code = renew(row)
    if waiting:
        row.save(only=[*columns, "code_hash", "code_expires_at"])
    else:
        row.save(force_insert=True)
    return row, code


def renew(row: AwaitsCode) -> str:
    """Give a row, which the caller saves, a new code and no new tries; only its hash stays."""
    code = make_code()
    row.code_hash = tokens.hash_code(row.id, code)
    row.code_expires_at = from_now(seconds=CODE_LIFE.total_seconds())
    return code


def find(kind: type[AwaitsCode], email: str, code: str, caller: Caller) -> AwaitsCode:
    """The row of this kind that waits for this code, of those a try by this caller is good for.

    Every comparison is counted before it is made; one from elsewhere counts once for all, so that
    it is the same when nothing waits. Raises InvalidCode; CodeUsedUp to the network that opened
    what it tries, when no try is left; TooManyRequests.
    """
    limiter.check(WRONG_CODES_PER_NETWORK, caller.network)
    opened = list(kind.opened(email, caller.network))
    if opened:
        return find_opened(opened, code, caller, email)
    with db.atomic():
        for pool in _pools(kind, email, caller):
            allowances.spend(*pool)
    return _find_among_newest(kind, email, code) or refuse(email, caller)


def find_opened(opened: Sequence[AwaitsCode], code: str, caller: Caller, email: str) -> AwaitsCode:
    """The row that waits for this code, of those that the caller has opened.

    One try of each row is spent before its code is compared; none at a code that has run out.
    `email` is the address whose owner reads of a refusal. Raises InvalidCode; CodeUsedUp when no
    row has a try left; TooManyRequests.
    """
    limiter.check(WRONG_CODES_PER_NETWORK, caller.network)
    tried = (row for row in opened if row.has_fresh_code and _count_try(row))
    found = next((row for row in tried if tokens.matches_code(row.id, code, row.code_hash)), None)
    return found or refuse(email, caller, opened)


def refuse(email: str, caller: Caller, opened: Sequence[AwaitsCode] = ()) -> NoReturn:
    """Count a wrong code, and tell the owner of the address in the account's journal.

    Raises InvalidCode; CodeUsedUp if the caller has `opened` rows and no try at them is left;
    TooManyRequests.
    """
    limiter.spend(WRONG_CODES_PER_NETWORK, caller.network)
    logs.event("code_refused", network=caller.network)
    security_log.refuse(Kind.CODE_REFUSED, email, caller)
    raise CodeUsedUp if are_used_up(opened) else InvalidCode


def are_used_up(opened: Sequence[AwaitsCode]) -> bool:
    """Whether something was opened, and no try at any of it is left."""
    return bool(opened) and not any(row.tries_left for row in opened)


def give_back(row: AwaitsCode, email: str, caller: Caller) -> None:
    """Give the try back with which the caller found this row: the right code is no guess."""
    kind = type(row)
    if row.network in (caller.network, tokens.keyed_hash(caller.network)):
        may_have_more = (kind.id == row.id) & (kind.tries_left < TRIES_A_CODE)
        kind.update(tries_left=kind.tries_left + 1).where(may_have_more).execute()
        return
    with db.atomic():
        for pool in _pools(kind, email, caller):
            allowances.give_back(*pool)


def use_up(row: AwaitsCode) -> None:
    """Take the code from its row, in the transaction of what it completes.

    Raises InvalidCode when it was used or renewed since the row was read.
    """
    kind = type(row)
    if not kind.void((kind.id == row.id) & (kind.code_hash == row.code_hash)):
        raise InvalidCode


def void_all(user: User, *other_emails: str) -> None:
    """Make every code worthless that was mailed for an account, in the caller's transaction.

    `other_emails` are addresses that it had until now, or has from now on.
    """
    emails = {email.lower() for email in (user.email, *other_emails)}
    Recovery.void(fn.LOWER(Recovery.email).in_(emails))
    EmailChange.void(EmailChange.user == user)


def link(row: AwaitsCode, code: str) -> str | None:
    """`redirect_to` with `email` and `token` added to its query, if there is any."""
    return row.redirect_to and add_to_query(row.redirect_to, email=row.email, token=code)


def add_to_query(url: str, **parameters: str) -> str:
    """The URL with these parameters behind those it has."""
    parts = urlsplit(url)
    ours = urlencode(parameters)
    # What is there already stays as it is: decoded and encoded again it might mean another thing.
    query = f"{parts.query}&{ours}" if parts.query else ours
    return urlunsplit(parts._replace(query=query))


def while_current(letter: Letter, *rows: AwaitsCode) -> Letter:
    """A letter that is sent only while one of these rows has the code that it has now.

    Mails that are asked for at once are written and sent side by side. That of a code which was
    renewed or used meanwhile would come beside the good one, or after it.
    """
    written = [(type(row), row.id, row.code_hash) for row in rows]
    return replace(letter, is_wanted=in_app(_is_one_current, written))


def _is_one_current(written: Sequence[tuple]) -> bool:
    return any(
        kind.select().where(kind.id == row_id, kind.code_hash == code_hash).exists()
        for kind, row_id, code_hash in written
    )


def in_app(function: Callable, *arguments) -> Callable:
    """The call, to be made later on another thread, in this application."""
    app = current_app._get_current_object()

    def call():
        with app.app_context():
            return function(*arguments)

    return call


def _pools(kind: type[AwaitsCode], email: str, caller: Caller) -> list[tuple]:
    """What a try from elsewhere spends one of: the network's part, and what all share."""
    pool = tokens.keyed_hash(kind.purpose + email)
    return [
        (OTHERS_TRIES_A_NETWORK, pool, tokens.keyed_hash(caller.network)),
        (OTHERS_TRIES, pool),
    ]


def _find_among_newest(kind: type[AwaitsCode], email: str, code: str) -> AwaitsCode | None:
    """The row that waits for this code, of the newest; as much work when there is none."""
    # Plain values, since making rows of them takes longer than all else; and a list, since a
    # SELECT that is still open would keep SQLite from beginning to write.
    newest: dict[str, tuple] = {}
    for network, *row in list(kind.waiting_codes(email).tuples()):
        newest.setdefault(network, row)
    rows = [*newest.values()][:CODES_A_TRY_FROM_ELSEWHERE]
    rows += [(uuid4(), "", False)] * (CODES_A_TRY_FROM_ELSEWHERE - len(rows))
    good = [
        (kind.id == row_id) & (kind.code_hash == code_hash)
        for row_id, code_hash, is_fresh in rows
        if tokens.matches_code(row_id, code, code_hash) and is_fresh
    ]
    return kind.get_or_none(good[0]) if good else None


def _count_try(row: AwaitsCode) -> bool:
    """Take one of the row's tries, in one guarded statement; False when it had none left."""
    kind = type(row)
    left = (kind.id == row.id) & (kind.tries_left > 0)
    had = kind.update(tries_left=kind.tries_left - 1).where(left).execute() == 1
    row.tries_left = max(0, row.tries_left - 1) if had else 0
    return had
