"""More than one worker can do: a crowd at the sign-in, hostile sockets, writers on one SQLite file.

Latencies are held against 100 ms or five times the same service's when idle, whichever is more,
and measured up to `TRIES` times: a busy machine spoils one try, a fault in the service all.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from select import POLLIN, poll

import pytest

from runtime.security.passwords import QUEUE, RETRY_AFTER_SECONDS
from tests.faults.conftest import SECRET_KEY, flask
from tests.servers import PREFIX, Answer, Load, Service

# One scrypt:32768:8:3 holds 32 MiB while it is made.
HASH_MB = 34
TRIES = 3


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """One machine with SQLite, and no limits on what one network may do."""
    url = f"sqlite:///{tmp_path / 'runtime.sqlite3'}"
    flask("db", "upgrade", DATABASE_URL=url)
    return {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY, "RATE_LIMITS": "off"}


def request(method: str, path: str, *headers: str, body: object = None) -> bytes:
    """A whole request as it goes over the wire."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {PREFIX}{path} HTTP/1.1", "Host: x", *headers]
    if payload:
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return "\r\n".join([*lines, "", ""]).encode() + payload


class Crowd:
    """Many clients of one service, without a thread for any of them."""

    def __init__(self, service: Service, count: int, receive_bytes: int | None = None):
        self._stack = ExitStack()
        self.clients = [self._connect(service.port, receive_bytes) for _ in range(count)]

    def _connect(self, port: int, receive_bytes: int | None) -> socket.socket:
        client = self._stack.enter_context(socket.socket())
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        return client

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def send(self, data: bytes) -> None:
        for client in self.clients:
            with suppress(OSError):  # cut off by the service
                client.send(data)

    def receive(self, most: int) -> list[bytes]:
        """What each has to read, at most so many bytes; nothing if the service has cut it off."""
        return [self._receive(client, most) for client in self.clients]

    def _receive(self, client: socket.socket, most: int) -> bytes:
        try:
            return client.recv(most)
        except OSError:
            return b""

    def waiting(self) -> int:
        """How many have nothing to read yet."""
        readable = poll()
        for client in self.clients:
            readable.register(client, POLLIN)
        return len(self.clients) - len(readable.poll(0))


def percentile_99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def assert_quick_meanwhile(ask: Callable[[], float], disturb: Callable[[], list[float]]) -> None:
    """What `ask` takes is about the same while `disturb` goes on, which gives its seconds."""
    tries = []
    for _ in range(TRIES):
        idle = percentile_99([ask() for _ in range(300)])
        tries.append((percentile_99(disturb()), max(0.1, 5 * idle)))
        if tries[-1][0] <= tries[-1][1]:
            return
    pytest.fail(f"never within its bound: {tries}")


def test_two_hundred_logins_at_once_leave_room_for_everybody_else(settings, people, tmp_path):
    (ada,) = people(1)
    login = {"email": ada.email, "password": ada.password}
    cores = len(os.sched_getaffinity(0))
    with Service(tmp_path, settings) as service:
        assert service.client.post("/auth/sessions", login).status == 200
        memory = service.memory_mb()

        def ask() -> float:
            return service.client.get("/health").seconds

        def two_hundred_logins() -> list[float]:
            meanwhile, most_memory = [], 0.0
            with Crowd(service, 200) as crowd:
                crowd.send(request("POST", "/auth/sessions", body=login))
                while crowd.waiting():
                    meanwhile.append(ask())
                    most_memory = max(most_memory, service.memory_mb())
                answers = [answer.decode() for answer in crowd.receive(65536)]
            statuses = [answer.split()[1] for answer in answers]
            refused = [answer for answer in answers if " 429 " in answer.split("\r\n")[0]]
            assert len(meanwhile) > 20
            assert most_memory - memory < (cores + 1) * HASH_MB + 30
            assert set(statuses) == {"200", "429"}
            assert statuses.count("200") >= cores + QUEUE
            assert all(f"Retry-After: {RETRY_AFTER_SECONDS}\r\n" in answer for answer in refused)
            return meanwhile

        assert_quick_meanwhile(ask, two_hundred_logins)


