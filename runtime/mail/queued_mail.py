"""A mail that waits to be sent."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from runtime import logs
from runtime.mail.letters import Letter

UNWRITTEN = "unwritten"
# What writes a letter when it is its turn; None for no mail.
MakesLetter = Callable[[], Letter | None]


@dataclass(order=True)
class QueuedMail:
    """A mail in the queue, ordered by when it is next tried (on the monotonic clock)."""

    due_at: float
    number: int
    to: str = field(compare=False)
    letter: Letter | MakesLetter | None = field(compare=False, repr=False)
    good_until: datetime = field(compare=False)
    queued_at: datetime = field(compare=False)
    name: str = field(compare=False)
    # Of the request that queued it: every line about the mail has it.
    request_id: str | None = field(compare=False, default_factory=logs.request_id.get)
    message_id: str = field(compare=False, default_factory=lambda: secrets.token_hex(16))
    tries: int = field(compare=False, default=0)
    is_refused: bool = field(compare=False, default=False)

    @property
    def kind(self) -> str:
        """The name of its letter; UNWRITTEN for a moment, until a sender has written it."""
        return self.letter.name if isinstance(self.letter, Letter) else UNWRITTEN
