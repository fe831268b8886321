"""What each user has stored: the characters that they wrote in the day, and their chats.

NULL in `chars` means none, in `chats` that nobody has counted them yet: the next message does.
Columns without a default: the table is locked for an instant.
"""

from peewee import BigIntegerField, IntegerField


def up(migrator, db):
    migrator.migrate(
        migrator.add_column("spendings", "chars", BigIntegerField(null=True)),
        migrator.add_column("spendings", "chats", IntegerField(null=True)),
    )


def down(migrator, db):
    migrator.migrate(
        migrator.drop_column("spendings", "chats"),
        migrator.drop_column("spendings", "chars"),
    )
