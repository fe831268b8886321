"""Who asked for a sign-up, so that two of one username are told apart.

`device` is what the asker's client is called, NULL if it did not say. `asked_hash` is a keyed hash
of address, username, network and password together: the same for the same person who asks again,
NULL for what an earlier release began, which is like no other. `contested_at` is when another
sign-up of the same name was found beside it, NULL if none was. Columns without a default: the
table is locked for an instant.
"""

from peewee import CharField, DateTimeField


def up(migrator, db):
    migrator.migrate(
        migrator.add_column("sign_ups", "device", CharField(max_length=64, null=True)),
        migrator.add_column("sign_ups", "asked_hash", CharField(max_length=64, null=True)),
        migrator.add_column("sign_ups", "contested_at", DateTimeField(null=True)),
    )


def down(migrator, db):
    migrator.migrate(
        migrator.drop_column("sign_ups", "contested_at"),
        migrator.drop_column("sign_ups", "asked_hash"),
        migrator.drop_column("sign_ups", "device"),
    )
