"""Logins: their columns, when one is over, and the statements that find and rotate one."""

from datetime import datetime, timedelta
from uuid import UUID

from peewee import JOIN, SQL, BooleanField, CharField, ForeignKeyField, IntegerField, fn

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
    read_at: datetime | None = None
    asked_for: User | None = None
    is_current = False

    class Meta:
        table_name = "sessions"

    def __repr__(self):
        # One that was found live has no instants.
        return f"<Session {self.user_id} {'over' if self.created_at and self.is_over else 'live'}>"

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
        session.read_at = session.created_at
        return session

    @classmethod
    def find_with_user(cls, session_id: UUID) -> "Session | None":
        rows = _SESSION_WITH_USER.rows(session_id.hex)
        if not rows:
            return None
        *values, read_at = rows[0]
        columns = len(cls._meta.sorted_fields)
        session = make_row(cls, values[:columns])
        session.user = make_row(User, values[columns:])
        session.read_at = cls.refreshed_at.python_value(read_at)
        return session

    @classmethod
    def find_live_with_user(cls, session_id: UUID) -> "Session | None":
        """The session with its user, if it is not over: every request asks for this.

        Of itself it has the id, the user, `generation` and `is_proven`, and no other column.
        """
        session, user = _live_session(_LIVE_SESSION.rows(session_id.hex))
        if session:
            session.user = user
        return session

    @classmethod
    def find_live_asking_for(cls, session_id: UUID, username: str) -> "Session | None":
        """Likewise, but with the user who has that name, in `asked_for`: two in one trip."""
        rows = _LIVE_SESSION_ASKING_FOR.rows(username.lower(), session_id.hex)
        session, user = _live_session(rows)
        if session and user.id:
            session.asked_for = user
        return session

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
    def _beyond(cls, user: User, most: int, which, change) -> list[UUID]:
        kept_first = (cls.ended_at.is_null().desc(), cls.refreshed_at.desc(), cls.created_at.desc())
        ranked = cls.select(cls.id).where(cls.user == user, which).order_by(*kept_first)
        beyond = [session_id for (session_id,) in ranked.offset(most).tuples()]
        if beyond:
            change(among(cls.id, beyond)).execute()
        return beyond

    @classmethod
    def end_live(cls, user: User, but: UUID | None = None) -> int:
        """End the user's sessions, all but one if so asked; returns how many nobody had ended.

        Those too that have run out: a clock that is set back wakes them.
        """
        live = (cls.user == user) & cls.ended_at.is_null()
        if but:
            live &= cls.id != but
        return cls.update(ended_at=clock.now()).where(live).execute()

    @classmethod
    def forget(cls, user: User) -> int:
        """Delete the user's sessions; returns how many nobody had ended.

        Unlike one that has ended, which its owner may have done, they make no device or network
        known any more: some may have been a thief's.
        """
        ended = cls.end_live(user)
        cls.delete().where(cls.user == user).execute()
        return ended

    @classmethod
    def hold_live(cls, session_id: UUID) -> bool:
        """Whether the session is live, and nobody ends it before the caller's transaction does."""
        live = cls.select(cls.id).where(cls.id == session_id, cls.is_live())
        return bool(list(live.for_update(db.obj.for_update).tuples()))

    @classmethod
    def rotate(cls, session_id: UUID, generation: int, caller: Caller) -> "Session | None":
        """Move a live session, used last from this place, from this generation to the next.

        None when there is none. One guarded statement, so that of many at once one finds it. What
        is read is what its tokens are made of, and its user's address and language.
        """
        return cls._rotated(
            _ROTATED_SESSION.rows(session_id.hex, generation, caller.network, caller.device or "")
        )

    @classmethod
    def rotate_elsewhere(
        cls, session_id: UUID, generation: int, caller: Caller
    ) -> "Session | None":
        """The same, from wherever it was used last: from now on that is this place."""
        return cls._rotated(_MOVED_SESSION.rows(*caller.origin, session_id.hex, generation))

    @classmethod
    def _rotated(cls, rows: list[tuple]) -> "Session | None":
        if not rows:
            return None
        *values, email, language = rows[0]
        session = make_row(cls, values, _ROTATED_COLUMNS)
        its_user = (session.user_id, email, language)
        session.user = make_row(User, its_user, (User.id, User.email, User.language))
        return session

    def use_elsewhere(self, caller: Caller) -> bool:
        """Note that it was used from this place; False when others noted another one meanwhile."""
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
    def now(self) -> datetime:
        """When the row was read, by the database's clock if it was asked.

        All machines share that one; their own may differ by more than the seconds that tell a tab
        that raced from a thief.
        """
        return self.read_at or clock.now()

    @property
    def is_over(self) -> bool:
        return (
            self.ended_at is not None
            or self.now >= self.refreshed_at + SESSION_IDLE
            or self.now >= self.created_at + SESSION_LIFE
        )

    @property
    def was_just_refreshed(self) -> bool:
        """Whether the last rotation was so recent that its old token may be a tab's that raced."""
        return self.now - self.refreshed_at <= ROTATION_GRACE

    def may_repeat(self, generation: int) -> bool:
        """Whether a token of `generation` may have the last successor again.

        It must be the one that was rotated away last, and either that was a moment ago or
        nothing shows that the successor ever arrived.
        """
        may = self.was_just_refreshed or not self.is_proven
        return may and generation == self.generation - 1


