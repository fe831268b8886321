"""The journal of an account: what concerns who may use it, to be read by its owner.

NULL in `network` and `device` means that an operator did it, in `device` alone that the client
did not say what it is, in `session_id` that the event is about no session. That is no foreign
key: events outlive sessions. A new table locks nothing.
"""

from peewee import CharField, DateTimeField, ForeignKeyField, Model, UUIDField


def up(migrator, db):
    class User(Model):
        id = UUIDField(primary_key=True)

        class Meta:
            database = db
            table_name = "users"

    class SecurityEvent(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField(index=True)
        user = ForeignKeyField(User, on_delete="CASCADE", index=False)
        kind = CharField(max_length=32)
        network = CharField(max_length=64, null=True)
        device = CharField(max_length=64, null=True)
        session_id = UUIDField(null=True)

        class Meta:
            database = db
            table_name = "security_events"
            indexes = ((("user", "created_at"), False),)

    db.create_tables([SecurityEvent])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("security_events"))
