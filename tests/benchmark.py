"""How fast the service is beside its floors: `python -m tests.benchmark`.

The floors run under the same gunicorn settings on the same Postgres: a bare Flask route that
answers a small JSON, and the same with one raw psycopg statement, a SELECT by primary key or an
UPDATE … RETURNING, or with the three of a chat run. One more floor is what people run instead: the
route with a SELECT under gunicorn's own threaded worker. They take turns with the service, and each
ratio is the median of the turns', so that a noisy machine is noisy for both. Set TEST_DATABASE_URL
to a Postgres that a database may be made on.
"""

import json
import logging
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from flask import Flask
from werkzeug.security import check_password_hash, generate_password_hash

from app import create_app
from runtime.caller import Caller
from runtime.config.settings import ROOT
from runtime.models.users import User
from runtime.security.passwords import METHOD, passwords
from runtime.services.accounts import sessions
from tests.servers import Service

WORKERS, THREADS = 2, 8
CONNECTIONS = 16
SECONDS = 2.0
ROUNDS = 5
PASSWORD = "correct horse"

SERVER = os.environ.get("TEST_DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres")

# Each row's own floors, and how much of each is wanted, if anything.
TARGETS = {
    "GET /users/me": {"Flask and one SELECT": 0.75, "SELECT under gthread": None},
    "GET /users/{username}": {"Flask and one SELECT": 0.70},
    "refresh": {"Flask and one UPDATE": 0.60},
    "login": {"hashes alone": 0.95},
    "me beside two logins": {"me, 8 connections": 0.8},
}
# Those without: at least so many runs a second, at most so many ms each, MB and seconds.
RUNS_A_SECOND = 1500
RUN_MS = 3
MEMORY_MB = 130
FIRST_ANSWER_SECONDS = 0.45

# Whose processor time is not the service's, or not only theirs.
WITHOUT_COST = {"hashes alone", "me beside two logins"}


class Rate(NamedTuple):
    """How many requests were answered a second, and how many in all."""

    a_second: float
    answers: int


def request(method: str, path: str, body: object = None, token: str = "") -> bytes:
    """A whole request as it goes over the wire."""
    payload = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    head += "Content-Type: application/json\r\n" if payload else ""
    return head.encode() + b"\r\n" + payload


class Connection:
    """A kept-alive connection that asks again as soon as it has its answer, while it may."""

    def __init__(self, port: int, following: Callable[[bytes], bytes], first: bytes):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.following = following
        self.data = b""
        self.answers = 0
        self.may_ask, self.waits = True, True
        self.sock.sendall(first)

    def readable(self) -> None:
        self.data += self.sock.recv(65536)
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self.data.lower().find(b"content-length: ")
        length = int(self.data[at + 16 : self.data.find(b"\r\n", at)])
        if len(self.data) < end + 4 + length:
            return
        assert self.data.startswith(b"HTTP/1.1 20"), self.data
        self.answers += 1
        self.waits = self.may_ask
        if self.may_ask:
            asked = self.following(self.data[end + 4 :])
            self.data = b""
            self.sock.sendall(asked)


def load(port: int, firsts: list[bytes], following, seconds: float, counted) -> None:
    """Keep a connection busy for each of `firsts`; puts the Rate into `counted`."""
    selector = selectors.DefaultSelector()
    connections = []
    for first in firsts:
        connection = Connection(port, following or (lambda _body, first=first: first), first)
        selector.register(connection.sock, selectors.EVENT_READ, connection)
        connections.append(connection)
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for key, _ in selector.select(1):
            key.data.readable()
    # What is under way counts too: of a few slow ones it is a good part.
    for each in connections:
        each.may_ask = False
    while any(each.waits for each in connections):
        for key, _ in selector.select(1):
            key.data.readable()
    answers = sum(each.answers for each in connections)
    counted.put(Rate(answers / (time.monotonic() - began), answers))


@contextmanager
def background(function: Callable, *arguments) -> Iterator[multiprocessing.Queue]:
    """Run a function in a process of its own; it puts what it found into the queue."""
    found = multiprocessing.Queue()
    process = multiprocessing.Process(target=function, args=(*arguments, found))
    process.start()
    try:
        yield found
    finally:
        process.join()


def rate(port: int, firsts: list[bytes], following=None, seconds: float = SECONDS) -> Rate:
    """What a kept-alive connection for each of `firsts` gets in `seconds`."""
    with background(load, port, firsts, following, seconds) as found:
        return found.get(timeout=seconds + 30)


