"""Changes of an account's address: they wait for a code, and can be taken back for a while.

`old_email` is the address that the change replaces. NULL in `redirect_to` means that the mails
have no link, in `changed_at` that the new address was not proven (yet). A new table locks nothing.
"""

from peewee import CharField, DateTimeField, ForeignKeyField, IntegerField, Model, UUIDField, fn


def up(migrator, db):
    class User(Model):
        id = UUIDField(primary_key=True)

        class Meta:
            database = db
            table_name = "users"

    class EmailChange(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        email = CharField(max_length=254)
        network = CharField(max_length=64)
        redirect_to = CharField(max_length=2048, null=True)
        code_hash = CharField(max_length=64)
        code_expires_at = DateTimeField()
        tries_left = IntegerField()
        user = ForeignKeyField(User, on_delete="CASCADE")
        old_email = CharField(max_length=254)
        changed_at = DateTimeField(null=True)

        class Meta:
            database = db
            table_name = "email_changes"

    by_address = EmailChange.index(fn.LOWER(EmailChange.email), name="email_changes_email")
    EmailChange.add_index(by_address)
    db.create_tables([EmailChange])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("email_changes"))
