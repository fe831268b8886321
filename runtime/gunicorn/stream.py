"""An answer that comes as it happens, and the rest of one that is there whole.

An application returns a `Stream`, which tells what there is and when there is more. A server that
has a loop gives it to its `Sender`; any other may iterate over it as over every answer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator


class Stream(ABC):
    """An answer that comes as it happens.

    Its sender calls `listen` to be told of more, `read` while it `has_more` and until it `is_over`,
    and always `close` in the end.
    """

    # What means nothing, to be sent when nothing else was for so long.
    heartbeat: bytes
    heartbeat_seconds: float

    @property
    @abstractmethod
    def has_more(self) -> bool:
        """Whether something is there to be read."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether all was read."""

    @property
    @abstractmethod
    def is_elsewhere(self) -> bool:
        """Whether what is still to come is of another process, and can be had there as well."""

    @abstractmethod
    def read(self) -> bytes:
        """The next piece of what is there and was not read before; waits for nothing."""

    @abstractmethod
    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on another thread, whenever there is more to read."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """All of it; waits for what is still to come."""


class Remainder(Stream):
    """An answer of which everything is there: nothing follows what is unsent."""

    heartbeat, heartbeat_seconds = b"", 0
    has_more, is_over, is_elsewhere = False, True, False

    def read(self) -> bytes:
        return b""

    def listen(self, wake: Callable[[], None]) -> None:
        """There is never more."""

    def close(self) -> None:
        """It holds nothing."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())
