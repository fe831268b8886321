"""Redis gone, silent, full, locked: a shortcut that is missing, and nothing else."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest
import redis as redis_py
from limits import RateLimitItemPerHour

from runtime.circuit_breaker import ASK_SECONDS
from runtime.errors import StoreUnavailable, TooManyRequests
from runtime.limits.rates import RateLimiter
from runtime.limits.redis_store import TIMEOUT_SECONDS, RedisStore
from runtime.limits.store import CONNECTIONS
from tests.limits.test_rates import Road
from tests.servers import Answer, Load, Redis, Server, Service, program, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CODES_A_NETWORK = 100


@pytest.fixture(scope="module")
def service(settings: dict[str, str], tmp_path_factory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service


def resend(service: Service, number: int) -> Answer:
    """A request that asks several limits, of an address and a network that nobody else has."""
    return service.client.post(
        "/auth/verifications/resend",
        {"email": f"{time.monotonic_ns()}.{number}@example.org"},
        **{"X-Forwarded-For": network(number)},
    )


def network(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def try_code(service: Service, client: str) -> int:
    """The status of a wrong code from a network; each network may try CODES_A_NETWORK."""
    wrong = {"email": f"{time.monotonic_ns()}@example.org", "token": "000000"}
    return service.client.post(
        "/auth/verifications/verify", wrong, **{"X-Forwarded-For": client}
    ).status


def redis_status(service: Service) -> str:
    answer = service.client.get("/infra/health")
    assert answer.status == 200
    return answer.json["services"]["redis"]["status"]


def wait_until_redis_is(service: Service, status: str) -> None:
    """All who ask within a second have one answer, which may be of the second before."""
    wait_until(lambda: redis_status(service) == status, 5, f"Redis is {status}")


def keys(server: Redis) -> int:
    """How many things Redis counts."""
    with redis_py.Redis.from_url(server.url) as client:
        return client.dbsize()


def command(server: Redis, *words: object) -> None:
    with redis_py.Redis.from_url(server.url) as client:
        client.execute_command(*words)


@dataclass
class Fault:
    """A way to lose Redis, and the way back."""

    strike: Callable[[Redis], object]
    mend: Callable[[Redis], object]


def _fill(server: Redis) -> None:
    command(server, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")


def _lock(server: Redis) -> None:
    command(server, "CONFIG", "SET", "requirepass", "another")
    with redis_py.Redis.from_url(server.url, password="another") as client:
        client.client_kill_filter(_type="normal", skipme=True)


def _unlock(server: Redis) -> None:
    with redis_py.Redis.from_url(server.url, password="another") as client:
        client.config_set("requirepass", "")


FAULTS = {
    "paused": Fault(Redis.pause, Redis.resume),
    "killed": Fault(lambda server: server.stop(SIGKILL), Redis.start),
    "full": Fault(_fill, lambda server: command(server, "CONFIG", "SET", "maxmemory", "0")),
    "a replica": Fault(
        # Of a master that nobody is, and so one that still answers reads.
        lambda server: command(server, "REPLICAOF", "127.0.0.1", "1"),
        lambda server: command(server, "REPLICAOF", "NO", "ONE"),
    ),
    "locked": Fault(_lock, _unlock),
}


@pytest.mark.parametrize("name", FAULTS)
def test_without_redis_everything_is_answered_and_limits_bind_the_process(
    name: str, service: Service, redis: Redis
):
    fault = FAULTS[name]
    away, back = (len(service.events(event)) for event in ("redis_away", "redis_back"))
    with Load(lambda number: resend(service, number), threads=4, pause=0.01) as load:
        time.sleep(0.2)
        fault.strike(redis)
        try:
            wait_until(
                lambda: len(service.events("redis_away")) > away, 10, "what happened is logged"
            )
            wait_until_redis_is(service, "unhealthy")
            client = f"203.0.113.{list(FAULTS).index(name)}"
            tries = [try_code(service, client) for _ in range(CODES_A_NETWORK + 5)]
        finally:
            fault.mend(redis)
        wait_until(lambda: len(service.events("redis_back")) > back, 10, "Redis is used again")
        wait_until_redis_is(service, "healthy")
        before = keys(redis)
        wait_until(lambda: keys(redis) > before, 10, "Redis counts again")

    assert tries == [401] * CODES_A_NETWORK + [429] * 5
    assert not load.errors
    assert set(load.statuses) == {204}
    assert len(service.events("redis_away")) == away + 1
    assert len(service.events("redis_back")) == back + 1


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_silent_redis_costs_the_requests_under_way_its_timeout_and_no_later_one(
    seconds: int, service: Service, redis: Redis
):
    """Beside the requests that ask limits goes the same load of ones that touch nothing."""
    with (
        Load(lambda number: resend(service, number), threads=8, pause=0.01) as load,
        Load(lambda _: service.client.get("/health"), threads=8, pause=0.01) as control,
    ):
        time.sleep(1)
        paused_at = time.monotonic()
        redis.pause()
        time.sleep(seconds)
        resumed_at = time.monotonic()
        redis.resume()
        time.sleep(2 * ASK_SECONDS)

    def slow(asked, began: float, ended: float) -> int:
        return sum(each.answer.seconds >= TIMEOUT_SECONDS for each in asked.between(began, ended))

    first = [each.answer.seconds for each in load.between(paused_at - 0.1, paused_at + 0.2)]
    later = paused_at + 3 * TIMEOUT_SECONDS, resumed_at
    others = [each.answer.seconds for each in control.between(paused_at - 0.1, paused_at + 0.2)]
    print(
        f"first: at most {max(first):.3f} s; then {len(load.between(*later))} requests, of which"
        f" {slow(load, *later)} as slow as the timeout, beside {slow(control, *later)} of control"
    )
    assert not load.errors
    assert set(load.statuses) == {204}
    # Four calls a request: were each to wait, it would take four times as long.
    assert TIMEOUT_SECONDS <= max(first) < 2 * TIMEOUT_SECONDS + max(others)
    # Were each of the eight threads to look every second whether Redis is back, there would be
    # eight slow ones a second. Two are the machine's, and what has nothing to do with Redis.
    assert slow(load, *later) <= 2 * (later[1] - later[0]) + 2 * slow(control, *later)


@pytest.mark.quiet("tells a quarter of a second from half of one")
def test_calls_that_wait_for_a_connection_wait_no_longer_than_the_others(redis: Redis):
    store = RedisStore(redis.url, 2)
    took = []

    def call() -> None:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.call(store.ping)
        took.append(time.monotonic() - began)

    redis.pause()
    try:
        threads = [threading.Thread(target=call) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        redis.resume()

    assert max(took) < 1.8 * TIMEOUT_SECONDS


def test_while_redis_is_away_no_request_asks_it(redis: Redis):
    store, asked = RedisStore(redis.url, 4), []
    redis.pause()
    try:
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                store.call(lambda: [asked.append(1), store.ping()])
    finally:
        redis.resume()

    assert len(asked) == 1


def test_the_return_of_redis_brings_no_storm_of_connections(service: Service, redis: Redis):
    back = len(service.events("redis_back"))
    with Load(lambda number: resend(service, number), threads=48) as load:
        time.sleep(0.5)
        redis.stop()
        time.sleep(2 * ASK_SECONDS)
        redis.start()
        with redis_py.Redis.from_url(redis.url) as client:
            before = client.info("stats")["total_connections_received"]
            wait_until(lambda: len(service.events("redis_back")) > back, 10, "Redis is used again")
            time.sleep(1)
            opened = client.info("stats")["total_connections_received"] - before

    assert not load.errors
    assert set(load.statuses) == {204}
    # One looked for its return, however many requests there were, and may have met the old pool.
    assert 1 <= opened <= CONNECTIONS + 2


def test_threads_share_few_connections(redis: Redis):
    """A hosted Redis allows 20 in all."""
    store = RedisStore(redis.url, 4)
    slowly = redis_py.Redis(connection_pool=store.pool, retry=store.retry)

    def call(_number: int) -> None:
        for _ in range(3):
            with suppress(StoreUnavailable):
                store.call(slowly.blpop, ["nothing"], 0.02)

    with redis_py.Redis.from_url(redis.url) as watcher, ThreadPoolExecutor(32) as threads:
        before = len(watcher.client_list())
        calls = [threads.submit(call, number) for number in range(32)]
        most = before
        while not all(each.done() for each in calls):
            most = max(most, len(watcher.client_list()))

    # One more may be what looks for another test's Redis.
    assert 4 <= most - before < 8
    # Who got no turn in time was answered without, and nobody else for that.
    store.call(store.ping)


def test_after_a_failover_the_connections_of_before_are_not_used(redis: Redis, tmp_path: Path):
    """The name leads to another server now; the old one still answers, as its replica."""
    road, together = Road(redis.url), threading.Barrier(4)
    store = RedisStore(road.url, 4)

    def call() -> None:
        together.wait()
        store.ping()

    with Redis(tmp_path / "successor") as successor, ThreadPoolExecutor(4) as threads:
        try:
            for each in [threads.submit(store.call, call) for _ in range(4)]:
                each.result()
            road.lead_to(successor.url)
            command(redis, "REPLICAOF", "127.0.0.1", str(successor.port))
            with pytest.raises(StoreUnavailable, match="read only"):
                store.call(store.ping)

            wait_until(lambda: is_there(store), 10, "it is asked again")
            for each in [threads.submit(store.call, call) for _ in range(4)]:
                each.result()
        finally:
            command(redis, "REPLICAOF", "NO", "ONE")
            road.block()


def is_there(store: RedisStore) -> bool:
    try:
        store.call(store.ping)
    except StoreUnavailable:
        return False
    return True


def test_redis_is_not_told_who_asks(service: Service, redis: Redis):
    """Its keys say neither an address nor a network, which the database keeps to itself."""
    with redis_py.Redis.from_url(redis.url) as client:
        client.flushall()
        assert resend(service, 7).status == 204
        names = [name.decode() for name in client.scan_iter() if b"probe" not in name]

    assert names
    assert not [name for name in names if "@" in name or "example" in name or network(7) in name]


class LoadingRedis(Redis):
    """Takes two seconds to read what it had saved; until then it answers nothing else."""

    def command(self) -> list[str]:
        slowly = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]
        return [*super().command(), *slowly, "--dbfilename", "dump.rdb"]


def test_a_redis_that_loads_its_data_is_away_until_it_has(tmp_path: Path):
    with LoadingRedis(tmp_path / "redis") as server:
        with redis_py.Redis.from_url(server.url) as client:
            for number in range(100):
                client.set(f"key {number}", os.urandom(1000))
            client.save()
        server.stop(SIGKILL)
        server.process = server.popen()
        wait_until(lambda: is_loading(server), 10, "Redis loads")

        store = RedisStore(server.url, 4)
        with pytest.raises(StoreUnavailable, match="loading"):
            store.call(store.ping)
        wait_until(lambda: is_there(store), 20, "it is used again")


def is_loading(server: Redis) -> bool:
    try:
        command(server, "SET", "key", "value")
    except redis_py.BusyLoadingError:
        return True
    except redis_py.RedisError:
        return False
    raise AssertionError("it had loaded before we looked")


class TlsRedis(Redis):
    """Speaks TLS with a certificate of its own; its one user may touch the limits' keys alone."""

    def command(self) -> list[str]:
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        if not certificate.exists():
            make = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
            make += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
            make += ["-keyout", str(key), "-out", str(certificate)]
            subprocess.run(make, check=True, capture_output=True)
        tls = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        tls += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        rights = ["~{LIMITS}:*", "+@read", "+@write", "+@scripting", "+@connection"]
        users = ["--user", "default", "off", "--user", "limits", "on", ">pass%word", *rights]
        return [*super().command(), *tls, *users]

    def is_ready(self) -> object:
        return Server.is_ready(self)

    @property
    def url(self) -> str:
        authority = f"limits:pass%25word@127.0.0.1:{self.port}"
        return f"rediss://{authority}/0?ssl_ca_certs={self.folder}/certificate.pem"


def test_limits_are_counted_over_tls_as_a_user_with_few_rights(tmp_path: Path):
    with TlsRedis(tmp_path / "redis") as server:
        store, three = RedisStore(server.url, 4), RateLimitItemPerHour(3)
        limiter, another = RateLimiter(store, True), RateLimiter(store, True)
        store.ping()
        for each in (limiter, another, limiter):
            each.spend(three, "ada")
        for each in (limiter, another):
            with pytest.raises(TooManyRequests):
                each.spend(three, "ada")
        another.clear(three, "ada")
        limiter.spend(three, "ada")
        store.call(store.ping)  # it was not away meanwhile
