"""From where a session was used last: the network and the device of its newest refresh.

NULL in `last_network` means that it was begun by an earlier release, which says nothing, and not
refreshed since; `last_device` says nothing then. NULL in `last_device` alone means that the client
named none. Two columns without a default: the table is locked for an instant.
"""

from peewee import CharField


def up(migrator, db):
    migrator.migrate(
        migrator.add_column("sessions", "last_network", CharField(max_length=64, null=True)),
        migrator.add_column("sessions", "last_device", CharField(max_length=64, null=True)),
    )


def down(migrator, db):
    migrator.migrate(
        migrator.drop_column("sessions", "last_network"),
        migrator.drop_column("sessions", "last_device"),
    )
