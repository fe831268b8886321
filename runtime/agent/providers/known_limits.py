"""What one model's server was found not to take, and for how long that is believed."""

import time
from collections.abc import Collection, Sequence

from runtime.agent.messages import Message, chars_of, cut_history
from runtime.agent.providers.context_length import bytes_of

# Long enough that a busy service rarely asks in vain, short enough that an upgrade is noticed.
BELIEVED_SECONDS = 600.0


class KnownLimits:
    """The fallbacks and the length of a conversation that are known, each for `seconds`.

    The length is in bytes: emoji of one user must not shorten the English of others. After
    `seconds` twice as much is tried. Safe for many threads: each write is one assignment.
    """

    def __init__(self, seconds: float = BELIEVED_SECONDS) -> None:
        self.seconds = seconds
        self._until: dict[str, float] = {}
        self._length: tuple[int, float] | None = None

    def fallbacks(self) -> frozenset[str]:
        """The names of the fallbacks that are in use at the moment."""
        now = time.monotonic()
        return frozenset(name for name, until in [*self._until.items()] if until > now)

    def learn(self, fallbacks: Collection[str]) -> None:
        """Use these from now on."""
        self._until |= dict.fromkeys(fallbacks, time.monotonic() + self.seconds)

    def learn_length(self, most: int) -> None:
        """Remember that no more than so many bytes are taken."""
        self._length = most, time.monotonic()

    def fit(self, messages: Sequence[Message]) -> list[Message]:
        """The end of the conversation that fits, as far as is known."""
        if self._length is None:
            return list(messages)
        most, since = self._length
        periods = int((time.monotonic() - since) / self.seconds) if self.seconds else 30
        most *= 2 ** min(periods, 30)
        return cut_history(messages, most * chars_of(messages) // max(1, bytes_of(messages)))
