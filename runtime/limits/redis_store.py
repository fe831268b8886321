"""Redis behind short timeouts, left alone while it is away."""

import queue
import threading
from contextlib import suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.circuit_breaker import CircuitBreaker
from runtime.errors import StoreUnavailable

# How long one call waits, for its turn or for an answer.
TIMEOUT_SECONDS = 0.25
# What stands before every key: the braces put all into one slot of a cluster, so that either all
# are there or none is.
KEY_PREFIX = "{LIMITS}"
# It needs what the limits need, rights and all: to run a script that writes.
PROBE = "return redis.call('SET', KEYS[1], 1, 'EX', 1)"


class RedisStore:
    """Redis behind short timeouts. Connects at the first call.

    A call that fails pays for it; from then on all are refused at once, until Redis is back.
    """

    mode = "redis"

    def __init__(self, url: str, connections: int):
        # redis-py would retry ten times by itself, and a command whose reply was lost would
        # count again: INCR was seen to count one call eleven times.
        self.retry = Retry(NoBackoff(), 0)
        self.key_prefix = KEY_PREFIX
        self.pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=connections + 1,  # one for ping, which waits for no turn
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=self.retry,
        )
        self._client = redis.Redis(connection_pool=self.pool, retry=self.retry)
        self._turns = threading.BoundedSemaphore(connections)
        self._breaker = CircuitBreaker("redis", self.ping)

    def call(self, function, *arguments):
        """Call what talks to Redis. Raises StoreUnavailable instead of what redis-py raises."""
        self._demand_presence()
        if not self._turns.acquire(timeout=TIMEOUT_SECONDS):
            raise StoreUnavailable("every connection is in use")
        try:
            # Again: who waited behind calls that failed must not wait for an answer as well.
            self._demand_presence()
            return self._ask(function, *arguments)
        except StoreUnavailable as error:
            self._breaker.trip(str(error))
            raise
        finally:
            self._turns.release()

    def ping(self) -> None:
        """Really ask, to write: a full Redis or a replica answers PING. Raises StoreUnavailable."""
        self._ask(self._client.eval, PROBE, 1, f"{KEY_PREFIX}:probe")

    def _demand_presence(self) -> None:
        if self._breaker.is_open:
            raise StoreUnavailable("left alone until it answers")

    def _ask(self, function, *arguments):
        try:
            return function(*arguments)
        except (redis.RedisError, OSError) as error:
            self._disconnect()
            raise StoreUnavailable(str(error)) from error

    def _disconnect(self) -> None:
        """Close what is not in use: after a failover it leads to a server that is gone, or a
        replica by now.
        """
        idle = self.pool.pool
        self.pool.reset()  # with a queue of its own: nobody takes what is closed here
        with suppress(queue.Empty):
            while True:
                if connection := idle.get_nowait():
                    connection.disconnect()
