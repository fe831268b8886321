"""Who asks: what services are told of a request, and what mails and journals tell of it."""

from dataclasses import dataclass, field
from datetime import datetime

from runtime import clock


@dataclass(frozen=True)
class Caller:
    """A network, as limits count it; a device's name, None if it did not say; a language; when.

    `stated_language` is None when the request asked for none that there is; `language` is the
    default then.
    """

    network: str
    device: str | None = None
    language: str = "zh"
    at: datetime = field(default_factory=lambda: clock.now())
    stated_language: str | None = None

    @property
    def origin(self) -> dict[str, str | None]:
        """The `network` and the `device`, as a journal has them."""
        return {"network": self.network, "device": self.device}
