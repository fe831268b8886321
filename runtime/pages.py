"""Lists that are too long for one answer: pages of rows, the newest first, by a cursor.

A cursor is the place of a page's last row: its instant and its id. Whatever is added or deleted
between two pages, the next one goes on behind it: nothing comes twice and nothing is left out.
It is no secret and needs no signature: it leads nowhere but through the list it is given with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from peewee import Field, ModelSelect, Node, Tuple, Value

from .db import InstantField, Model

# 14 digits of the microseconds since 1970, up to the year 4253, then the id: whatever matches is
# a place.
CURSOR = r"[0-9a-f]{46}"
_DIGITS = 14
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Page:
    """Some rows, and the cursor that leads to those behind them; None when there are none."""

    rows: list[Model]
    next_cursor: str | None


def page(query: ModelSelect, by: Node, *, cursor: str | None, limit: int) -> Page:
    """At most `limit` rows of a model's query, those with the latest instant `by` first.

    They begin behind the place of `cursor`, which matches CURSOR, or at the newest. An index on
    what the query looks for, `by` and the id makes every page cost the same.
    """
    id = query.model.id
    if cursor:
        query = query.where(Tuple(by, id) < place_of(_place(cursor), (InstantField(), id)))
    query = query.select_extend(by.alias("listed_at")).order_by(by.desc(), id.desc())
    rows = list(query.limit(limit + 1))
    next_cursor = _cursor(rows[limit - 1]) if len(rows) > limit else None
    return Page(rows[:limit], next_cursor)


def place_of(values: Sequence, fields: Sequence[Field]) -> Node:
    """The values of a row, to compare all of its columns with at once: `Tuple(a, b) > place`.

    An index is entered by that wherever it is; by `a >= …` alone only where rows differ in it.
    """
    pairs = zip(values, fields, strict=True)
    return Tuple(*(Value(value, converter=field.db_value) for value, field in pairs))


def _cursor(row: Model) -> str:
    ticks = (row.listed_at - _EPOCH) // _TICK
    return f"{ticks:0{_DIGITS}x}{row.id.hex}"


def _place(cursor: str) -> tuple[datetime, UUID]:
    return _EPOCH + int(cursor[:_DIGITS], 16) * _TICK, UUID(cursor[_DIGITS:])
