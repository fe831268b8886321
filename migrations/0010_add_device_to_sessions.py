"""What a session was started on, as its owner reads it.

NULL in `device` means that the client did not say, or that an earlier release started it. A
column without a default: the table is locked for an instant.
"""

from peewee import CharField


def up(migrator, db):
    migrator.migrate(migrator.add_column("sessions", "device", CharField(max_length=64, null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("sessions", "device"))
