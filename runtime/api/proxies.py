"""Who asks, behind proxies: the address that the last one trusted says it was asked from."""

import ipaddress
import logging
import re
import threading
from collections.abc import Mapping
from functools import lru_cache

from flask import Flask

from runtime import logs

# What is no address, or is not said by a proxy that is trusted.
UNKNOWN = "unknown"
HINT = "if a proxy stands in front, set TRUSTED_PROXIES to how many: all its clients count as one"
# Longer than any address with a port: what a proxy took from its client is kept no longer.
MAX_ADDRESS = 64
# A home has a /56 as a rule, 256 of the networks that a machine in it can choose from.
IPV6_BITS = 56
# What IPv4 clients are called where the servers have IPv6 alone (RFC 6052, RFC 7755).
IPV4_IN_IPV6 = ipaddress.ip_network("64:ff9b::/96")

# With a port behind it, as some proxies write it, or a zone (RFC 4007 §11).
_PORT = r"(?::[0-9]{1,5})?"
_ZONE = r"(?:%[A-Za-z0-9._~-]+)?"
_IPV4 = re.compile(rf"([0-9.]+){_PORT}")
_IPV6 = re.compile(rf"([0-9A-Fa-f:.]+){_ZONE}")
_BRACKETED = re.compile(rf"\[([0-9A-Fa-f:.]+){_ZONE}\]{_PORT}")


class Proxies:
    """The proxies in front of the service, `hops` of which are trusted.

    Each adds to `X-Forwarded-For` the address that it was asked from. What stands left of those
    is the client's own word, and is not read. Where fewer stand than there are proxies, or one
    that is no address, the network is unknown: not the proxy's own, which is everybody's.
    """

    def __init__(self, hops: int):
        self._hops = hops
        self._has_warned = False
        self._lock = threading.Lock()

    def network(self, environ: Mapping[str, str]) -> str:
        """Where a request comes from, as limits count it: an IPv4 address, an IPv6 /56, or
        UNKNOWN.
        """
        if not self._hops:
            return network_of(environ.get("REMOTE_ADDR", "")[:MAX_ADDRESS])
        said = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", self._hops)[-self._hops :]
        if len(said) < self._hops:
            return UNKNOWN
        return network_of(said[0].strip(" \t")[:MAX_ADDRESS])

    def look(self, environ: Mapping[str, str]) -> None:
        """Log once that a proxy seems to stand in front that TRUSTED_PROXIES does not count.

        To every limit all its clients are one network then, that of the proxy.
        """
        if self._hops or self._has_warned:
            return
        if "HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ:
            with self._lock:
                is_first, self._has_warned = not self._has_warned, True
            if is_first:
                logs.event("forwarded_address_ignored", level=logging.WARNING, hint=HINT)


@lru_cache(1024)
def network_of(address: str) -> str:
    """The network of an address as a socket or a proxy writes it; UNKNOWN if it is none."""
    match = _IPV4.fullmatch(address) or _BRACKETED.fullmatch(address) or _IPV6.fullmatch(address)
    try:
        found = ipaddress.ip_address(match[1] if match else "")
    except ValueError:
        return UNKNOWN
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    if found in IPV4_IN_IPV6:
        return str(ipaddress.IPv4Address(found.packed[-4:]))
    return str(ipaddress.ip_network((found, IPV6_BITS), strict=False))


def init_app(app: Flask) -> None:
    """Believe as many proxies as TRUSTED_PROXIES says."""
    app.extensions["proxies"] = Proxies(app.config["TRUSTED_PROXIES"])
