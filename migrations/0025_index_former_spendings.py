"""The index by which a purge finds what erased accounts have spent on a day that is over.

It knows a row's key too, as those of all that runs out do. The table has the rows of a day, or of
two: it is locked against writing for an instant.
"""


def up(migrator, db):
    db.execute_sql("CREATE INDEX former_spendings_day ON former_spendings (day, owner_hash)")


def down(migrator, db):
    db.execute_sql("DROP INDEX former_spendings_day")
