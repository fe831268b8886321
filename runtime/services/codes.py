"""Mailed codes, whatever they are for: make one, count the tries at it, find what it completes.

How often a code may be guessed is bounded by allowances, kept for each purpose and address, whether
or not the address is known. Whoever opened something that waits for a code tries it from pools of
their network's own, and an opener's first try from another than its further ones: strangers on
fewer than 40 networks may open as many as they like and guess as often as they like, the owner of
the address still has a try, and the right code takes no more. (Further ones, after a typo, two such
networks can use up, for up to 80 minutes a try.) Everybody else shares a small pool. In any 24
hours that makes at most `40 + 8` first and `14 + 18` further comparisons with one code each, and
`5 + 4` of others with two codes each: 98 chances in a million, below 1 in 10,000, from however
many hosts.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

from flask import current_app
from peewee import fn

from .. import logs, redirects
from ..allowances import Rate, spend
from ..db import db, from_now
from ..errors import Fault, InvalidCode, InvalidParameters
from ..models import CODE_LIFE, Coded, EmailChange, Recovery, User
from ..ratelimit import CODES_PER_NETWORK, limiter
from ..tokens import make_code, tokens
from . import events
from .events import Kind

# A single opener spends its pool slower than the openers' common one grows back.
OPENER_TRIES = Rate("opener-tries", 10, timedelta(minutes=90))
OPENERS_FIRST_TRIES = Rate("openers-first-tries", 40, timedelta(hours=3))
OPENERS_FURTHER_TRIES = Rate("openers-further-tries", 14, timedelta(minutes=80))
OTHERS_TRIES = Rate("others-tries", 5, timedelta(hours=5))
# A try from elsewhere is compared with so many codes, the newest.
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


def renew(row: Coded) -> str:
    """Give a row, which is not saved, a new code; only its keyed hash stays."""
    code = make_code()
    row.code_hash = tokens.hash_code(row.id, code)
    row.code_expires_at = from_now(seconds=CODE_LIFE.total_seconds())
    return code


def find(kind: type[Coded], email: str, code: str, network: str) -> Coded | None:
    """The row of this kind that waits for this code, of those a try from this network is good for.

    Every comparison is counted before it is made; one from elsewhere counts once for all, so that
    it is the same when nothing waits. Raises TooManyRequests.
    """
    limiter.hit(CODES_PER_NETWORK, network)
    opened = list(kind.opened(email, network))
    if opened:
        return find_opened(opened, email, code, network)
    spend(OTHERS_TRIES, _pool(kind, email))
    return _find_among_newest(kind, email, code)


def find_opened(opened: Iterable[Coded], email: str, code: str, opener: str) -> Coded | None:
    """The one that waits for this code, of rows for this address that whoever tries has opened.

    Every comparison is counted, for `opener`, a network, before it is made. Raises
    TooManyRequests.
    """
    tried = (row for row in opened if _count_try(row, email, opener))
    return next((row for row in tried if _is_good(row, code)), None)


def refuse(email: str, network: str, device: str | None) -> NoReturn:
    """Raises InvalidCode, and the owner of the address reads of it."""
    logs.event("code_refused", network=network)
    events.refuse(Kind.CODE_REFUSED, email, network=network, device=device)
    raise InvalidCode


def use_up(row: Coded) -> None:
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


def link(row: Coded, code: str) -> str | None:
    """`redirect_to` with `email` and `token` added to its query, if there is any."""
    return row.redirect_to and add_to_query(row.redirect_to, email=row.email, token=code)


def add_to_query(url: str, **parameters: str) -> str:
    """The URL with these parameters behind those it has."""
    parts = urlsplit(url)
    ours = urlencode(parameters)
    # What is there already stays as it is: decoded and encoded again it might mean another thing.
    query = f"{parts.query}&{ours}" if parts.query else ours
    return urlunsplit(parts._replace(query=query))


def in_app(function: Callable, *arguments) -> Callable:
    """The call, to be made later on another thread, in this application."""
    app = current_app._get_current_object()

    def call():
        with app.app_context():
            return function(*arguments)

    return call


def _find_among_newest(kind: type[Coded], email: str, code: str) -> Coded | None:
    """The row that waits for this code, of the newest; as much work when there is none."""
    # Plain values, since making rows of them takes longer than all else; and a list, since a
    # SELECT that is still open would keep SQLite from beginning to write.
    newest = list(kind.waiting_codes(email).limit(CODES_A_TRY_FROM_ELSEWHERE).tuples())
    newest += [(uuid4(), "", False)] * (CODES_A_TRY_FROM_ELSEWHERE - len(newest))
    good = [
        (kind.id == row_id) & (kind.code_hash == code_hash)
        for row_id, code_hash, is_fresh in newest
        if tokens.matches_code(row_id, code, code_hash) and is_fresh
    ]
    return kind.get_or_none(good[0]) if good else None


def _is_good(row: Coded, code: str) -> bool:
    return tokens.matches_code(row.id, code, row.code_hash) and row.has_fresh_code


def _count_try(row: Coded, email: str, opener: str) -> bool:
    """Take one of the row's tries and of its opener's; False when it had none left."""
    kind = type(row)
    left = (kind.id == row.id) & (kind.tries_left > 0)
    pool = _pool(kind, email)
    with db.atomic():
        if not kind.update(tries_left=kind.tries_left - 1).where(left).execute():
            return False
        is_first = spend(OPENER_TRIES, pool, opener)
        spend(OPENERS_FIRST_TRIES if is_first else OPENERS_FURTHER_TRIES, pool)
    return True


def _pool(kind: type[Coded], email: str) -> str:
    """What tries at codes of this kind for an address are counted under; it names nobody."""
    return tokens.hash_address(kind.purpose + email)
