"""The rows behind `runtime.limits.allowances`."""

from peewee import CharField, DoubleField

from runtime.database.base import Model


class Allowance(Model):
    """What may be spent on something and grows back, as one instant (GCRA).

    `spent_until` is when all that was spent will have grown back, in seconds since 1970.
    """

    id = None
    created_at = None
    key = CharField(primary_key=True)
    spent_until = DoubleField()

    class Meta:
        table_name = "allowances"


Allowance.add_index(
    Allowance.index(Allowance.spent_until, Allowance.key, name="allowances_spent_until")
)
