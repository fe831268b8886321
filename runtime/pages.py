"""Long lists, read a page at a time: the newest rows first, each page from where the last ended."""

import base64
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from peewee import ModelSelect, Node, Value

from .db import InstantField

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Microseconds since then, and an id: 24 bytes, so 32 characters of base64 (RFC 4648 §5).
_PACKED = struct.Struct(">Q16s")


class Cursor(NamedTuple):
    """A row's place in a list: the instant that is sorted by, then its id. Its text is opaque."""

    at: datetime
    id: UUID

    def __str__(self) -> str:
        microseconds = (self.at - EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(_PACKED.pack(microseconds, self.id.bytes)).decode()

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError when it is no cursor's text."""
        try:
            microseconds, row_id = _PACKED.unpack(base64.urlsafe_b64decode(text))
            return cls(EPOCH + timedelta(microseconds=microseconds), UUID(bytes=row_id))
        except (struct.error, OverflowError) as error:
            raise ValueError("no cursor") from error


@dataclass(frozen=True)
class Page:
    """Some rows of a list, and where the next page begins, None behind the last."""

    rows: list
    next_cursor: Cursor | None


def newest(query: ModelSelect, at: Node, limit: int, after: Cursor | None) -> Page:
    """The newest `limit` rows of a query by the instant `at`, or those that follow a cursor.

    An index on what the query looks for, `at` and the id makes every page cost the same.
    """
    row_id = query.model.id
    if after:
        instant = Value(after.at, converter=InstantField().db_value)
        # The first condition alone is what an index can be entered by.
        query = query.where(at <= instant, (at < instant) | (row_id < after.id))
    query = query.select_extend(at.alias("listed_at")).order_by(at.desc(), row_id.desc())
    rows = list(query.limit(limit + 1))
    is_last = len(rows) <= limit
    rows = rows[:limit]
    return Page(rows, None if is_last else Cursor(rows[-1].listed_at, rows[-1].id))
