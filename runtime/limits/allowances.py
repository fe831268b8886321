"""What may be spent on something and grows back: the bounds that must hold whatever else is down.

Unlike the limits in `rates` these are kept in the database, for all processes, and no setting
lifts them. The algorithm is GCRA, the one of ATM's traffic contracts: one instant for each key,
moved forward by every unit spent.
"""

from dataclasses import dataclass
from datetime import timedelta

from peewee import Case

from runtime import clock, metrics
from runtime.errors import TooManyRequests
from runtime.models.allowances import Allowance


@dataclass(frozen=True)
class Rate:
    """`burst` units at once, then one every `period`: in a day `burst + 24 h / period`."""

    name: str
    burst: int
    period: timedelta


def spend(rate: Rate, *key: str) -> bool:
    """Spend one unit of `rate` for `key`, in one guarded statement.

    Returns whether it was the first: all that had been spent before has grown back. Raises
    TooManyRequests, with nothing spent, when none is left.
    """
    now = clock.now().timestamp()
    period = rate.period.total_seconds()
    name = _name(rate, *key)
    fresh = Case(None, [(Allowance.spent_until > now, Allowance.spent_until)], now)
    spent = list(
        Allowance.insert(key=name, spent_until=now + period)
        .on_conflict(
            conflict_target=[Allowance.key],
            update={Allowance.spent_until: fresh + period},
            where=(fresh + period <= now + rate.burst * period),
        )
        .returning(Allowance.spent_until)
        .execute()
    )
    if not spent:
        metrics.limits_reached.inc(rate.name)
        raise TooManyRequests(_seconds_until_one_is_left(name, now, rate))
    return spent[0].spent_until == now + period


def give_back(rate: Rate, *key: str) -> None:
    """Give one unit back that was spent on what turned out to need none."""
    less = Allowance.spent_until - rate.period.total_seconds()
    Allowance.update(spent_until=less).where(Allowance.key == _name(rate, *key)).execute()


def hold(name: str) -> None:
    """Let nobody else hold the same name to the end of the caller's transaction."""
    now = clock.now().timestamp()
    held = Allowance.insert(key=name, spent_until=now)
    held.on_conflict(conflict_target=[Allowance.key], update={Allowance.spent_until: now}).execute()


def is_left(rate: Rate, *key: str) -> bool:
    """Whether `rate` has a unit left for `key`; none is spent."""
    spent = Allowance.get_or_none(Allowance.key == _name(rate, *key))
    full = clock.now() + (rate.burst - 1) * rate.period
    return spent is None or spent.spent_until <= full.timestamp()


def _name(rate: Rate, *key: str) -> str:
    return ":".join((rate.name, *key))


def _seconds_until_one_is_left(name: str, now: float, rate: Rate) -> float:
    spent_until = Allowance.get_by_id(name).spent_until
    return max(1, spent_until - now - (rate.burst - 1) * rate.period.total_seconds())