def refresh_again(body: bytes) -> bytes:
    """The request that refreshes the session of an answer again."""
    token = json.loads(body)["refresh_token"]
    return request("POST", "/api/v1/auth/sessions/refresh", {"refresh_token": token})


@contextmanager
def scratch_database() -> Iterator[str]:
    """A database of its own on the server, migrated, dropped afterwards."""
    name = f"benchmark_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(SERVER.replace("postgres:", "postgresql:", 1), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        url = SERVER.rpartition("/")[0] + f"/{name}"
        environ = {**os.environ, "DATABASE_URL": url, "SECRET_KEY": "x" * 32}
        command = [sys.executable, "-m", "flask", "db", "upgrade"]
        subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)
        try:
            yield url
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def people(app: Flask, count: int) -> list[dict]:
    """Accounts with a session each, made below HTTP, where no hash is needed for each."""
    made = []
    with app.app_context():
        hashed = passwords.hash(PASSWORD)
        for number in range(count):
            name = f"user_{number}"
            user = User.create(username=name, email=f"{name}@example.org", password_hash=hashed)
            pair = sessions.start(user, Caller("127.0.0.1"))
            session = str(user.sessions.get().id)
            made.append(
                {
                    "id": str(user.id),
                    "session": session,
                    "email": user.email,
                    "access": pair.access_token,
                    "refresh": pair.refresh_token,
                }
            )
    return made


class StockService(Service):
    """The same application under gunicorn's own threaded worker, with nothing set but its size."""

    def command(self) -> list[str]:
        size = ["--worker-class=gthread", f"--workers={WORKERS}", f"--threads={THREADS}"]
        # Kept-alive connections wait longer between the rows than gunicorn's 2 s.
        where = [f"--bind=0.0.0.0:{self.port}", "--keep-alive=95", "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", *size, *where, self.application]


