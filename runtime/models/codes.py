"""What waits for a mailed code: sign-ups, recoveries, changes of address. And the mails sent."""

from datetime import timedelta

from peewee import BooleanField, CharField, ForeignKeyField, IntegerField, fn

from runtime import clock
from runtime.database.base import Model, from_now
from runtime.database.instants import InstantField
from runtime.models.users import User
from runtime.security.tokens import tokens

CODE_LIFE = timedelta(minutes=10)
CODE_MINUTES = CODE_LIFE // timedelta(minutes=1)
# How long something waits for its code; what mails a fresh one within that gives no new tries.
WAITING_LIFE = timedelta(hours=24)
TRIES_A_CODE = 5
# A change of address can be taken back for a week from when it was made.
WAY_BACK_LIFE = timedelta(days=7) + CODE_LIFE


class AwaitsCode(Model):
    """What waits for the code that was mailed to its address. Several may wait for one address.

    A row that must not succeed waits like the others, and nothing tells them apart; its code was
    never mailed. `purpose` keeps its tries apart from those at other kinds of code. Once the
    account that had its address is erased, a keyed hash stands in the place of the address.
    """

    email = CharField(max_length=254)
    network = CharField(max_length=64)
    redirect_to = CharField(max_length=2048, null=True)
    code_hash = CharField(max_length=64)
    code_expires_at = InstantField()
    tries_left = IntegerField(default=TRIES_A_CODE)
    purpose: str
    # The columns of a row that nothing can complete, and of a row that names no person.
    VOID = {"code_hash": ""}
    NAMELESS = {"redirect_to": None}

    @classmethod
    def is_waiting(cls, email: str):
        """The condition that a row waits for a code sent to this address."""
        return fn.LOWER(cls.email).in_((email.lower(), tokens.keyed_hash(email))) & (
            cls.created_at > from_now(seconds=-WAITING_LIFE.total_seconds())
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
        own = cls.network.in_((network, tokens.keyed_hash(network)))
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
        is_fresh = (cls.code_expires_at > from_now()).alias("has_fresh_code")
        waiting = cls.select(*columns, is_fresh).where(cls.is_waiting(email))
        return waiting.order_by(cls.created_at.desc())

    @classmethod
    def void(cls, which) -> int:
        """Leave nothing in these rows that could complete them; returns how many they were.

        They stay until they run out: if they went, a stranger who waits beside the owner could tell
        from the limits that something was completed.
        """
        return cls.update(**cls.VOID).where(which).execute()

    @classmethod
    def hide(cls, email: str) -> None:
        """Void the rows for an address, and keep in them nothing that names a person.

        They wait like before: the limits do not tell that the address was erased.
        """
        its = fn.LOWER(cls.email) == email.lower()
        hidden = {"email": tokens.keyed_hash(email), **cls.VOID, **cls.NAMELESS}
        networks = [
            network for (network,) in cls.select(cls.network).where(its).distinct().tuples()
        ]
        for network in networks:
            changes = {"network": tokens.keyed_hash(network), **hidden}
            cls.update(**changes).where(its, cls.network == network).execute()


class SignUp(AwaitsCode):
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
    NAMELESS = {"redirect_to": None, "username": "", "device": None}

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


class Recovery(AwaitsCode):
    """A request to set a new password; an address without an account can have some too."""

    purpose = "recovery:"

    class Meta:
        table_name = "recoveries"

    def __repr__(self):
        return f"<Recovery {self.email}>"

    @classmethod
    def find_waiting(cls, email: str, network: str) -> "Recovery | None":
        """The recovery that the network has begun and that has tries left."""
        return cls.opened(email, network).where(cls.tries_left > 0).first()


class EmailChange(AwaitsCode):
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

    @classmethod
    def find_waiting(cls, user: User, email: str, network: str) -> "EmailChange | None":
        """The account's newest change to this address, if it may be asked for again.

        Its tries are not used up, it was not made, and it was asked for from this network and at
        the address that the account has.
        """
        newest = cls.opened_by(user, email).first()
        may = (
            newest
            and newest.tries_left > 0
            and newest.changed_at is None
            and newest.network == network
            and newest.old_email == user.email
        )
        return newest if may else None

    @property
    def proven_email(self) -> str | None:
        return self.email if self.changed_at else None

    @classmethod
    def hide(cls, email: str) -> None:
        """Likewise, for those that were not proven: the rest of a row is its account's own."""
        unproven = (fn.LOWER(cls.email) == email.lower()) & cls.changed_at.is_null()
        cls.update(email=tokens.keyed_hash(email), **cls.VOID).where(unproven).execute()

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


class Mailing(Model):
    """A request that mails an address, counted also where no mail was sent.

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


SignUp.add_index(SignUp.index(SignUp.created_at, SignUp.id, name="sign_ups_created_at"))
Recovery.add_index(Recovery.index(Recovery.created_at, Recovery.id, name="recoveries_created_at"))
EmailChange.add_index(
    EmailChange.index(EmailChange.created_at, EmailChange.id, name="email_changes_created_at")
)
Mailing.add_index(Mailing.index(Mailing.created_at, Mailing.id, name="mailings_created_at"))
