"""What following, stopping and asking about a run needs.

NULL in `runs.error` means that the run finished, goes on, or ended before there was the column; in
`stop_requested_at`, that nobody asked it to stop. `run_events.pieces` has the lengths of the deltas
that were joined into one event, the last of which has its number; NULL means that it was one.
Adding columns without a default locks the tables for an instant and rewrites nothing.
"""

from peewee import CharField, DateTimeField, TextField


def up(migrator, db):
    migrator.migrate(
        migrator.add_column("runs", "error", CharField(null=True)),
        migrator.add_column("runs", "stop_requested_at", DateTimeField(null=True)),
        migrator.add_column("run_events", "pieces", TextField(null=True)),
    )


def down(migrator, db):
    migrator.migrate(
        migrator.drop_column("run_events", "pieces"),
        migrator.drop_column("runs", "stop_requested_at"),
        migrator.drop_column("runs", "error"),
    )
