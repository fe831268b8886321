"""Sessions: one row each, whatever the number of refreshes.

NULL in `ended_at` means that nobody ended it; it may still have run out.
"""

from peewee import (
    BooleanField,
    CharField,
    DateTimeField,
    ForeignKeyField,
    IntegerField,
    Model,
    UUIDField,
)


def up(migrator, db):
    class User(Model):
        id = UUIDField(primary_key=True)

        class Meta:
            database = db
            table_name = "users"

    class Session(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        user = ForeignKeyField(User, on_delete="CASCADE")
        network = CharField(max_length=64)
        generation = IntegerField()
        is_proven = BooleanField()
        refreshed_at = DateTimeField()
        ended_at = DateTimeField(null=True)

        class Meta:
            database = db
            table_name = "sessions"

    db.create_tables([Session])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("sessions"))
