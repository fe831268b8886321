"""The mails that somebody asked for at an address, by which their number is bounded.

Address and network are keyed hashes: a row names nobody. `is_opening` says that something new
began to wait for a code with it, `is_own` that the account of that address had signed in from
that network. A new table locks nothing.
"""

from peewee import BooleanField, CharField, DateTimeField, Model, UUIDField


def up(migrator, db):
    class Mailing(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        address_hash = CharField(max_length=64)
        network_hash = CharField(max_length=64)
        is_opening = BooleanField()
        is_own = BooleanField()

        class Meta:
            database = db
            table_name = "mailings"
            indexes = ((("address_hash", "created_at"), False),)

    db.create_tables([Mailing])
    # By which a purge goes on behind the row where it stopped.
    db.execute_sql("CREATE INDEX mailings_created_at ON mailings (created_at, id)")


def down(migrator, db):
    migrator.migrate(migrator.drop_table("mailings"))