# runtime.gunicorn.bounds, of 30 and 20 seconds, as a test can wait for them.
REQUEST_SECONDS = 5
STALL_SECONDS = 4
HOSTILE = 125  # of each kind

LOWERED = f"""
from runtime.gunicorn import bounds as worker
worker.REQUEST_SECONDS, worker.STALL_SECONDS = {REQUEST_SECONDS}, {STALL_SECONDS}
from runtime.server import *
"""


class LoweredService(Service):
    """The service with bounds that a test can wait for."""

    def command(self) -> list[str]:
        (self.folder / "lowered.py").write_text(LOWERED)
        return [each.replace("runtime.server", "lowered") for each in super().command()]

    def environ(self) -> dict[str, str]:
        return super().environ() | {"PYTHONPATH": f"{self.folder}"}


def connections(service: Service) -> int:
    """How many sockets the workers hold open."""
    folders = [Path(f"/proc/{pid}/fd") for pid in service.workers()]
    return sum(os.readlink(fd).startswith("socket:") for each in folders for fd in each.iterdir())


def test_five_hundred_hostile_clients_hold_nobody_up_and_nothing_for_long(
    settings, people, tmp_path
):
    (ada,) = people(1)
    with LoweredService(tmp_path, settings) as service:
        ask = good_client(service, ada.access_token)
        ask()
        at_rest = connections(service)

        def five_hundred_clients() -> list[float]:
            meanwhile = []
            with ExitStack() as stack:

                def crowd(first: bytes, receive_bytes: int | None = None) -> Crowd:
                    crowd = stack.enter_context(Crowd(service, HOSTILE, receive_bytes))
                    crowd.send(first)
                    return crowd

                stalling = crowd(request("PATCH", "/users/me", body={"bio": "x" * 99})[:-50])
                dripping = crowd(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                reading = crowd(request("GET", "/openapi.json"), receive_bytes=1024)
                crowd(request("GET", "/health", "Connection: close"))
                for _ in range((REQUEST_SECONDS + STALL_SECONDS + 3) // 2):
                    dripping.send(b"x")
                    reading.receive(1)
                    next_at = time.monotonic() + 2
                    while time.monotonic() < next_at:
                        meanwhile.append(ask())
                        time.sleep(0.005)
                assert connections(service) <= at_rest
                refusals = stalling.receive(4096) + dripping.receive(4096)
                assert all(refusal.startswith(b"HTTP/1.1 408 ") for refusal in refusals)
            return meanwhile

        assert_quick_meanwhile(ask, five_hundred_clients)


def good_client(service: Service, token: str) -> Callable[[], float]:
    """Asks for one thing after the other; gives the seconds that the answer took."""
    paths = cycle(["/health", "/users/me"])

    def ask() -> float:
        answer = service.client.get(next(paths), token)
        assert answer.status == 200
        return answer.seconds

    return ask


def test_four_workers_that_write_into_one_sqlite_file_never_find_it_locked(
    settings, people, tmp_path
):
    everybody = people(12)
    tokens = SimpleQueue()
    for person in everybody[:4]:
        tokens.put(person.refresh_token)
    with Service(tmp_path, settings, WEB_CONCURRENCY="4") as service:

        def refresh(_number: int) -> Answer:
            token = tokens.get()
            answer = service.client.post("/auth/sessions/refresh", {"refresh_token": token})
            tokens.put(answer.json.get("refresh_token", token))
            return answer

        def rename(number: int) -> Answer:
            token = everybody[4 + number % 4].access_token
            return service.client.ask("PATCH", "/users/me", {"bio": str(number)}, token)

        def chat(number: int) -> Answer:
            token = everybody[8 + number % 4].access_token
            return service.client.post("/agent-chats", {"message": "What is 1+1?"}, token)

        with Load(refresh, 4) as refreshes, Load(rename, 4) as renames, Load(chat, 4) as chats:
            time.sleep(6)
        log = service.log

    for load in (refreshes, renames, chats):
        assert load.statuses.keys() == {200}
        assert not load.errors
    assert "locked" not in log
