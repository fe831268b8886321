"""Indexes by which a purge finds what has run out, and the operators' list its accounts.

Each knows a row's key too: a purge goes on behind the row where it stopped, of any number that have
the same instant. That on `sessions` is by when they began, which no refresh changes: one on
`refreshed_at` would be written at every refresh. What has an index by `created_at` alone is given
the longer one in its place.

Postgres makes the indexes beside whatever else goes on, which it cannot inside a transaction; so
this migration has none, and begins anew what an earlier try left half done. It waits for nothing
but transactions that began before it, reads each table twice, and locks none against writing.
"""

from peewee import PostgresqlDatabase

atomic = False

INDEXES = (
    ("users", "users_created_at", "created_at, id"),
    ("sessions", "sessions_created_at", "created_at, id"),
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


def down(migrator, db):
    _make(db, *REPLACED)
    for _table, name, _columns in INDEXES:
        _drop(db, name)


def _make(db, table, name, columns):
    _drop(db, name)
    db.execute_sql(f"CREATE INDEX {_beside(db)} {name} ON {table} ({columns})")


def _drop(db, name):
    db.execute_sql(f"DROP INDEX {_beside(db)} IF EXISTS {name}")


def _beside(db):
    return "CONCURRENTLY" if isinstance(db, PostgresqlDatabase) else ""
