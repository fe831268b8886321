"""The indexes on names and addresses find what a text begins with, too.

Postgres' order of text is a language's, in which what begins alike need not stand together; so
these have the order of bytes (`text_pattern_ops`), and know what is equal as before. SQLite's have
that order anyway.

Made as those of 0020: while other statements run, in no transaction. Both indexes are there for a
moment, so that no two accounts get one name meanwhile.
"""

from peewee import PostgresqlDatabase

atomic = False

COLUMNS = ("username", "email")


def up(migrator, db):
    _replace(db, " text_pattern_ops")


def down(migrator, db):
    _replace(db, "")


def _replace(db, order):
    if not isinstance(db, PostgresqlDatabase):
        return
    for column in COLUMNS:
        name, made = f"users_{column}", f"users_{column}_new"
        # An earlier try may have broken off anywhere. Without `name`, `made` is whole, and the only
        # one: it stays.
        if _is_there(db, name):
            db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {made}")
            index = f"{made} ON users (LOWER({column}){order})"
            db.execute_sql(f"CREATE UNIQUE INDEX CONCURRENTLY {index}")
            db.execute_sql(f"DROP INDEX CONCURRENTLY {name}")
        db.execute_sql(f"ALTER INDEX {made} RENAME TO {name}")


def _is_there(db, name):
    return db.execute_sql("SELECT to_regclass(%s)", (name,)).fetchone()[0] is not None
