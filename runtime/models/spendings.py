"""The tokens that accounts used, a row a day."""

from peewee import (
    BigIntegerField,
    CharField,
    DateField,
    ForeignKeyField,
    Function,
    IntegerField,
    fn,
)

from runtime.database.base import Model, db, from_now
from runtime.models.users import User


class Spending(Model):
    """What a user has spent of a day's tokens, or may be about to, and what they have stored.

    `day` is UTC's, by the database's clock; `tokens` and `chars`, those that the user has written,
    count no more on a later one. `chats` is how many the user has at the most; NULL in it means
    that they were not counted yet, in `chars` that there are none.
    """

    id = None
    created_at = None
    user = ForeignKeyField(User, primary_key=True, backref="spendings", on_delete="CASCADE")
    day = DateField()
    tokens = BigIntegerField()
    chars = BigIntegerField(null=True)
    chats = IntegerField(null=True)

    class Meta:
        table_name = "spendings"

    @classmethod
    def today(cls) -> Function:
        """The day it is, as both databases write it."""
        return fn.DATE(from_now())

    @classmethod
    def hold(cls, user: User) -> "Spending":
        """The user's row, which is made if there is none, for the caller's transaction alone.

        Raises IntegrityError when the account is gone.
        """
        cls.insert(user=user.id, day=cls.today(), tokens=0).on_conflict_ignore().execute()
        return cls.select().where(cls.user == user.id).for_update(db.obj.for_update).get()


class FormerSpending(Model):
    """The tokens that erased accounts have spent of a day's budget.

    `owner_hash` is a keyed hash of the address that an account had.
    """

    id = None
    created_at = None
    owner_hash = CharField(max_length=64, primary_key=True)
    day = DateField()
    tokens = BigIntegerField()

    class Meta:
        table_name = "former_spendings"


FormerSpending.add_index(
    FormerSpending.index(FormerSpending.day, FormerSpending.owner_hash, name="former_spendings_day")
)
