"""What listing a user's chats needs: a title, when each was active last, and an index by that.

NULL in `title` means that the chat goes by the beginning of its first message; in `active_at`, that
its last run began before there was the column, or under a release that does not know it.

Adding the columns locks the table for an instant and rewrites nothing. Postgres makes the index
beside whatever else goes on, which it cannot inside a transaction; so this migration has none, and
begins anew what an earlier try left half done. The new index serves whoever looks for a user's
chats, so that the old one is dropped.
"""

from peewee import CharField, DateTimeField, PostgresqlDatabase

atomic = False


def up(migrator, db):
    there = {column.name for column in db.get_columns("chats")}
    columns = {"title": CharField(max_length=100, null=True), "active_at": DateTimeField(null=True)}
    for name in columns.keys() - there:
        migrator.migrate(migrator.add_column("chats", name, columns[name]))
    _replace_index(
        db,
        old="chat_user_id",
        new="chats_activity",
        columns="user_id, COALESCE(active_at, created_at), id",
    )


def down(migrator, db):
    _replace_index(db, old="chats_activity", new="chat_user_id", columns="user_id")
    migrator.migrate(
        migrator.drop_column("chats", "active_at"),
        migrator.drop_column("chats", "title"),
    )


def _replace_index(db, old, new, columns):
    beside = "CONCURRENTLY" if isinstance(db, PostgresqlDatabase) else ""
    db.execute_sql(f"DROP INDEX {beside} IF EXISTS {new}")
    db.execute_sql(f"CREATE INDEX {beside} {new} ON chats ({columns})")
    db.execute_sql(f"DROP INDEX {beside} IF EXISTS {old}")
