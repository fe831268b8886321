"""Whether a database was made so that it keeps what users write, and who they are."""

from peewee import Database, SqliteDatabase

# Addresses and usernames are ASCII, and unique by what `lower()` makes of them.
FITNESS = """
    SELECT current_setting('server_encoding'),
        lower('ABCDEFGHIJKLMNOPQRSTUVWXYZ') = 'abcdefghijklmnopqrstuvwxyz'
"""
REMEDY = "make it with TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'"


class UnfitDatabase(Exception):
    """The database would keep texts or names wrong; the text says why, and what to do."""


def demand_fit(database: Database) -> None:
    """Raises UnfitDatabase unless it is UTF-8 and folds the letters of ASCII as usual.

    With a Turkish locale INA and ina would be two accounts.
    """
    if isinstance(database, SqliteDatabase):  # Every file is fit.
        return
    encoding, folds_as_ascii = database.execute_sql(FITNESS).fetchone()
    if encoding != "UTF8":
        raise UnfitDatabase(f"names a database in {encoding}: {REMEDY}")
    if not folds_as_ascii:
        raise UnfitDatabase(f"names a database whose locale folds I otherwise: {REMEDY}")
