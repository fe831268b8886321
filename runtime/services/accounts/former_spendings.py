"""What an erased account has spent of a day's tokens: its address goes on with what is left.

Otherwise who erases an account and signs up anew would have a day's tokens each time. Only a keyed
hash of the address is kept, and until the day is over. Of what it has stored nothing is kept: that
is erased with it, and makes room.
"""

from collections.abc import Iterable

from peewee import EXCLUDED, Case

from runtime.models.spendings import FormerSpending, Spending
from runtime.models.users import User
from runtime.security.tokens import tokens


def keep(user: User, emails: Iterable[str]) -> None:
    """Keep what an account has spent today for its addresses, in the transaction that erases it.

    Its row is held, so that nothing is spent afterwards, and no run begun.
    """
    spending = Spending.hold(user)
    [today] = Spending.select(Spending.today()).tuples().get()
    if str(spending.day) < str(today) or not spending.tokens:
        return
    is_less = (FormerSpending.day < EXCLUDED.day) | (FormerSpending.tokens < EXCLUDED.tokens)
    # In one order: of two who hold several rows each might wait for the other.
    for owner_hash in sorted(map(_hash, emails)):
        FormerSpending.insert(
            owner_hash=owner_hash, day=spending.day, tokens=spending.tokens
        ).on_conflict(
            conflict_target=[FormerSpending.owner_hash],
            # What the account before had spent is in it: this one began with that.
            update={
                FormerSpending.day: EXCLUDED.day,
                FormerSpending.tokens: Case(
                    None, [(is_less, EXCLUDED.tokens)], FormerSpending.tokens
                ),
            },
        ).execute()


def inherit(user: User) -> None:
    """Begin a new account with what was spent at its address, in the transaction that makes it."""
    its = (FormerSpending.owner_hash == _hash(user.email)) & (
        FormerSpending.day >= Spending.today()
    )
    former = FormerSpending.get_or_none(its)
    if former:
        Spending.create(user=user, day=former.day, tokens=former.tokens)


def _hash(email: str) -> str:
    return tokens.keyed_hash(f"spending:{email}")
