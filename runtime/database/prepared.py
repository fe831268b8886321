"""Statements of every request, whose SQL is built once, and rows made of their answers."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

import peewee

from runtime.database.base import Model, db

Row = TypeVar("Row", bound=Model)


class Prepared:
    """A statement whose SQL is built once for each kind of database.

    `build` makes the query from a placeholder for each of its `values`, which are given at every
    call as the driver takes them. Building takes peewee five times as long as the database needs
    to answer. The thread's connection keeps the last rows: let them be few.
    """

    def __init__(self, build: Callable[..., peewee.Query], values: int = 1):
        self._build = build
        self._values = values
        self._sql: dict[str, str] = {}

    def rows(self, *values: object) -> list[tuple]:
        """All rows, as the driver's tuples (UUIDs are hex on SQLite).

        A RETURNING that is not read to its end would keep SQLite's write lock.
        """
        param = db.param
        if param not in self._sql:
            query = self._build(*[peewee.SQL(param)] * self._values).bind(db.obj)
            sql, constants = query.sql()
            if constants:
                raise ValueError(f"constants would have no value at the call: {constants}")
            self._sql[param] = sql
        return db.fetch_all(self._sql[param], values)


def make_row(model: type[Row], values: Sequence) -> Row:
    """A row of `model` from the values of all its columns, in order."""
    row = model(__no_default__=True)
    columns = zip(_readers(model._meta), values, strict=True)
    row.__data__ = {name: read(value) for (name, read), value in columns}
    return row


@cache
def _readers(table: peewee.Metadata) -> list[tuple[str, Callable]]:
    """Each column's name, and what makes its value of the driver's."""
    return [(field.name, field.python_value) for field in table.sorted_fields]
