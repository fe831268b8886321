"""Indexes by which a purge finds what has run out, and the operators' list its accounts.

Each knows a row's key too: a purge goes on behind the row where it stopped, of any number that have
the same instant.

Sessions have theirs by when they began. One by the last refresh would be written at each refresh,
and keep Postgres from updating the row in its place: 5.4 records of its log for each instead of 3.
For the same reason a page of sessions is filled to four fifths from now on: 9 of 10 refreshes find
room in it then and write no index at all, where 4 of 10 did, and 1.5 records. NULLS FIRST, where
there is no NULL, says that this index is no help to a list, which is the newest first: Postgres
would look for a user's sessions among everybody's.

Postgres makes the indexes beside whatever else goes on, which it cannot inside a transaction; so
this migration has none, and begins anew what an earlier try left half done. It waits for nothing
but transactions that began before it, reads each table twice, and locks none against writing.
"""

from peewee import PostgresqlDatabase

atomic = False

INDEXES = (
    ("users", "users_created_at", "created_at, id"),
    ("sessions", "sessions_created_at", "created_at NULLS FIRST, id"),
    ("security_events", "security_events_created_at", "created_at, id"),
    ("sign_ups", "sign_ups_created_at", "created_at, id"),
    ("recoveries", "recoveries_created_at", "created_at, id"),
    ("email_changes", "email_changes_created_at", "created_at, id"),
    ("allowances", "allowances_spent_until", "spent_until, key"),
)
REPLACED = ("security_events", "securityevent_created_at", "created_at")


def up(migrator, db):
    for table, name, columns in INDEXES:
        _make(db, table, name, columns)
    _drop(db, REPLACED[1])
    _fill_pages(db, "SET (fillfactor = 80)")


def down(migrator, db):
    _make(db, *REPLACED)
    _fill_pages(db, "RESET (fillfactor)")
    for _table, name, _columns in INDEXES:
        _drop(db, name)


def _make(db, table, name, columns):
    _drop(db, name)
    if not isinstance(db, PostgresqlDatabase):  # SQLite's are NULLS FIRST, and say so to nobody.
        columns = columns.replace(" NULLS FIRST", "")
    db.execute_sql(f"CREATE INDEX {_beside(db)} {name} ON {table} ({columns})")


def _drop(db, name):
    db.execute_sql(f"DROP INDEX {_beside(db)} IF EXISTS {name}")


def _fill_pages(db, how):
    if isinstance(db, PostgresqlDatabase):
        db.execute_sql(f"ALTER TABLE sessions {how}")


def _beside(db):
    return "CONCURRENTLY" if isinstance(db, PostgresqlDatabase) else ""
