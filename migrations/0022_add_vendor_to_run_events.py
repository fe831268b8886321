"""What a model's server sent of its own with a step or a call, which later requests return to it.

JSON, on the event that ends the step's text or the call; no client is shown it. NULL means that
there was nothing. Adding a column without a default locks the table for an instant and rewrites
nothing.
"""

from peewee import TextField


def up(migrator, db):
    migrator.migrate(migrator.add_column("run_events", "vendor", TextField(null=True)))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("run_events", "vendor"))
