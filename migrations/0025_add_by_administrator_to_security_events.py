"""Whether an administrator did what an event tells, over HTTP.

False is what it always was: the caller, or an operator where there is none. With a default that the
database knows, so that the table is locked for an instant, and the release before can write to it.
"""


def up(migrator, db):
    added = "by_administrator BOOL NOT NULL DEFAULT FALSE"
    db.execute_sql(f"ALTER TABLE security_events ADD COLUMN {added}")


def down(migrator, db):
    migrator.migrate(migrator.drop_column("security_events", "by_administrator"))
