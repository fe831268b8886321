"""Recoveries that wait for their code, whether or not their address has an account.

NULL in `redirect_to` means that the mail has no link. A new table locks nothing.
"""

from peewee import CharField, DateTimeField, IntegerField, Model, UUIDField, fn


def up(migrator, db):
    class Recovery(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        email = CharField(max_length=254)
        network = CharField(max_length=64)
        redirect_to = CharField(max_length=2048, null=True)
        code_hash = CharField(max_length=64)
        code_expires_at = DateTimeField()
        tries_left = IntegerField()

        class Meta:
            database = db
            table_name = "recoveries"

    Recovery.add_index(Recovery.index(fn.LOWER(Recovery.email), name="recoveries_email"))
    db.create_tables([Recovery])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("recoveries"))
