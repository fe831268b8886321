"""What is new of a client's messages, where it is finer than what the route shows."""

from collections.abc import Iterator

import pytest

from runtime.api import new_messages
from runtime.errors import InvalidParameters
from runtime.services.chats.chat_state import ChatState


class Counted(list):
    """A list that counts how many of its members were asked for."""

    asked_for = 0

    def __iter__(self) -> Iterator:
        for each in super().__iter__():
            self.asked_for += 1
            yield each


def test_of_many_parts_that_cannot_be_passed_on_only_the_first_are_looked_at():
    """A body has room for half a million, which took more than a second of processor."""
    parts = Counted([0] * 1000)

    with pytest.raises(InvalidParameters) as refused:
        new_messages.find([{"id": "u1", "role": "user", "content": parts}], ChatState())

    assert len(refused.value.faults) == parts.asked_for == new_messages.MAX_FAULTS
