"""The messages that a front end keeps itself, and sends along each time."""

from collections.abc import Callable

import marshmallow as ma

from runtime.api.schemas.base import MAX_FAULTS
from runtime.api.schemas.fields import Objects


class HeldMessages(Objects):
    """All that a client holds, every time; marshmallow would need 50 microseconds for each.

    `is_fine` says of most of them that the schema has nothing against them.
    """

    def __init__(self, schema: type[ma.Schema], is_fine: Callable[[object], bool], **kwargs):
        super().__init__(schema, **kwargs)
        self._is_fine = is_fine

    def _deserialize(self, value, *args, **kwargs):
        if not isinstance(value, list):
            return super()._deserialize(value, *args, **kwargs)
        faults = {}
        for number, each in enumerate(value):
            if self._is_fine(each):
                continue
            try:
                self.inner.deserialize(each, **kwargs)
            except ma.ValidationError as error:
                faults[number] = error.messages
            if len(faults) == MAX_FAULTS:
                break
        if faults:
            raise ma.ValidationError(faults)
        return value


def is_named(value: object) -> bool:
    """Whether a message has what all protocols ask for: an id, and who says it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and 0 < len(value["id"]) <= 255
        and isinstance(value.get("role"), str)
    )
