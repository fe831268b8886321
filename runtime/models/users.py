"""Accounts. Addresses and usernames are ASCII: `lower()` means the same in both databases."""

from uuid import UUID

from peewee import BooleanField, CharField, fn

from runtime.database.base import Model
from runtime.database.instants import InstantField
from runtime.database.prepared import Prepared, make_row

# What is kept of the password of an account that has none: a hash of no password.
NO_PASSWORD = ""


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
        """The condition that this account exists and is not disabled."""
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
