"""Chats, their runs, and each run's journal of events.

NULL in `finished_at` means that the run goes on, or died with its process if its lease has lapsed;
a chat has one such run at the most. NULL in the tokens means that the provider told none.
"""

from peewee import (
    CompositeKey,
    DateTimeField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
    UUIDField,
)


def up(migrator, db):
    class User(Model):
        id = UUIDField(primary_key=True)

        class Meta:
            database = db
            table_name = "users"

    class Chat(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        user = ForeignKeyField(User, on_delete="CASCADE")

        class Meta:
            database = db
            table_name = "chats"

    class Run(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        chat = ForeignKeyField(Chat, on_delete="CASCADE", index=False)
        message = TextField()
        lease_until = DateTimeField()
        finished_at = DateTimeField(null=True)
        input_tokens = IntegerField(null=True)
        output_tokens = IntegerField(null=True)

        class Meta:
            database = db
            table_name = "runs"
            indexes = ((("chat", "created_at"), False),)

    class RunEvent(Model):
        run = ForeignKeyField(Run, on_delete="CASCADE", index=False)
        number = IntegerField()
        data = TextField()

        class Meta:
            database = db
            table_name = "run_events"
            primary_key = CompositeKey("run", "number")

    Run.add_index(
        Run.index(Run.chat, unique=True, name="runs_running", where=Run.finished_at.is_null())
    )
    db.create_tables([Chat, Run, RunEvent])


def down(migrator, db):
    for table in ("run_events", "runs", "chats"):
        migrator.migrate(migrator.drop_table(table))
