"""Counting in memory, in Redis, and in memory while Redis is away."""

import socket
import sys
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerSecond

from runtime.circuit_breaker import ASK_SECONDS
from runtime.errors import TooManyRequests
from runtime.limits import memory
from runtime.limits.rates import RateLimiter
from runtime.limits.redis_store import RedisStore
from runtime.limits.store import EmbeddedStore
from tests.conftest import url_of
from tests.ports import nobody_listening

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=["memory", "redis"])
def limiter(request) -> RateLimiter:
    if request.param == "memory":
        return RateLimiter(EmbeddedStore(), True)
    return RateLimiter(RedisStore(url_of("TEST_REDIS_URL"), 64), True)


@pytest.fixture
def key() -> str:
    """Nobody else's."""
    return uuid4().hex


def three_in(seconds: int) -> RateLimitItem:
    return RateLimitItemPerSecond(3, seconds, namespace="test")


def seconds_to_wait(limiter: RateLimiter, limit: RateLimitItem, key: str) -> float:
    with pytest.raises(TooManyRequests) as refusal:
        limiter.spend(limit, key)
    return refusal.value.retry_after


def test_so_many_are_let_through_and_no_more(limiter, key):
    for _ in range(3):
        limiter.spend(three_in(3600), key)

    assert 3590 <= seconds_to_wait(limiter, three_in(3600), key) <= 3600


def test_the_window_moves(limiter, key):
    """Three in any window, not three at the end of one and three at the start of the next."""
    limiter.spend(three_in(2), key)
    time.sleep(1.4)
    for _ in range(2):
        limiter.spend(three_in(2), key)
    time.sleep(0.7)

    limiter.spend(three_in(2), key)

    with pytest.raises(TooManyRequests):
        limiter.spend(three_in(2), key)


def test_the_time_to_wait_is_true(limiter, key):
    for _ in range(3):
        limiter.spend(three_in(2), key)
        time.sleep(0.1)
    wait = seconds_to_wait(limiter, three_in(2), key)
    assert wait in (1, 2)
    time.sleep(wait + 0.01)

    limiter.spend(three_in(2), key)


def test_what_is_refused_is_not_counted(limiter, key):
    for _ in range(3):
        limiter.spend(three_in(1), key)
    ends_at = time.monotonic() + 0.9
    while time.monotonic() < ends_at:
        with suppress(TooManyRequests):
            limiter.spend(three_in(1), key)
    time.sleep(0.3)

    limiter.spend(three_in(1), key)


def test_a_check_counts_nothing(limiter, key):
    for _ in range(20):
        limiter.check(three_in(60), key)
    for _ in range(3):
        limiter.spend(three_in(60), key)

    with pytest.raises(TooManyRequests):
        limiter.check(three_in(60), key)


def test_a_cleared_limit_begins_anew(limiter, key):
    for _ in range(2):
        for _ in range(3):
            limiter.spend(three_in(60), key)
        with pytest.raises(TooManyRequests):
            limiter.check(three_in(60), key)
        limiter.clear(three_in(60), key)
    limiter.spend(three_in(60), key)


def test_keys_are_counted_apart(limiter, key):
    for part in ("a", "b"):
        for _ in range(3):
            limiter.spend(three_in(60), key, part)

    with pytest.raises(TooManyRequests):
        limiter.spend(three_in(60), key, "a")


def test_threads_at_once_never_overspend(limiter, key):
    limit = RateLimitItemPerHour(50, namespace="test")
    passed = []

    def run() -> None:
        for _ in range(10):
            with suppress(TooManyRequests):
                limiter.spend(limit, key)
                passed.append(1)

    _together([run] * 16)

    assert len(passed) == 50


