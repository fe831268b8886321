"""Redis behind short timeouts and a circuit breaker."""

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
# Before every key. The braces put all keys into one slot of a cluster: all are there or none is.
KEY_PREFIX = "{LIMITS}"
# Needs the same rights as the limits: to run a script that writes.
PROBE = "return redis.call('SET', KEYS[1], 1, 'EX', 1)"


class RedisStore:
    """Redis behind short timeouts. Connects at the first call.

    After a call that fails, all are refused at once until Redis answers again.
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
        self._demand_closed_breaker()
        if not self._turns.acquire(timeout=TIMEOUT_SECONDS):
            raise StoreUnavailable("every connection is in use")
        try:
            # Again: a thread that waited behind calls that failed must not wait for an answer too.
            self._demand_closed_breaker()
            return self._ask(function, *arguments)
        except StoreUnavailable as error:
            self._breaker.trip(str(error))
            raise
        finally:
            self._turns.release()

    def ping(self) -> None:
        """Write a key: a full Redis or a replica answers PING too. Raises StoreUnavailable."""
        self._ask(self._client.eval, PROBE, 1, f"{KEY_PREFIX}:probe")

    def _demand_closed_breaker(self) -> None:
        if self._breaker.is_open:
            raise StoreUnavailable("left alone until it answers")

    def _ask(self, function, *arguments):
        try:
            return function(*arguments)
        except (redis.RedisError, OSError) as error:
            self._disconnect()
            raise StoreUnavailable(str(error)) from error

    def _disconnect(self) -> None:
        """Close idle connections: after a failover they lead to a server that is no primary."""
        idle = self.pool.pool
        self.pool.reset()  # gives it another queue: no thread takes what is closed here
        with suppress(queue.Empty):
            while True:
                if connection := idle.get_nowait():
                    connection.disconnect()
