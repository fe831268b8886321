"""The kind of each event beside its JSON, so that queries can ask for it.

NULL means that an earlier release has written the event, maybe after this migration: its JSON says
what it is, and who reads it looks there. Nothing is filled in, because there may be ten million
rows. Adding a column without a default locks the table for an instant and rewrites nothing.
"""

from peewee import CharField


def up(migrator, db):
    migrator.migrate(migrator.add_column("run_events", "type", CharField(max_length=32, null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("run_events", "type"))