def test_clearing_while_others_count_breaks_nothing(limiter, key):
    """The library's own memory raised KeyError when a key was cleared under a hit."""
    failures = []
    rounds = 10_000 if limiter._store.pool is None else 50

    def run(call) -> None:
        try:
            for _ in range(rounds):
                with suppress(TooManyRequests):
                    call(three_in(60), key)
        except Exception as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        calls = [limiter.spend] * 4 + [limiter.clear] * 2 + [limiter.check] * 2
        _together([lambda call=call: run(call) for call in calls])
    finally:
        sys.setswitchinterval(interval)

    assert failures == []


def _together(calls) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_limits_can_be_lifted(key):
    limiter = RateLimiter(EmbeddedStore(), False)
    for _ in range(10):
        limiter.spend(three_in(60), key)
        limiter.check(three_in(60), key)
    limiter.clear(three_in(60), key)


def test_with_no_redis_in_sight_this_process_counts_alone(key):
    with nobody_listening() as port:
        limiter = RateLimiter(RedisStore(f"redis://127.0.0.1:{port}/0", 4), True)
        for _ in range(3):
            limiter.spend(three_in(3600), key)

        assert 3590 <= seconds_to_wait(limiter, three_in(3600), key) <= 3600


def test_two_processes_share_what_they_count_in_redis(key):
    one, other = (RateLimiter(RedisStore(url_of("TEST_REDIS_URL"), 4), True) for _ in range(2))
    one.spend(three_in(60), key)
    other.spend(three_in(60), key)
    one.spend(three_in(60), key)

    for limiter in (one, other):
        assert 58 <= seconds_to_wait(limiter, three_in(60), key) <= 60
    other.clear(three_in(60), key)
    one.spend(three_in(60), key)


class Road:
    """The way to Redis, which can be blocked: a relay on a port of its own."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self._there = (parts.hostname, parts.port or 6379)
        self._sockets: list[socket.socket] = []
        self._server: socket.socket | None = None
        self.open()
        self.url = parts._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def open(self) -> None:
        port = getattr(self, "_port", 0)
        self._server = socket.create_server(("127.0.0.1", port))
        self._port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def block(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def lead_to(self, url: str) -> None:
        """From now on connections go elsewhere; those that are there stay."""
        self._there = urlsplit(url).hostname, urlsplit(url).port

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(self._there)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    relay = threading.Thread(target=self._relay, args=(source, target))
                    relay.daemon = True
                    relay.start()

    @staticmethod
    def _relay(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)


def test_redis_may_go_away_and_come_back(key):
    redis_url = url_of("TEST_REDIS_URL")
    road = Road(redis_url)
    limiter = RateLimiter(RedisStore(road.url, 4), True)
    bystander = RateLimiter(RedisStore(redis_url, 4), True)
    try:
        limiter.spend(three_in(60), key)
        road.block()
        for _ in range(3):
            began = time.monotonic()
            limiter.spend(three_in(60), key)
            assert time.monotonic() - began < 5
        with pytest.raises(TooManyRequests):
            limiter.spend(three_in(60), key)

        road.open()
        time.sleep(3 * ASK_SECONDS)
        limiter.spend(three_in(60), key)
        bystander.spend(three_in(60), key)

        for each in (limiter, bystander):
            with pytest.raises(TooManyRequests):
                each.spend(three_in(60), key)
    finally:
        road.block()


def test_a_process_that_counts_for_itself_keeps_nothing_that_is_over(monkeypatch):
    threads = set(threading.enumerate())
    limiter = RateLimiter(EmbeddedStore(), True)
    kept = limiter._own.storage
    for number in range(1000):
        limiter.spend(three_in(1), f"{number}")
    limiter.spend(three_in(3600), "held")
    time.sleep(1.1)
    monkeypatch.setattr(memory, "FORGET_SECONDS", 0)
    limiter.clear(three_in(3600), "cleared")

    limiter.spend(three_in(1), "last")

    assert {key.split("/")[1] for key in kept.events} == {"held", "last"}
    assert len(kept.locks) <= len(kept.events)
    assert not set(threading.enumerate()) - threads
    for _ in range(2):
        limiter.spend(three_in(3600), "held")
    assert seconds_to_wait(limiter, three_in(3600), "held") > 3590
