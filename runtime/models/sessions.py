"""Logins: their columns, the rules about one of them, and the named ways to find and end some."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from peewee import JOIN, SQL, BooleanField, CharField, ForeignKeyField, IntegerField, Select, fn

from runtime import clock
from runtime.caller import Caller
from runtime.database.base import Model, db, from_now
from runtime.database.conditions import among
from runtime.database.instants import InstantField
from runtime.database.prepared import Prepared, make_row
from runtime.models.users import User

# A session ends after so long without a refresh, and after so long in any case.
SESSION_IDLE = timedelta(days=30)
SESSION_LIFE = timedelta(days=365)
# Within so long of a rotation, the token rotated away is a tab that raced, not a thief.
ROTATION_GRACE = timedelta(seconds=10)


class Session(Model):
    """A login, however often it is refreshed.

    Tokens carry the session's id and the `generation` they were made in, so that the last
    successor can be made again without being kept. `is_proven` says whether a token of this
    generation was used, which shows that the answer it came in arrived; the first needs no proof.
    `network` and `device` are those of the sign-in, `last_network` and `last_device` those of the
    newest refresh; `last_network` is NULL in what an earlier release began, until it is refreshed.
    """

    user = ForeignKeyField(User, backref="sessions", on_delete="CASCADE")
    network = CharField(max_length=64)
    device = CharField(max_length=64, null=True)
    last_network = CharField(max_length=64, null=True)
    last_device = CharField(max_length=64, null=True)
    generation = IntegerField(default=1)
    is_proven = BooleanField(default=True)
    refreshed_at = InstantField(default=clock.now)
    ended_at = InstantField(null=True)

    class Meta:
        table_name = "sessions"

    def __repr__(self):
        return f"<Session {self.user_id} {'over' if self.is_over else 'live'}>"

    @classmethod
    def begin(cls, user: User, caller: Caller) -> "Session":
        """A new session, by the database's clock as everything about one.

        On a machine whose own is an hour late its tokens would be too old for all others.
        """
        now = from_now()
        begun = cls.insert(
            user=user,
            network=caller.network,
            device=caller.device,
            last_network=caller.network,
            last_device=caller.device,
            created_at=now,
            refreshed_at=now,
        )
        [session] = begun.returning(cls).execute()
        session.user = user
        return session

    @classmethod
    def find_live(cls, session_id: UUID) -> "Session | None":
        """The session with its user, if it is not over: every request asks for this."""
        rows = _LIVE.rows(session_id.hex)
        if not rows:
            return None
        session, session.user = _session_and_user(rows[0])
        return session

    @classmethod
    def find_live_and_user(
        cls, session_id: UUID, username: str
    ) -> "tuple[Session | None, User | None]":
        """The session if it is not over, and the account with that name: two in one trip."""
        rows = _LIVE_AND_USER.rows(username.lower(), session_id.hex)
        return _session_and_user(rows[0]) if rows else (None, None)

    @classmethod
    def is_live(cls):
        """The condition that a session is not over, by the database's clock."""
        return (
            cls.ended_at.is_null()
            & (cls.refreshed_at > from_now(days=-SESSION_IDLE.days))
            & (cls.created_at > from_now(days=-SESSION_LIFE.days))
        )

    @classmethod
    def count_live(cls, user: User) -> int:
        return cls.select().where(cls.user == user, cls.is_live()).count()

    @classmethod
    def end_beyond(cls, user: User, most: int) -> list[UUID]:
        """End the live sessions of a user beyond so many, those that were unused for longest.

        Returns their ids. The caller holds the user's row, or two at once would leave too many.
        """
        return cls._beyond(
            user, most, cls.is_live(), lambda them: cls.update(ended_at=clock.now()).where(them)
        )

    @classmethod
    def forget_beyond(cls, user: User, most: int) -> list[UUID]:
        """Delete the sessions of a user beyond so many: those that ended, or were unused, first."""
        return cls._beyond(user, most, SQL("TRUE"), lambda them: cls.delete().where(them))

    @classmethod
    def _beyond(cls, user: User, most: int, which, change: Callable) -> list[UUID]:
        kept_first = (cls.ended_at.is_null().desc(), cls.refreshed_at.desc(), cls.created_at.desc())
        ranked = cls.select(cls.id).where(cls.user == user, which).order_by(*kept_first)
        beyond = [session_id for (session_id,) in ranked.offset(most).tuples()]
        if beyond:
            change(among(cls.id, beyond)).execute()
        return beyond

    @classmethod
    def end_live(cls, user: User | UUID, but: UUID | None = None) -> int:
        """End the user's sessions, all but one if so asked; returns how many had not been ended.

        Those too that have run out: a clock that is set back wakes them.
        """
        live = (cls.user == user) & cls.ended_at.is_null()
        if but:
            live &= cls.id != but
        return cls.update(ended_at=clock.now()).where(live).execute()

    @classmethod
    def forget(cls, user: User) -> int:
        """Delete the user's sessions; returns how many had not been ended.

        A session that ended still makes its device and network known; a deleted session does not.
        Some of these may have been a thief's.
        """
        ended = cls.end_live(user)
        cls.delete().where(cls.user == user).execute()
        return ended

    @classmethod
    def hold_live(cls, session_id: UUID) -> bool:
        """Hold the session to the end of the caller's transaction; False when it is over."""
        live = cls.select(cls.id).where(cls.id == session_id, cls.is_live())
        return bool(list(live.for_update(db.obj.for_update).tuples()))

    def note_last_caller(self, caller: Caller) -> bool:
        """Note that it was used from elsewhere; False when others noted another place meanwhile."""
        cls = type(self)
        same = (
            (cls.id == self.id)
            & (cls.generation == self.generation)
            & (fn.COALESCE(cls.last_network, "") == (self.last_network or ""))
            & (fn.COALESCE(cls.last_device, "") == (self.last_device or ""))
        )
        place = {cls.last_network: caller.network, cls.last_device: caller.device}
        return cls.update(place).where(same).execute() == 1

    @property
    def last_caller(self) -> Caller:
        """Who began or refreshed it last."""
        if self.last_network is None:
            return Caller(self.network, self.device, at=self.refreshed_at)
        return Caller(self.last_network, self.last_device, at=self.refreshed_at)

    @property
    def is_over(self) -> bool:
        """As `is_live`, by this machine's clock, for those who only look."""
        now = clock.now()
        has_run_out = now >= min(self.refreshed_at + SESSION_IDLE, self.created_at + SESSION_LIFE)
        return self.ended_at is not None or has_run_out

    def was_just_refreshed(self, now: datetime) -> bool:
        """Whether the last rotation was so recent that its old token may be a tab's that raced.

        `now` is `database_now()`: the clocks of two machines may differ by more than the grace.
        """
        return now - self.refreshed_at <= ROTATION_GRACE

    def may_repeat(self, generation: int, now: datetime) -> bool:
        """Whether a token of `generation` may have the last successor again.

        It must be the last that was rotated away. And that was a moment ago, or nothing shows that
        the successor ever arrived.
        """
        may = self.was_just_refreshed(now) or not self.is_proven
        return may and generation == self.generation - 1


def database_now() -> datetime:
    """The instant by the database's clock, which all machines share."""
    [(now,)] = Select(columns=[from_now()]).bind(db.obj).tuples()
    return InstantField().python_value(now)


def _session_and_user(values: tuple) -> tuple[Session, User | None]:
    """The two rows that a statement found side by side; None if there is no such user."""
    columns = len(Session._meta.sorted_fields)
    user = make_row(User, values[columns:])
    return make_row(Session, values[:columns]), user if user.id else None


_LIVE = Prepared(
    lambda session_id: (
        Session.select(Session, User).join(User).where(Session.id == session_id, Session.is_live())
    )
)
_LIVE_AND_USER = Prepared(
    lambda username, session_id: (
        Session.select(Session, User)
        .join(User, JOIN.LEFT_OUTER, on=(fn.LOWER(User.username) == username))
        .where(Session.id == session_id, Session.is_live())
    ),
    values=2,
)
Session.add_index(Session.index(Session.created_at, Session.id, name="sessions_created_at"))
