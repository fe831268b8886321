"""Requests to one server over HTTP, and what it says when it refuses one; knows no dialect."""

import json
import re
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3

from runtime.agent.providers.address import Address
from runtime.agent.providers.answer_body import body_of
from runtime.agent.providers.failures import refused
from runtime.agent.providers.provider import ProviderError
from runtime.agent.providers.read_deadline import ReadDeadline, deadline_pool
from runtime.agent.providers.server_error import ServerError

CONNECT_SECONDS = 5.0
MAX_ERROR_BYTES = 64 << 10
# What a log line may have of a server's words.
MAX_ERROR_CHARS = 300
# How much is told of where a redirect leads.
MAX_PLACE_CHARS = 200
# Servers that mask a key leave so many characters of its start or end.
QUOTED_CHARS = 4


class Transport:
    """One server. Safe for many threads: they share a pool of connections.

    `proxy` is the URL of a proxy that stands before it, if any.
    """

    def __init__(self, address: Address, proxy: str | None, max_connections: int) -> None:
        self.address = address
        self._pool = deadline_pool(max_connections, proxy)

    def post(
        self, path: str, body: dict[str, Any], deadline: ReadDeadline
    ) -> urllib3.BaseHTTPResponse:
        """The answer to a request that was accepted. Raises ProviderError or HTTPError."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        timeout = urllib3.Timeout(
            connect=min(CONNECT_SECONDS, max(deadline.seconds_left, 0.001)),
            read=deadline.silence_seconds,
        )
        with deadline.applied():
            # A redirect could lead the key to another host.
            response = self._pool.request(
                "POST",
                self.address.url(path),
                body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
                headers={**headers, **self.address.headers},
                timeout=timeout,
                redirect=False,
                retries=False,
                preload_content=False,
            )
        if response.status != 200:
            raise _failure(response)
        return response

    def for_log(self, message: str) -> str:
        """The message on one line and cut, without the key: servers quote its start or its end.

        A word that is masked is masked as a whole. Cut last, or half a key might be left where
        the cut goes through it.
        """
        words = message.split()
        for secret in self.address.headers.values():
            key = secret.split()[-1]
            parts = key[:QUOTED_CHARS], key[-QUOTED_CHARS:], "**"
            words = ["***" if any(each in word for each in parts) else word for word in words]
        return " ".join(words)[:MAX_ERROR_CHARS]


def _failure(response: urllib3.BaseHTTPResponse) -> ProviderError:
    status = response.status
    with closing(response):
        text = body_of(response, MAX_ERROR_BYTES)
    error = ServerError.read(text, status)
    # Servers like to quote the key, or half of it, when they refuse it.
    said = "" if status == 401 else f": {error.message}"
    if 300 <= status < 400:
        said = f", which leads to {_place(response.headers.get('Location', ''))}"
    retry_after = _retry_after(response.headers.get("Retry-After", ""))
    return refused(error, f"the server answered {status}{said}", retry_after)


def _place(location: str) -> str:
    """A redirect's target without what it may have of a secret."""
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:MAX_PLACE_CHARS]


def _retry_after(value: str) -> float | None:
    """Seconds until a Retry-After, which is a number or an HTTP date (RFC 9110 §10.2.3)."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # "-0000" gives a naive time that is meant in UTC.
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
