"""The rows behind `runtime.limits.allowances`."""

from peewee import CharField, DoubleField

from runtime import clock
from runtime.database.base import Model


class Allowance(Model):
    """What is spent of a bucket, as one instant (GCRA).

    `spent_until` is when all that was spent will have grown back, in seconds since 1970.
    """

    id = None
    created_at = None
    key = CharField(primary_key=True)
    spent_until = DoubleField()

    class Meta:
        table_name = "allowances"

    @classmethod
    def hold(cls, key: str) -> None:
        """Let no other transaction hold the same key until the caller's ends."""
        now = clock.now().timestamp()
        held = cls.insert(key=key, spent_until=now)
        held.on_conflict(conflict_target=[cls.key], update={cls.spent_until: now}).execute()


Allowance.add_index(
    Allowance.index(Allowance.spent_until, Allowance.key, name="allowances_spent_until")
)
