"""What requests have in common, and what answers have."""

import marshmallow as ma

from runtime.api.schemas.fields import Cursor, Whole

# So many faults are told of one request.
MAX_FAULTS = 20


class Schema(ma.Schema):
    """A request. What is not named in it is refused."""

    error_messages = {"unknown": "unknown_field", "type": "not_an_object"}


class PageSchema(Schema):
    """What every list takes."""

    cursor = Cursor(load_default=None, description="上一页的 next_cursor；省略则从最新的开始。")
    limit = Whole(1, 100, load_default=20)


class AnswerSchema(ma.Schema):
    """An answer. More fields may come one day, so that a reader must not refuse them."""

    class Meta:
        unknown = ma.EXCLUDE


class OpenSchema(ma.Schema):
    """A request in another protocol (AG-UI). Members that it does not name are ignored."""

    error_messages = {"type": "not_an_object"}

    class Meta:
        unknown = ma.EXCLUDE