_LIVE_COLUMNS = (Session.id, Session.user, Session.generation, Session.is_proven)
_ROTATED_COLUMNS = (Session.id, Session.user, Session.generation, Session.refreshed_at)


def _live_session(rows: list[tuple]) -> tuple[Session | None, User | None]:
    """What the first row has of a session and of a user, who has no id if there is none."""
    if not rows:
        return None, None
    own = len(_LIVE_COLUMNS)
    return make_row(Session, rows[0][:own], _LIVE_COLUMNS), make_row(User, rows[0][own:])


_SESSION_WITH_USER = Prepared(
    lambda session_id: (
        Session.select(Session, User, from_now()).join(User).where(Session.id == session_id)
    )
)
_LIVE_SESSION = Prepared(
    lambda session_id: (
        Session.select(*_LIVE_COLUMNS, User)
        .join(User)
        .where(Session.id == session_id, Session.is_live())
    )
)
_LIVE_SESSION_ASKING_FOR = Prepared(
    lambda username, session_id: (
        Session.select(*_LIVE_COLUMNS, User)
        .join(User, JOIN.LEFT_OUTER, on=(fn.LOWER(User.username) == username))
        .where(Session.id == session_id, Session.is_live())
    ),
    values=2,
)


def _rotation(session_id, generation, *guards, **place):
    changes = {
        Session.generation: Session.generation + SQL("1"),
        Session.is_proven: SQL("FALSE"),
        Session.refreshed_at: from_now(),
    }
    changes |= {getattr(Session, name): value for name, value in place.items()}
    live = (Session.id == session_id, Session.generation == generation, Session.is_live())
    email, language = (
        User.select(column).where(User.id == Session.user) for column in (User.email, User.language)
    )
    rotated = Session.update(changes).where(*live, *guards)
    return rotated.returning(*_ROTATED_COLUMNS, email, language)


# A change of place is recorded in the same transaction, which would make every refresh slower: so
# this finds the session only where it was used last.
_ROTATED_SESSION = Prepared(
    lambda session_id, generation, network, device: _rotation(
        session_id,
        generation,
        Session.last_network == network,
        fn.COALESCE(Session.last_device, SQL("''")) == device,
    ),
    values=4,
)
_MOVED_SESSION = Prepared(
    lambda network, device, session_id, generation: _rotation(
        session_id, generation, last_network=network, last_device=device
    ),
    values=4,
)
Session.add_index(Session.index(Session.created_at, Session.id, name="sessions_created_at"))
