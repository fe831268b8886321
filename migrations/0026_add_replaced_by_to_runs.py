"""Runs that others have replaced: kept, and no part of their conversation any more.

NULL means that a run is part of it, as each run is that an earlier release has begun. It refers to
no row that must be there: a chat's runs are erased in any order. Adding a column without a default
locks the table for an instant and rewrites nothing.
"""

from peewee import UUIDField


def up(migrator, db):
    migrator.migrate(migrator.add_column("runs", "replaced_by", UUIDField(null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("runs", "replaced_by"))
