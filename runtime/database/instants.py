"""Instants as the tables keep them.

Two clocks, each for facts of its own:

- the database's (`runtime.database.base.from_now`), which all machines share, judges what stands in
  rows: sessions, codes, runs, leases, security events, and what of them has run out;
- the process's (`runtime.clock`) judges limits (rates, allowances, mailings), access tokens, and
  what happens within a process. The purge of mailings goes by the database's all the same.
"""

from datetime import UTC, datetime

import peewee


class InstantField(peewee.DateTimeField):
    """An instant: aware and in UTC outside, a plain UTC timestamp in the table."""

    formats = ("%Y-%m-%d %H:%M:%S.%f",)

    def db_value(self, value: datetime | None) -> str | None:
        """The column's value: SQLite compares the text, so each has its microseconds."""
        return None if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"

    def python_value(self, value: datetime | str | None) -> datetime | None:
        """The instant in a column, which SQLite gives as a text."""
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        # As `replace(tzinfo=UTC)`, in a quarter of the time.
        return value and datetime.combine(value.date(), value.time(), UTC)
