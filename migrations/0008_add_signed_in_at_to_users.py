"""When somebody last signed in.

The write of it also holds the account's row while a session is started, so that none is started
on an account that is being disabled. NULL in `signed_in_at` means never, or not since this column
is there. A column without a default: the table is locked for an instant.
"""

from peewee import DateTimeField


def up(migrator, db):
    migrator.migrate(migrator.add_column("users", "signed_in_at", DateTimeField(null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("users", "signed_in_at"))
