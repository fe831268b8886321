"""What an account may store: how many chats it has, and how many characters it writes in a day.

Both are counted in the user's row of `spendings`, by the statement that begins a run, which locks
the row until the run is there: of many at once none passes a bound. What it refuses leaves nothing.

`chats` grows with every new chat and does not shrink when a chat is erased. When it reaches the
bound, the chats themselves are counted, and the number is corrected.
"""

from dataclasses import dataclass

from peewee import SQL, Case, Expression, Update, fn

from runtime import clock, metrics
from runtime.database.base import db
from runtime.errors import DayFull, Fault, TooManyChats
from runtime.models.chats import Chat, Run
from runtime.models.spendings import Spending
from runtime.models.users import User
from runtime.services.chats import budgets

# Also a short message takes rows: it counts as if it had so many characters.
LEAST_CHARS = 500
# More than anybody can have.
NO_BOUND = 2**62


@dataclass(frozen=True)
class Storage:
    """The bounds of every account."""

    max_chats: int = NO_BOUND
    daily_chars: int = NO_BOUND

    @classmethod
    def of(cls, config: dict) -> "Storage":
        """As the settings say; none for a load test."""
        if not config["RATE_LIMITS"]:
            return cls()
        return cls(config["AGENT_MAX_CHATS"], config["AGENT_DAILY_CHARS"])


def chars_of(run: Run) -> int:
    """What a run counts for."""
    return max(LEAST_CHARS, len(run.message) + len(run.input or ""))


def values_of(user: User, run: Run, bounds: Storage) -> tuple:
    """What `taking` is executed with, in the order of its places."""
    chars, chat_id, user_id = chars_of(run), run.chat_id.hex, user.id.hex
    most = (bounds.max_chats, chars, bounds.daily_chars)
    return (chars, chat_id, user_id, chat_id, *most, chat_id, user_id)


def taking(
    chars, chat_id, user_id, its_id, max_chats, its_chars, daily_chars, its, not_its
) -> Update:
    """The statement that takes room for a run: a row when there is some.

    None, and nothing is taken, when the account is gone or disabled (a request that was let in
    before begins no run afterwards), when the chat is somebody else's, and when no chats of the
    user have been counted yet: see `make_room`.
    """
    is_over = Spending.day < Spending.today()
    written = Case(None, [(is_over, SQL("0"))], fn.COALESCE(Spending.chars, SQL("0")))
    others = Chat.select(Chat.id).where(Chat.id == its, Chat.user != not_its)
    return (
        Spending.update(
            {
                Spending.day: Case(None, [(is_over, Spending.today())], Spending.day),
                Spending.tokens: Case(None, [(is_over, SQL("0"))], Spending.tokens),
                Spending.chars: written + chars,
                Spending.chats: Spending.chats + _new_chats(chat_id),
            }
        )
        .where(
            Spending.user == User.select(User.id).where(User.is_open(user_id)),
            Spending.chats + _new_chats(its_id) <= max_chats,
            written + its_chars <= daily_chars,
            ~fn.EXISTS(others),
        )
        .returning(Spending.user)
    )


def _new_chats(chat_id) -> Expression:
    """1, or 0 if the chat is there already."""
    return SQL("1") - Chat.select(fn.COUNT(SQL("*"))).where(Chat.id == chat_id)


def make_room(user: User, run: Run, bounds: Storage) -> None:
    """Return if there is room for the run once the user's chats have been counted.

    Raises DayFull, TooManyChats; peewee.IntegrityError when the account is gone.
    """
    with db.atomic():
        # A run that begins meanwhile holds this row: the count below includes its chat.
        spending = Spending.hold(user)
        chats = Chat.select().where(Chat.user == user.id).count()
        Spending.update(chats=chats).where(Spending.user == user.id).execute()
        is_new = not Chat.select().where(Chat.id == run.chat_id).exists()
        [today] = Spending.select(Spending.today()).tuples().get()
    if chats + is_new > bounds.max_chats:
        metrics.limits_reached.labels("chats").inc()
        raise TooManyChats(Fault("#", f"at_most_chats {bounds.max_chats}"))
    is_today = str(spending.day) >= str(today)
    if (spending.chars or 0) * is_today + chars_of(run) > bounds.daily_chars:
        metrics.limits_reached.labels("chars-per-day").inc()
        raise DayFull((budgets.tomorrow() - clock.now()).total_seconds())


def give_back(user: User, run: Run) -> None:
    """The characters of a run that is withdrawn, in the transaction that does so."""
    chars = chars_of(run)
    left = Case(None, [(Spending.chars > chars, Spending.chars - chars)], 0)
    Spending.update(chars=left).where(Spending.user == user.id).execute()