class Benchmark:
    """The service and its floors, side by side, and what is measured of them."""

    def __init__(self, folder: Path, url: str):
        settings = {
            "DATABASE_URL": url,
            "SECRET_KEY": "a-key-for-the-benchmark-" * 2,
            "RATE_LIMITS": "off",
            "WEB_CONCURRENCY": str(WORKERS),
            "WEB_THREADS": str(THREADS),
        }
        self.floor = Service(folder / "floor", settings, "tests.benchmark_floor:app")
        self.stock = StockService(folder / "stock", settings, "tests.benchmark_floor:app")
        self.service = Service(folder / "service", settings)
        self.app = create_app({**settings, "INSTANCE_PATH": str(folder)})
        logging.getLogger("runtime").setLevel(logging.WARNING)  # this process's alone
        everybody = people(self.app, CONNECTIONS * (ROUNDS + 2))
        self.users, self.fresh = everybody[:CONNECTIONS], everybody[CONNECTIONS:]

    def rows(self) -> dict[str, Callable[[], Rate]]:
        """Each row's name, and what measures it once."""
        service, floor, users = self.service.port, self.floor.port, self.users
        me = [request("GET", "/api/v1/users/me", token=user["access"]) for user in users]
        named = [request("GET", "/api/v1/users/user_1", token=user["access"]) for user in users]
        select = [request("GET", f"/select/{user['id']}") for user in users]
        update = [request("POST", f"/update/{user['session']}", {}) for user in users]
        logins = [login(user) for user in users]
        floor_runs = [
            request("POST", f"/run/{user['id']}/{user['session']}", {"message": "hi"})
            for user in users
        ]
        chats = [
            request("POST", "/api/v1/agent-chats", {"message": "hi"}, user["access"])
            for user in users
        ]
        return {
            "Flask": lambda: rate(floor, [request("GET", "/bare")] * CONNECTIONS),
            "Flask and one SELECT": lambda: rate(floor, select),
            "SELECT under gthread": lambda: rate(self.stock.port, select),
            "GET /users/me": lambda: rate(service, me),
            "GET /users/{username}": lambda: rate(service, named),
            "Flask and one UPDATE": lambda: rate(floor, update),
            "refresh": lambda: self.refreshes(),
            "hashes alone": hashes,
            "login": lambda: rate(service, logins[:4], seconds=2 * SECONDS),
            "me, 8 connections": lambda: rate(service, me[:8]),
            "me beside two logins": lambda: self.beside_logins(me[:8], logins[:2]),
            # Four a worker. It answers six at once, so that it may get two of the other's.
            "Flask and a run's SQL": lambda: rate(floor, floor_runs[: CONNECTIONS // 2]),
            "chat runs": lambda: rate(service, chats[: CONNECTIONS // 2]),
            # The embedded model answers at once: all the time is the service's.
            "chat run, one at a time": lambda: rate(service, chats[:1]),
        }

    def server_of(self, name: str) -> Service:
        """The server that a row is measured on."""
        if name == "SELECT under gthread":
            return self.stock
        return self.floor if name.startswith("Flask") else self.service

    def refreshes(self) -> Rate:
        """Each round's of sessions that nobody has refreshed."""
        users = [self.fresh.pop() for _ in range(CONNECTIONS)]
        firsts = [
            refresh_again(json.dumps({"refresh_token": u["refresh"]}).encode()) for u in users
        ]
        return rate(self.service.port, firsts, refresh_again)

    def beside_logins(self, firsts: list[bytes], logins: list[bytes]) -> Rate:
        with background(load, self.service.port, logins, None, SECONDS + 0.5):
            time.sleep(0.25)
            return rate(self.service.port, firsts)


def login(user: dict) -> bytes:
    body = {"email": user["email"], "password": PASSWORD}
    return request("POST", "/api/v1/auth/sessions", body)


def hashes() -> Rate:
    """Hashes on as many processes as the service has workers, and nothing else."""
    with ExitStack() as stack:
        found = [stack.enter_context(background(hash_on, SECONDS)) for _ in range(WORKERS)]
        rates = [queue.get(timeout=SECONDS + 30) for queue in found]
    return Rate(sum(each.a_second for each in rates), sum(each.answers for each in rates))


def hash_on(seconds: float, counted) -> None:
    began, count = time.monotonic(), 1
    hashed = generate_password_hash(PASSWORD, METHOD)
    while time.monotonic() < began + seconds:
        assert check_password_hash(hashed, PASSWORD)
        count += 1
    counted.put(Rate(count / (time.monotonic() - began), count))


def first_answer(server: Service) -> float:
    """Seconds from the start of a server to its first answer."""
    began = time.monotonic()
    with server:
        return time.monotonic() - began


def main() -> None:
    with scratch_database() as url, tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(Path(folder), url)
        starts = {
            server.application: statistics.median(first_answer(server) for _ in range(ROUNDS))
            for server in (benchmark.floor, benchmark.service)
        }
        with benchmark.floor, benchmark.stock, benchmark.service:
            rows = benchmark.rows()
            chosen = [name for name in rows if not sys.argv[1:] or name in sys.argv[1:]]
            found: dict[str, list[float]] = {name: [] for name in chosen}
            cost: dict[str, list[float]] = {name: [] for name in chosen}
            for _ in range(ROUNDS):
                for name in chosen:
                    server = benchmark.server_of(name)
                    before = server.cpu_seconds()
                    measured = rows[name]()
                    found[name].append(measured.a_second)
                    cost[name].append((server.cpu_seconds() - before) / measured.answers * 1000)
            report(found, cost)
            targets = f"(targets {FIRST_ANSWER_SECONDS} and {MEMORY_MB})"
            for server, wanted in ((benchmark.floor, ""), (benchmark.service, targets)):
                print(
                    f"{server.application:24} first answer {starts[server.application]:.2f} s,"
                    f" memory after load {server.memory_mb():.0f} MB {wanted}"
                )


def report(found: dict[str, list[float]], cost: dict[str, list[float]]) -> None:
    """Print a line a row: requests a second, processor time of each, and beside what is wanted."""
    for name, rates in found.items():
        spent = "" if name in WITHOUT_COST else f"{statistics.median(cost[name]):.2f} ms"
        middle = statistics.median(rates)
        print(f"{name:24} {middle:8.0f} a second {spent:>12}  {beside_target(name, found)}")


def beside_target(name: str, found: dict[str, list[float]]) -> str:
    """A row's figure as its target has it, and the target; nothing if it has none."""
    if name == "chat run, one at a time":
        return f"{1000 / statistics.median(found[name]):.2f} ms each (target {RUN_MS})"
    if name == "chat runs":
        return f"(target {RUNS_A_SECOND})"
    ratios = []
    for floor, target in TARGETS.get(name, {}).items():
        if floor in found:
            pairs = zip(found[name], found[floor], strict=True)
            ratio = statistics.median(ours / its for ours, its in pairs)
            ratios.append(f"{ratio:.2f} of {floor}" + (f" (target {target})" if target else ""))
    return ", ".join(ratios)


if __name__ == "__main__":
    main()
