"""The tokens that each user has spent of a day's budget: a row for whoever ever spent some.

A day begins at midnight UTC by the database's clock; the first call to the model of a new one
begins the row anew. A new table locks nothing.
"""

from peewee import BigIntegerField, DateField, ForeignKeyField, Model, UUIDField


def up(migrator, db):
    class User(Model):
        id = UUIDField(primary_key=True)

        class Meta:
            database = db
            table_name = "users"

    class Spending(Model):
        user = ForeignKeyField(User, primary_key=True, on_delete="CASCADE")
        day = DateField()
        tokens = BigIntegerField()

        class Meta:
            database = db
            table_name = "spendings"

    db.create_tables([Spending])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("spendings"))
