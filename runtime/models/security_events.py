"""What concerns who may use an account, a row an event."""

from peewee import SQL, BooleanField, CharField, ForeignKeyField, UUIDField

from runtime.database.base import Model
from runtime.models.users import User

STEP_ROWS = 1000


class SecurityEvent(Model):
    """Something that concerns who may use an account, as its owner reads it; nothing secret.

    `session_id` is no reference: events outlive their sessions. `network` and `device` are
    those of the caller; NULL is an operator, or with `by_administrator` an administrator, of whom
    the journal tells no more.
    """

    user = ForeignKeyField(User, backref="events", on_delete="CASCADE", index=False)
    kind = CharField(max_length=32)
    network = CharField(max_length=64, null=True)
    device = CharField(max_length=64, null=True)
    session_id = UUIDField(null=True)
    by_administrator = BooleanField(default=False, constraints=[SQL("DEFAULT FALSE")])

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


SecurityEvent.add_index(
    SecurityEvent.index(
        SecurityEvent.created_at, SecurityEvent.id, name="security_events_created_at"
    )
)
