"""An index of the runs that are part of a conversation, in their order.

However often a message was answered anew, a page of the conversation reads the page's runs alone.

Postgres makes the index while other statements run, which it cannot inside a transaction; so this
migration has none, and begins anew what an earlier try left half done.
"""

from peewee import PostgresqlDatabase

atomic = False


def up(migrator, db):
    down(migrator, db)
    columns, these = "chat_id, created_at", "replaced_by IS NULL"
    db.execute_sql(
        f"CREATE INDEX {_beside(db)} runs_conversation ON runs ({columns}) WHERE {these}"
    )


def down(migrator, db):
    db.execute_sql(f"DROP INDEX {_beside(db)} IF EXISTS runs_conversation")


def _beside(db):
    return "CONCURRENTLY" if isinstance(db, PostgresqlDatabase) else ""
