"""Lists that are too long for one answer: pages of rows, the newest first, by a cursor.

A cursor is the place of a page's last row: its instant and its id. The next page begins behind
it. So when rows are added or deleted between two pages, none comes twice and none is left out.
A cursor is no secret and has no signature: it leads only through the list it is given with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from uuid import UUID

from peewee import SQL, Expression, Field, Function, ModelSelect, Node, NodeList, Select, Tuple, fn

from runtime.database.base import Model, db
from runtime.database.conditions import among, place_of
from runtime.database.instants import InstantField

# 14 digits of the microseconds since 1970, up to the year 4253, then the id. All that matches is
# a place.
CURSOR = r"[0-9a-f]{46}"
_DIGITS = 14
# What one statement of a search reads: some ten milliseconds.
SEARCHED_ROWS = 5_000
# What an index finds of one column at most, to be sorted; where there are more, a search meets one
# soon.
FOUND_ROWS = 2_000
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
    query = _behind(query, by, cursor).select_extend(by.alias("listed_at"))
    rows = list(query.limit(limit + 1))
    next_cursor = _cursor(rows[limit - 1]) if len(rows) > limit else None
    return Page(rows[:limit], next_cursor)


def cut(found: Page, rows: int) -> Page:
    """The first rows of a page, with the cursor that leads to those behind them."""
    if rows >= len(found.rows):
        return found
    return Page(found.rows[:rows], _cursor(found.rows[rows - 1]))


def search(
    query: ModelSelect,
    by: Node,
    text: str,
    columns: Sequence[Field],
    *,
    cursor: str | None,
    limit: int,
    fits: Callable[[Function, str], Node] = Function.contains,
) -> Page:
    """As `page`, of those rows that have `text` in one of the columns, in any case.

    No index knows these. So the rows are read in their order until there are enough, and no more
    than SEARCHED_ROWS by one statement.
    """
    id = query.model.id
    found: list[UUID] = []
    while len(found) <= limit:
        some = _behind(query, by, cursor).limit(SEARCHED_ROWS)
        found += _having(some, by, columns, lambda c: fits(c, text.lower()), limit + 1 - len(found))
        end = some.select(id, by.alias("listed_at")).limit(1).offset(SEARCHED_ROWS - 1).first()
        if end is None:
            break
        cursor = _cursor(end)
    return page(query.where(among(id, found)), by, cursor=None, limit=limit)


def beginning_with(
    query: ModelSelect,
    by: Node,
    text: str,
    columns: Sequence[Field],
    *,
    cursor: str | None,
    limit: int,
) -> Page:
    """As `page`, of those rows of which one of the columns begins with `text`, in any case.

    The columns have ASCII alone, and each an index on `lower()` of it, in the order of bytes.
    """
    if not text.isascii():
        return Page([], None)
    found = [_beginning(query, each, text.lower()) for each in columns]
    if any(len(ids) > FOUND_ROWS for ids in found):
        fits = Function.startswith
        return search(query, by, text, columns, cursor=cursor, limit=limit, fits=fits)
    ids = {each for ids in found for each in ids}
    return page(query.where(among(query.model.id, list(ids))), by, cursor=cursor, limit=limit)


def _beginning(query: ModelSelect, column: Field, text: str) -> list[UUID]:
    """The ids of the rows of which the column begins with a text in lower case, one more than
    FOUND_ROWS at the most.
    """
    key, behind = fn.LOWER(column), text[:-1] + chr(ord(text[-1]) + 1)
    has_text = Expression(key, db.AT_LEAST, text) & Expression(key, db.BELOW, behind)
    # Ordered like the index: Postgres then uses the index even before an ANALYZE.
    rows = query.select(query.model.id).where(has_text).order_by(NodeList((key, SQL(db.BY_BYTES))))
    return [id for (id,) in rows.limit(FOUND_ROWS + 1).tuples()]


def _behind(query: ModelSelect, by: Node, cursor: str | None) -> ModelSelect:
    """The query's rows in the order of a list, from behind the cursor on."""
    id = query.model.id
    if cursor:
        query = query.where(Tuple(by, id) < place_of(_place(cursor), (InstantField(), id)))
    return query.order_by(by.desc(), id.desc())


def _having(
    query: ModelSelect,
    by: Node,
    columns: Sequence[Field],
    fits: Callable[[Function], Node],
    limit: int,
) -> list[UUID]:
    """The ids of the first rows whose column fits; upper and lower case are the same."""
    id = query.model.id
    some = query.select(id, by.alias("listed_at"), *columns).alias("some")
    one_fits = [fits(fn.LOWER(some.c[each.column_name])) for each in columns]
    order = (some.c.listed_at.desc(), some.c.id.desc())
    found = Select([some], [some.c.id]).where(reduce(or_, one_fits)).order_by(*order)
    return [id.python_value(each) for (each,) in found.limit(limit).bind(db.obj).tuples()]


def _cursor(row: Model) -> str:
    ticks = (row.listed_at - _EPOCH) // _TICK
    return f"{ticks:0{_DIGITS}x}{row.id.hex}"


def _place(cursor: str) -> tuple[datetime, UUID]:
    return _EPOCH + int(cursor[:_DIGITS], 16) * _TICK, UUID(cursor[_DIGITS:])
