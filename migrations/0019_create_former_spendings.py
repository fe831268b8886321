"""The tokens that erased accounts have spent of a day's budget, under a keyed hash of the address.

Who erases an account and signs up anew with its address goes on with what is left of the day. A
row is purged when its day is over. A new table locks nothing.
"""

from peewee import BigIntegerField, CharField, DateField, Model


def up(migrator, db):
    class FormerSpending(Model):
        owner_hash = CharField(max_length=64, primary_key=True)
        day = DateField()
        tokens = BigIntegerField()

        class Meta:
            database = db
            table_name = "former_spendings"

    db.create_tables([FormerSpending])
    # By which a purge finds a day that is over; it knows a row's key too, as those of all tables.
    db.execute_sql("CREATE INDEX former_spendings_day ON former_spendings (day, owner_hash)")


def down(migrator, db):
    migrator.migrate(migrator.drop_table("former_spendings"))
