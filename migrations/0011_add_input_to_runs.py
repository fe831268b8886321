"""What a client brought to a run, message by message, with the ids the client knows them by.

NULL means one message of the user's, which `runs.message` has. Adding a column without a default
locks the table for an instant and rewrites nothing.
"""

from peewee import TextField


def up(migrator, db):
    migrator.migrate(migrator.add_column("runs", "input", TextField(null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("runs", "input"))
