"""Accounts.

Usernames and addresses are unique without regard to case. NULL in `email_confirmed_at` means that
the address was never proven, in `avatar_url` and `bio` that there is none.
"""

from peewee import BooleanField, CharField, DateTimeField, Model, UUIDField, fn


def up(migrator, db):
    class User(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        username = CharField(max_length=30)
        email = CharField(max_length=254)
        password_hash = CharField()
        avatar_url = CharField(max_length=2048, null=True)
        bio = CharField(max_length=200, null=True)
        is_admin = BooleanField()
        email_confirmed_at = DateTimeField(null=True)

        class Meta:
            database = db
            table_name = "users"

    User.add_index(User.index(fn.LOWER(User.username), unique=True, name="users_username"))
    User.add_index(User.index(fn.LOWER(User.email), unique=True, name="users_email"))
    db.create_tables([User])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("users"))
