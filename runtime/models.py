"""The tables: their columns, the rules about one row, the named ways to find rows.

Addresses and usernames are ASCII, so that `lower()` means the same in both databases.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from peewee import (
    JOIN,
    SQL,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    DateField,
    DoubleField,
    ForeignKeyField,
    Function,
    IntegerField,
    SqliteDatabase,
    TextField,
    UUIDField,
    chunked,
    fn,
)

from runtime import clock
from runtime.database.base import (
    InstantField,
    Model,
    Prepared,
    among,
    db,
    fixed_from_now,
    from_now,
    make_row,
)
from runtime.security.tokens import tokens

# A session ends after so long without a refresh, and after so long in any case.
SESSION_IDLE = timedelta(days=30)
SESSION_LIFE = timedelta(days=365)
# Within so long of a rotation, the token rotated away is a tab that raced, not a thief.
ROTATION_GRACE = timedelta(seconds=10)

CODE_LIFE = timedelta(minutes=10)
# How long something waits for its code; what mails a fresh one within that gives no new tries.
WAITING_LIFE = timedelta(hours=24)
TRIES_A_CODE = 5
# What is kept of the password of an account that has none: a hash of no password.
NO_PASSWORD = ""
# A change of address can be taken back for a week from when it was made.
WAY_BACK_LIFE = timedelta(days=7) + CODE_LIFE

# What one statement erases: runs with their journals, chats that have no more.
STEP_RUNS = 100
STEP_CHATS = 100
STEP_ROWS = 1000


class User(Model):
    """An account. There is one only once its address was proven."""

    username = CharField(max_length=30)
    email = CharField(max_length=254)
    password_hash = CharField()
    avatar_url = CharField(max_length=2048, null=True)
    bio = CharField(max_length=200, null=True)
    is_admin = BooleanField(default=False)
    email_confirmed_at = InstantField(null=True)
    signed_in_at = InstantField(null=True)
    disabled_at = InstantField(null=True)
    language = CharField(max_length=8, null=True)

    class Meta:
        table_name = "users"

    def __repr__(self):
        return f"<User {self.username} {self.email}>"

    @property
    def has_password(self) -> bool:
        """Whether there is a password to sign in with; without one, a recovery sets it."""
        return self.password_hash != NO_PASSWORD

    @property
    def is_disabled(self) -> bool:
        """Whether an operator shut it: no session of it is live, and none can be started."""
        return self.disabled_at is not None

    @classmethod
    def is_open(cls, user_id: UUID):
        """The condition that there is this account, and nobody disabled it."""
        return (cls.id == user_id) & cls.disabled_at.is_null()

    @classmethod
    def find_by_email(cls, email: str) -> "User | None":
        # Whether there is one must cost next to nothing, beside what asking costs.
        rows = _USER_BY_EMAIL.rows(email.lower())
        return make_row(cls, rows[0]) if rows else None

    @classmethod
    def find_by_username(cls, username: str) -> "User | None":
        rows = _USER_BY_USERNAME.rows(username.lower())
        return make_row(cls, rows[0]) if rows else None


_USER_BY_EMAIL = Prepared(lambda email: User.select().where(fn.LOWER(User.email) == email))
_USER_BY_USERNAME = Prepared(
    lambda username: User.select().where(fn.LOWER(User.username) == username)
)

User.add_index(User.index(fn.LOWER(User.username), unique=True, name="users_username"))
User.add_index(User.index(fn.LOWER(User.email), unique=True, name="users_email"))
User.add_index(User.index(User.created_at, User.id, name="users_created_at"))


class Place(NamedTuple):
    """From where somebody asks: the network, and the device if it says what it is."""

    network: str
    device: str | None


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
    def begin(cls, user: User, network: str, device: str | None = None) -> "Session":
        """A new session, by the database's clock as everything about one.

        On a machine whose own is an hour late its tokens would be too old for all others.
        """
        now = from_now()
        begun = cls.insert(
            user=user,
            network=network,
            device=device,
            last_network=network,
            last_device=device,
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
    def rotate(
        cls, session_id: UUID, generation: int, network: str, device: str | None
    ) -> "Session | None":
        """Move a live session, used last from this place, from this generation to the next.

        None when there is none. One guarded statement, so that of many at once one finds it. What
        is read is what its tokens are made of, and its user's address and language.
        """
        return cls._rotated(
            _ROTATED_SESSION.rows(session_id.hex, generation, network, device or "")
        )

    @classmethod
    def rotate_elsewhere(
        cls, session_id: UUID, generation: int, network: str, device: str | None
    ) -> "Session | None":
        """The same, from wherever it was used last: from now on that is this place."""
        return cls._rotated(_MOVED_SESSION.rows(network, device, session_id.hex, generation))

    @classmethod
    def _rotated(cls, rows: list[tuple]) -> "Session | None":
        if not rows:
            return None
        *values, email, language = rows[0]
        session = make_row(cls, values, _ROTATED_COLUMNS)
        its_user = (session.user_id, email, language)
        session.user = make_row(User, its_user, (User.id, User.email, User.language))
        return session

    def use_elsewhere(self, network: str, device: str | None) -> bool:
        """Note that it was used from this place; False when others noted another one meanwhile."""
        cls = type(self)
        same = (
            (cls.id == self.id)
            & (cls.generation == self.generation)
            & (fn.COALESCE(cls.last_network, "") == (self.last_network or ""))
            & (fn.COALESCE(cls.last_device, "") == (self.last_device or ""))
        )
        place = {cls.last_network: network, cls.last_device: device}
        return cls.update(place).where(same).execute() == 1

    @property
    def last_place(self) -> Place:
        """From where it was used last."""
        if self.last_network is None:
            return Place(self.network, self.device)
        return Place(self.last_network, self.last_device)

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


class SecurityEvent(Model):
    """Something that concerns who may use an account, as its owner reads it; nothing secret.

    `session_id` is no reference: events outlive their sessions. `network` and `device` are
    whoever's did it; NULL is an operator.
    """

    user = ForeignKeyField(User, backref="events", on_delete="CASCADE", index=False)
    kind = CharField(max_length=32)
    network = CharField(max_length=64, null=True)
    device = CharField(max_length=64, null=True)
    session_id = UUIDField(null=True)

    class Meta:
        table_name = "security_events"
        indexes = ((("user", "created_at"), False),)

    def __repr__(self):
        return f"<SecurityEvent {self.kind} {self.user_id}>"

    @classmethod
    def erase(cls, user: User) -> None:
        """Delete a user's journal, in the caller's transaction; in steps, as `Chat.erase`."""
        some = cls.select(cls.id).where(cls.user == user).limit(STEP_ROWS)
        while cls.delete().where(cls.id.in_(some)).execute():
            pass


class Coded(Model):
    """What waits for the code that was mailed to its address. Several may wait for one address.

    One that must not succeed waits like any other, so that nothing tells them apart; its code was
    mailed to nobody. `purpose` keeps its tries apart from those at other kinds of code. Once the
    account that had its address is erased, a keyed hash stands in the place of the address.
    """

    email = CharField(max_length=254)
    network = CharField(max_length=64)
    redirect_to = CharField(max_length=2048, null=True)
    code_hash = CharField(max_length=64)
    code_expires_at = InstantField()
    tries_left = IntegerField(default=TRIES_A_CODE)
    purpose: str
    # What is left in the columns of one that nothing can complete, and of one that names nobody.
    VOID = {"code_hash": ""}
    NOBODYS = {"redirect_to": None}

    @classmethod
    def is_waiting(cls, email: str):
        """The condition that a row waits for a code sent to this address."""
        return fn.LOWER(cls.email).in_((email.lower(), tokens.hash_address(email))) & (
            cls.created_at > fixed_from_now(seconds=-WAITING_LIFE.total_seconds())
        )

    @classmethod
    def waiting(cls, email: str):
        """The rows for this address whose codes may still be tried, the newest first, as a query.

        Each has `has_fresh_code`, by the database's clock: the code may be another machine's.
        """
        return cls._waiting(email, cls).where(cls.tries_left > 0)

    @classmethod
    def opened(cls, email: str, network: str):
        """Of the rows for this address those that a try from this network is for.

        That is the newest of those that the network began, its tries used up if all are.
        """
        return cls._opened(email, network).limit(1)

    @classmethod
    def _opened(cls, email: str, network: str):
        own = cls.network.in_((network, tokens.hash_address(network)))
        return cls._waiting(email, cls).where(own).order_by(*cls._newest_with_tries())

    @classmethod
    def _newest_with_tries(cls) -> tuple:
        """The order of what one asker opened: what was begun again comes before what is used up."""
        return (cls.tries_left > 0).desc(), cls.created_at.desc()

    @classmethod
    def waiting_codes(cls, email: str):
        """Of the rows that `waiting` has only network, id, code hash, and whether it is fresh."""
        return cls._waiting(email, cls.network, cls.id, cls.code_hash).where(cls.tries_left > 0)

    @classmethod
    def _waiting(cls, email: str, *columns):
        is_fresh = (cls.code_expires_at > fixed_from_now()).alias("has_fresh_code")
        waiting = cls.select(*columns, is_fresh).where(cls.is_waiting(email))
        return waiting.order_by(cls.created_at.desc())

    @classmethod
    def void(cls, which) -> int:
        """Leave nothing in these rows that could complete them; returns how many they were.

        They stay until they run out: if they went, whoever waits beside the owner could tell from
        the limits that something was completed.
        """
        return cls.update(**cls.VOID).where(which).execute()

    @classmethod
    def hide(cls, email: str) -> None:
        """Void the rows for an address, and keep in them nothing that names anybody.

        They wait like before, so that limits tell nobody that the address was erased.
        """
        its = fn.LOWER(cls.email) == email.lower()
        hidden = {"email": tokens.hash_address(email), **cls.VOID, **cls.NOBODYS}
        networks = [
            network for (network,) in cls.select(cls.network).where(its).distinct().tuples()
        ]
        for network in networks:
            changes = {"network": tokens.hash_address(network), **hidden}
            cls.update(**changes).where(its, cls.network == network).execute()


class SignUp(Coded):
    """A sign-up that waits for its code, for an address that has an account too.

    `asked_hash` is a keyed hash of who asks for what: address, username, network and password
    together. NULL in it is an earlier release's, in `contested_at` that no other sign-up of the
    same username was found beside this one, in `device` that the client did not say.
    """

    username = CharField(max_length=30)
    password_hash = CharField()
    device = CharField(max_length=64, null=True)
    asked_hash = CharField(max_length=64, null=True)
    contested_at = InstantField(null=True)
    # Its pools of tries had no name when there was no other purpose.
    purpose = ""
    VOID = {"code_hash": "", "password_hash": ""}
    NOBODYS = {"redirect_to": None, "username": "", "device": None}

    class Meta:
        table_name = "sign_ups"

    def __repr__(self):
        return f"<SignUp {self.username} {self.email}>"

    @classmethod
    def opened(cls, email: str, network: str):
        """All that the network began: each is for a username of its own."""
        return cls._opened(email, network)

    @classmethod
    def find_asked(cls, email: str, asked_hash: str) -> "SignUp | None":
        """The sign-up that the same person asked for before, if its code may still be tried."""
        return cls.waiting(email).where(cls.asked_hash == asked_hash).first()

    def rivals(self):
        """The condition for other sign-ups of this address and username that wait beside this one.

        Begun from another network or with another password, and not void: of two askers, each may
        take the other's mail for their own.
        """
        kind = type(self)
        return (
            kind.is_waiting(self.email)
            & (fn.LOWER(kind.username) == self.username.lower())
            & (kind.password_hash != "")
            & (kind.asked_hash.is_null() | (kind.asked_hash != self.asked_hash))
            & (kind.id != self.id)
        )

    @property
    def is_contested(self) -> bool:
        """Whether a code mailed for it may have been entered by the owner of another sign-up."""
        kind = type(self)
        return self.contested_at is not None or kind.select().where(self.rivals()).exists()

    def contest(self) -> None:
        """Note that it and its rivals are contested, for as long as they wait, if it has any.

        Its rivals alone if it is not kept, since its asker was refused.
        """
        kind = type(self)
        if kind.update(contested_at=from_now()).where(self.rivals()).execute():
            kind.update(contested_at=from_now()).where(kind.id == self.id).execute()


class Recovery(Coded):
    """Somebody forgot their password, they say; an address without an account has some too."""

    purpose = "recovery:"

    class Meta:
        table_name = "recoveries"

    def __repr__(self):
        return f"<Recovery {self.email}>"


class EmailChange(Coded):
    """An account is to have another address, or has it, and can have the old one back for a while.

    `email` is the new one. NULL in `changed_at` means that it was not proven (yet).
    """

    user = ForeignKeyField(User, backref="email_changes", on_delete="CASCADE")
    old_email = CharField(max_length=254)
    changed_at = InstantField(null=True)
    purpose = "email-change:"

    class Meta:
        table_name = "email_changes"

    def __repr__(self):
        return f"<EmailChange {self.old_email} {self.email}>"

    @classmethod
    def opened_by(cls, user: User, email: str):
        """Of the changes to this address the account's newest, its tries used up if all are."""
        own = cls._waiting(email, cls).where(cls.user == user)
        return own.order_by(*cls._newest_with_tries()).limit(1)

    def may_be_asked_again(self, user: User, network: str) -> bool:
        """Whether asking for it once more is the same change: by `user`, now, from `network`."""
        return (
            self.tries_left > 0
            and self.changed_at is None
            and self.network == network
            and self.old_email == user.email
        )

    @property
    def proven_email(self) -> str | None:
        return self.email if self.changed_at else None

    @classmethod
    def hide(cls, email: str) -> None:
        """Likewise, for those that were not proven: the rest of a row is its account's own."""
        unproven = (fn.LOWER(cls.email) == email.lower()) & cls.changed_at.is_null()
        cls.update(email=tokens.hash_address(email), **cls.VOID).where(unproven).execute()

    @classmethod
    def has_run_out(cls):
        """The condition that a change can be taken back no more.

        A week after it was made, or asked for if it never was.
        """
        made_at = fn.COALESCE(cls.changed_at, cls.created_at)
        return made_at <= from_now(seconds=-WAY_BACK_LIFE.total_seconds())


