"""Who asks: what services are told of a request, and what mails, rows and journals keep of it."""

from dataclasses import dataclass, field
from datetime import datetime

from runtime import clock


@dataclass(frozen=True)
class Caller:
    """Who asks, from where, in which language, and when.

    `network` is as limits count it: an IPv4 address, an IPv6 /56, or "unknown". `device` is a
    name such as `Chrome · Windows`, None if the client did not say. `stated_language` is the
    language that the request asks for, None if it asks for none that there is; `language` is the
    default then.
    """

    network: str
    device: str | None = None
    language: str = "zh"
    at: datetime = field(default_factory=lambda: clock.now())
    stated_language: str | None = None

    @property
    def origin(self) -> tuple[str, str | None]:
        """From where: the network and the device."""
        return self.network, self.device
