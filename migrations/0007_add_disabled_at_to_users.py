"""Accounts that an operator has shut.

NULL in `disabled_at` means that the account is open. A column without a default: the table is
locked for an instant. The release before knows nothing of it, so that while it still serves a
disabled account can sign in there; its sessions were ended.
"""

from peewee import DateTimeField


def up(migrator, db):
    migrator.migrate(migrator.add_column("users", "disabled_at", DateTimeField(null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("users", "disabled_at"))
