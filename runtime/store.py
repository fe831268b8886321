"""The connection to Redis, or the embedded stand-in for it. Never the truth, always a shortcut."""

import time

import redis
from flask import current_app
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.local import LocalProxy

TIMEOUT_SECONDS = 0.25
# After a failure Redis is left alone for so long: one request pays the timeout, not each.
BREAK_SECONDS = 1.0


class StoreUnavailable(Exception):
    """Redis does not answer, or did not a moment ago."""


class RedisStore:
    """Redis behind short timeouts and a breaker. Connects at the first command."""

    mode = "redis"

    def __init__(self, url: str, threads: int):
        # redis-py would retry ten times by itself, and a command whose reply was lost would
        # count again: INCR was seen to count one call eleven times.
        self.retry = Retry(NoBackoff(), 0)
        self.pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=threads,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=self.retry,
        )
        self.client = redis.Redis(connection_pool=self.pool, retry=self.retry)
        self._broken_until = 0.0

    def call(self, function, *arguments):
        """Call what talks to Redis. Raises StoreUnavailable instead of what redis-py raises."""
        if time.monotonic() < self._broken_until:
            raise StoreUnavailable("left alone for a moment after a failure")
        try:
            return function(*arguments)
        except (redis.RedisError, OSError) as error:
            self._broken_until = time.monotonic() + BREAK_SECONDS
            raise StoreUnavailable(str(error)) from error

    def ping(self) -> None:
        """Really ask. Raises StoreUnavailable."""
        try:
            self.client.ping()
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(str(error)) from error


class EmbeddedStore:
    """What stands in for Redis in one process."""

    mode = "embedded"
    pool = None

    def call(self, function, *arguments):
        return function(*arguments)

    def ping(self) -> None:
        """There is nothing that could be away."""


def init_app(app) -> None:
    url = app.config["REDIS_URL"]
    app.extensions["store"] = RedisStore(url, app.config["WEB_THREADS"]) if url else EmbeddedStore()


store: RedisStore | EmbeddedStore = LocalProxy(lambda: current_app.extensions["store"])
