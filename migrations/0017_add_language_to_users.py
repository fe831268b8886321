"""The language that an account's owner last used, for mails that somebody else may have caused.

NULL in `language` means that it is not known (yet): it is noted at the next sign-in or refresh, and
mails are in the default language until then. A column without a default: the table is locked for
an instant.
"""

from peewee import CharField


def up(migrator, db):
    migrator.migrate(migrator.add_column("users", "language", CharField(max_length=8, null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("users", "language"))
