"""Sign-ups that wait for their code, and allowances, which bound how often one may be guessed.

NULL in `redirect_to` means that the mail has no link.
"""

from peewee import CharField, DateTimeField, DoubleField, IntegerField, Model, UUIDField, fn


def up(migrator, db):
    class SignUp(Model):
        id = UUIDField(primary_key=True)
        created_at = DateTimeField()
        email = CharField(max_length=254)
        username = CharField(max_length=30)
        password_hash = CharField()
        network = CharField(max_length=64)
        redirect_to = CharField(max_length=2048, null=True)
        code_hash = CharField(max_length=64)
        code_expires_at = DateTimeField()
        tries_left = IntegerField()

        class Meta:
            database = db
            table_name = "sign_ups"

    class Allowance(Model):
        key = CharField(primary_key=True)
        spent_until = DoubleField()

        class Meta:
            database = db
            table_name = "allowances"

    SignUp.add_index(SignUp.index(fn.LOWER(SignUp.email), name="sign_ups_email"))
    db.create_tables([SignUp, Allowance])


def down(migrator, db):
    migrator.migrate(migrator.drop_table("allowances"), migrator.drop_table("sign_ups"))