EmailChange.add_index(EmailChange.index(fn.LOWER(EmailChange.email), name="email_changes_email"))
Recovery.add_index(Recovery.index(fn.LOWER(Recovery.email), name="recoveries_email"))
SignUp.add_index(SignUp.index(fn.LOWER(SignUp.email), name="sign_ups_email"))


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


class Mailing(Model):
    """A mail that somebody asked for at an address, whether or not there was one to be sent.

    Address and network are keyed hashes. With an opening something new began to wait for a code;
    `is_own` says that the address' account had signed in from the network.
    """

    created_at = InstantField(default=clock.now)
    address_hash = CharField(max_length=64)
    network_hash = CharField(max_length=64)
    is_opening = BooleanField()
    is_own = BooleanField()

    class Meta:
        table_name = "mailings"
        indexes = ((("address_hash", "created_at"), False),)


class Chat(Model):
    """A conversation of one user with the agent.

    `title` is what the user calls it; NULL has it go by its first message. `active_at` is when its
    last run began, NULL if that was before there was the column. `name` is for whoever shows it.
    """

    user = ForeignKeyField(User, backref="chats", on_delete="CASCADE", index=False)
    title = CharField(max_length=100, null=True)
    active_at = InstantField(null=True)
    name = ""

    class Meta:
        table_name = "chats"

    def __repr__(self):
        return f"<Chat {self.user_id} {self.title or ''}>"

    @property
    def last_active_at(self) -> datetime:
        return self.active_at or self.created_at

    @classmethod
    def activity(cls) -> Function:
        """`last_active_at`, as a query knows it."""
        return fn.COALESCE(cls.active_at, cls.created_at)

    @classmethod
    def ids_of(cls, user: User, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the ids that are this user's chats."""
        owned = cls.select(cls.id).where(cls.id.in_(ids), cls.user == user.id)
        return {chat_id for (chat_id,) in owned.tuples()}

    @classmethod
    def of(cls, user: User):
        """This user's chats as a query, each with its `first_message`."""
        messages = Run.select(Run.message).where(Run.chat == cls.id).order_by(Run.created_at)
        return cls.select(cls, messages.limit(1).alias("first_message")).where(cls.user == user.id)

    @classmethod
    def erase(cls, chat_ids: Sequence[UUID]) -> None:
        """Delete chats with all that was said in them, in the caller's transaction.

        In steps: no statement may take longer than Postgres' timeout, however much there is.
        """
        for some in chunked(chat_ids, STEP_CHATS):
            runs = Run.select(Run.id).where(Run.chat.in_(some)).limit(STEP_RUNS)
            while Run.delete().where(Run.id.in_(runs)).execute():
                pass
            cls.delete().where(cls.id.in_(some)).execute()


Chat.add_index(Chat.index(Chat.user, Chat.activity(), Chat.id, name="chats_activity"))


@dataclass(frozen=True)
class Brought:
    """A message that a client brought: the user's words, or what a tool of the client's gave.

    `id` is the client's own; `tool_call_id` names the call that is answered.
    """

    id: str
    text: str
    tool_call_id: str | None = None


class Run(Model):
    """One message of the user and all that the agent did about it.

    `finished_at` is NULL while it runs; a run whose lease has lapsed died with its process.
    `error` is the code of what ended it before its answer was complete. `input` has what was said
    if a client brought it otherwise than as one `message`, which then has the user's words in it.
    """

    chat = ForeignKeyField(Chat, backref="runs", on_delete="CASCADE", index=False)
    message = TextField()
    input = TextField(null=True)
    lease_until = InstantField()
    finished_at = InstantField(null=True)
    input_tokens = IntegerField(null=True)
    output_tokens = IntegerField(null=True)
    error = CharField(null=True)
    stop_requested_at = InstantField(null=True)
    # For whoever shows it: the sentence for `error`.
    reason: str | None = None

    class Meta:
        table_name = "runs"
        indexes = ((("chat", "created_at"), False),)

    def __repr__(self):
        return f"<Run {self.chat_id} {self.status}>"

    @classmethod
    def on(cls, brought: Sequence[Brought], run_id: UUID, chat_id: UUID) -> "Run":
        """A run on what a client brought, not in the table yet."""
        message = "\n\n".join(each.text for each in brought if each.tool_call_id is None)
        text = json.dumps([astuple(each) for each in brought], ensure_ascii=False)
        return cls(id=run_id, chat_id=chat_id, message=message, input=text)

    @classmethod
    def find(cls, user: User, chat_id: UUID, run_id: UUID) -> "Run | None":
        """A run of this chat, if the chat is this user's."""
        owned = (cls.id == run_id) & (Chat.id == chat_id) & (Chat.user == user.id)
        return cls.select(cls).join(Chat).where(owned).get_or_none()

    @classmethod
    def find_of(cls, user: User, run_id: UUID) -> "Run | None":
        """A run in any chat of this user's."""
        owned = (cls.id == run_id) & (Chat.user == user.id)
        return cls.select(cls).join(Chat).where(owned).get_or_none()

    @classmethod
    def has_earlier(cls, run: "Run") -> bool:
        """Whether its chat has a run from before it."""
        earlier = (cls.chat == run.chat_id) & (cls.created_at < run.created_at)
        return cls.select().where(earlier).exists()

    @property
    def brought(self) -> list[Brought]:
        """What was said in it, in order, the agent's part apart."""
        if self.input is None:
            return [Brought(str(self.id), self.message)]
        return _brought_in(self.input)

    @property
    def answers(self) -> dict[str, str]:
        return answers_in(self.input)

    @property
    def status(self) -> str:
        """running, finished, failed, or stopped because somebody asked for it."""
        if self.finished_at is None:
            return "running"
        return {None: "finished", "stopped": "stopped"}.get(self.error, "failed")


def _brought_in(text: str) -> list[Brought]:
    return [Brought(*each) for each in json.loads(text)]


def answers_in(text: str | None) -> dict[str, str]:
    """The results in a run's `input`, by the id of the call that each answers."""
    brought = _brought_in(text) if text else ()
    return {each.tool_call_id: each.text for each in brought if each.tool_call_id}


# The database itself sees to it that a chat has one run at a time.
Run.add_index(
    Run.index(Run.chat, unique=True, name="runs_running", where=Run.finished_at.is_null())
)


class RunEvent(Model):
    """The journal of a run: its events as they are on the wire, numbered from 1.

    `pieces` has the lengths of the deltas that were joined into this one; it has the last one's
    number. The `error` of a RUN_ERROR is its code, for every reader's own language. The last event
    has the run's `usage`, as far as it is known. `vendor` is JSON that is shown to no client: what
    the model's server sent of its own, see `agent.Vendor`.
    """

    id = None
    created_at = None
    run = ForeignKeyField(Run, backref="events", on_delete="CASCADE", index=False)
    number = IntegerField()
    data = TextField()
    pieces = TextField(null=True)
    vendor = TextField(null=True)

    class Meta:
        table_name = "run_events"
        primary_key = CompositeKey("run", "number")

    @classmethod
    def of_runs(cls, run_ids: Sequence[UUID]) -> list[tuple[UUID, int, str]]:
        """Run, number and data of all events of these runs, each run's in their order."""
        return cls._read(run_ids, "number, data")

    @classmethod
    def words_of(cls, run_ids: Sequence[UUID]) -> list[tuple[UUID, str, str | None]]:
        """Run, data and vendor of these runs' events, likewise, beginnings and ends left out.

        These say nothing that the rest does not, and ends say all of it again.
        """
        return cls._read(run_ids, "data, vendor", "AND substr(data, 10, 4) <> 'RUN_'")

    @classmethod
    def _read(cls, run_ids: Sequence[UUID], columns: str, which: str = "") -> list[tuple]:
        """Postgres is told to look for each run by itself: before a database that was restored is
        analyzed, it takes the events of a few runs for half of the table, and reads all of it.
        """
        is_sqlite = isinstance(db.obj, SqliteDatabase)
        sql = _EVENTS_ON_SQLITE if is_sqlite else _EVENTS_ON_POSTGRES
        ids = json.dumps([run_id.hex for run_id in run_ids])
        rows = db.execute_sql(sql.format(columns=columns, which=which), (ids,)).fetchall()
        return [(cls.run.python_value(run_id), *rest) for run_id, *rest in rows]


_EVENTS_ON_POSTGRES = """
    SELECT event.run_id, {columns}
    FROM (SELECT value::uuid AS id FROM json_array_elements_text(%s)) AS run
    CROSS JOIN LATERAL (
        SELECT run_id, number, data, vendor FROM run_events
        WHERE run_id = run.id {which} ORDER BY number
    ) AS event
    ORDER BY event.run_id, event.number"""
_EVENTS_ON_SQLITE = """
    SELECT run_id, {columns} FROM run_events
    WHERE run_id IN (SELECT value FROM json_each(?)) {which}
    ORDER BY run_id, number"""


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


# What runs out is found by these, and goes in their order: see `services.purge`.
for _model in (Session, SecurityEvent, SignUp, Recovery, EmailChange, Mailing):
    _name = f"{_model._meta.table_name}_created_at"
    _model.add_index(_model.index(_model.created_at, _model.id, name=_name))
Allowance.add_index(
    Allowance.index(Allowance.spent_until, Allowance.key, name="allowances_spent_until")
)
FormerSpending.add_index(
    FormerSpending.index(FormerSpending.day, FormerSpending.owner_hash, name="former_spendings_day")
)


MODELS = (
    User,
    Session,
    SecurityEvent,
    SignUp,
    Recovery,
    EmailChange,
    Allowance,
    Mailing,
    Chat,
    Run,
    RunEvent,
    Spending,
    FormerSpending,
)
