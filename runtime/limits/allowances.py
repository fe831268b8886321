"""Token buckets in the database: the bounds that must hold when everything else is down.

All processes share them, and no setting lifts them. The algorithm is GCRA (ITU-T I.371): one
instant for each key, moved forward by every unit spent. It is judged by the process's clock.
"""

from dataclasses import dataclass
from datetime import timedelta

from peewee import Case

from runtime import clock, metrics
from runtime.errors import TooManyRequests
from runtime.models.allowances import Allowance


@dataclass(frozen=True)
class Bucket:
    """`burst` units at once, then one every `period`: in a day `burst + 24 h / period`."""

    name: str
    burst: int
    period: timedelta


def is_left(bucket: Bucket, *key: str) -> bool:
    """Whether a unit is left; spends none, and is no refusal in the metrics."""
    spent = Allowance.get_or_none(Allowance.key == _key(bucket, *key))
    return spent is None or _seconds_to_wait(bucket, spent.spent_until) <= 0


def spend(bucket: Bucket, *key: str) -> bool:
    """Spend one unit, in one guarded statement; returns whether all units were there before.

    Raises TooManyRequests, with nothing spent, when none is left.
    """
    now = clock.now().timestamp()
    period = bucket.period.total_seconds()
    fresh = Case(None, [(Allowance.spent_until > now, Allowance.spent_until)], now)
    spent = list(
        Allowance.insert(key=_key(bucket, *key), spent_until=now + period)
        .on_conflict(
            conflict_target=[Allowance.key],
            update={Allowance.spent_until: fresh + period},
            where=(fresh + period <= now + bucket.burst * period),
        )
        .returning(Allowance.spent_until)
        .execute()
    )
    if not spent:
        metrics.limits_reached.labels(bucket.name).inc()
        spent_until = Allowance.get_by_id(_key(bucket, *key)).spent_until
        raise TooManyRequests(max(1, _seconds_to_wait(bucket, spent_until)))
    return spent[0].spent_until == now + period


def give_back(bucket: Bucket, *key: str) -> None:
    """Give one unit back that was spent on what turned out to need none."""
    less = Allowance.spent_until - bucket.period.total_seconds()
    Allowance.update(spent_until=less).where(Allowance.key == _key(bucket, *key)).execute()


def _key(bucket: Bucket, *key: str) -> str:
    return ":".join((bucket.name, *key))


def _seconds_to_wait(bucket: Bucket, spent_until: float) -> float:
    """How long until one unit is left; not positive when there is one."""
    others_seconds = (bucket.burst - 1) * bucket.period.total_seconds()
    return spent_until - clock.now().timestamp() - others_seconds
