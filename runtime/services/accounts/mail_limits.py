"""How many mails may be asked for at one address, and how many codes.

A mail may go to a person who asked for nothing, and each code can be guessed. So all mails
that are asked for at an address are counted, of all kinds, whether or not it has an account. Each
network that asks has a share that no other uses up.

Strangers may ask for STRANGERS_MAILS in 24 hours, each network for MAILS_A_NETWORK:

- RESERVED of them are kept for each network that has asked. So a flood leaves these to a network
  that came before it.
- A network gets more than that only as long as FOR_NEWCOMERS are left.
- NEWCOMERS networks may ask for the first time within 10 minutes. So an owner who comes after a
  flood waits for minutes, unless the flood goes on until the day's share is used up.

Openings, with which something new begins to wait for a code, are bounded over two days: what waits
can be tried for one (see `runtime.services.accounts.codes`). No setting lifts this bound.

The networks that the address' account has signed in from have a share apart.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import current_app

from runtime import clock, metrics
from runtime.errors import TooManyRequests
from runtime.models.allowances import Allowance
from runtime.models.codes import WAITING_LIFE, Mailing
from runtime.security.tokens import tokens
from runtime.services.accounts import sessions

DAY = timedelta(hours=24)
# What was opened in it can be tried in one and the same 24 hours.
OPENINGS_SPAN = DAY + WAITING_LIFE
BURST_SPAN = timedelta(minutes=10)

STRANGERS_MAILS = 20
RESERVED = 2
FOR_NEWCOMERS = 4
MAILS_A_NETWORK = 8
NEWCOMERS = 8

STRANGERS_OPENINGS = 11
OPENINGS_FOR_NEWCOMERS = 3
OPENINGS_A_NETWORK = 4

OWN_MAILS = 8
OWN_OPENINGS = 3


@dataclass(frozen=True)
class Asked:
    """One more mail, and the share that its asker may have."""

    network: str
    is_opening: bool
    is_own: bool


def check(email: str, network: str, *, is_opening: bool) -> None:
    """Count nothing. Raises TooManyRequests when no such mail may be asked for now."""
    _find_share(_earlier(email), _asked(email, network, is_opening, True), clock.now())


def spend(email: str, network: str, *, is_opening: bool, may_own: bool = True) -> bool:
    """Count one, in the caller's transaction, which holds the address.

    Without `may_own` the asker is taken for a stranger. Returns whether the code of what is opened
    may be tried: always, unless RATE_LIMITS is off. Raises TooManyRequests, and then counts
    nothing.
    """
    now = clock.now()
    asked = _asked(email, network, is_opening, may_own)
    is_own = _find_share(_earlier(email), asked, now)
    if is_own is None:
        return False
    Mailing.create(
        address_hash=tokens.keyed_hash(email),
        network_hash=asked.network,
        is_opening=is_opening,
        is_own=is_own,
        created_at=now,
    )
    return True


def hold_address(email: str) -> None:
    """Hold an address: others wait to open or count anything for it until the transaction ends."""
    Allowance.hold(f"mailings:{tokens.keyed_hash(email)}")


def _asked(email: str, network: str, is_opening: bool, may_own: bool) -> Asked:
    is_own = may_own and sessions.has_signed_in_from(email, network)
    return Asked(tokens.keyed_hash(network), is_opening, is_own)


def _earlier(email: str) -> list[Mailing]:
    its = Mailing.address_hash == tokens.keyed_hash(email)
    since = Mailing.created_at > clock.now() - OPENINGS_SPAN
    return list(Mailing.select().where(its, since).order_by(Mailing.created_at))


def _find_share(mails: Sequence[Mailing], asked: Asked, now: datetime) -> bool | None:
    """Whether the mail is of the owner's share; None when neither has room and no limit holds.

    Raises TooManyRequests when neither has room.
    """
    for is_own in (True, False) if asked.is_own else (False,):
        if _has_room(mails, asked, is_own, now):
            return is_own
    if not current_app.config["RATE_LIMITS"]:
        return None
    metrics.limits_reached.labels("mailings").inc()
    raise TooManyRequests(_seconds_until_room(mails, asked, now))


def _seconds_until_room(mails: Sequence[Mailing], asked: Asked, now: datetime) -> float:
    spans = (BURST_SPAN, DAY, OPENINGS_SPAN)
    changes = sorted({mail.created_at + span for mail in mails for span in spans})
    room = (at for at in changes if at > now and _has_room(mails, asked, False, at))
    return (next(room) - now).total_seconds()


def _has_room(mails: Sequence[Mailing], asked: Asked, is_own: bool, at: datetime) -> bool:
    """Whether one of the two shares has room for the mail at an instant."""
    share = [mail for mail in mails if mail.is_own == is_own]
    recent = [mail for mail in share if mail.created_at > at - DAY]
    opened = [mail for mail in share if mail.is_opening and mail.created_at > at - OPENINGS_SPAN]
    if asked.is_opening and not _may_open(opened, asked, is_own):
        return False
    if not current_app.config["RATE_LIMITS"]:
        return True
    if is_own:
        return len(recent) < OWN_MAILS
    return _may_mail(recent, asked, at)


def _may_open(opened: Sequence[Mailing], asked: Asked, is_own: bool) -> bool:
    if is_own:
        return len(opened) < OWN_OPENINGS
    before = sum(mail.network_hash == asked.network for mail in opened)
    kept = OPENINGS_FOR_NEWCOMERS if before else 0
    return before < OPENINGS_A_NETWORK and len(opened) < STRANGERS_OPENINGS - kept


def _may_mail(recent: Sequence[Mailing], asked: Asked, at: datetime) -> bool:
    mails = Counter(mail.network_hash for mail in recent)
    mails[asked.network] += 1
    taken = sum(max(number, RESERVED) for number in mails.values())
    if mails[asked.network] == 1 and _newcomers(recent, at) >= NEWCOMERS:
        return False
    kept = FOR_NEWCOMERS if mails[asked.network] > RESERVED else 0
    return mails[asked.network] <= MAILS_A_NETWORK and taken <= STRANGERS_MAILS - kept


def _newcomers(recent: Sequence[Mailing], at: datetime) -> int:
    """How many networks asked for their first mail of the day just before."""
    first = {mail.network_hash: mail.created_at for mail in reversed(recent)}
    return sum(asked_at > at - BURST_SPAN for asked_at in first.values())
