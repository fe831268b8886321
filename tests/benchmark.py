"""How fast the service is beside its floors: `python -m tests.benchmark`.

The floors run under the same gunicorn settings on the same Postgres: a bare Flask route that
answers a small JSON, and the same with one raw psycopg statement, a SELECT by primary key or an
UPDATE … RETURNING. They take turns with the service, so that a noisy machine is noisy for all.
Set TEST_DATABASE_URL to a Postgres that a database may be made on.
"""

import json
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from runtime.config import ROOT

WORKERS, THREADS = 2, 8
CONNECTIONS = 16
SECONDS = 2.0
ROUNDS = 5

SERVER = os.environ.get("TEST_DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres")


@dataclass
class Served:
    """A gunicorn that runs: its port and its master's process id."""

    port: int
    pid: int

    def tree(self) -> list[int]:
        """The master and its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def memory_mb(self) -> float:
        """Resident, of all processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.tree())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self) -> float:
        """Processor time of all processes so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in self.tree()]
        ticks = sum(int(stat.split()[11]) + int(stat.split()[12]) for stat in stats)
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(application: str, database_url: str, **settings: str) -> Iterator[Served]:
    """Run an application under runtime.server's settings; yields once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "PORT": str(port),
            "WEB_CONCURRENCY": str(WORKERS),
            "WEB_THREADS": str(THREADS),
            "DATABASE_URL": database_url,
            "SECRET_KEY": "a key for the benchmark " * 2,
            "RATE_LIMITS": "off",
            "INSTANCE_PATH": folder,
            **settings,
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "python:runtime.server", application]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(port)
            yield Served(port, process.pid)
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int, path: str = "/api/v1/health") -> float:
    """The seconds until a server gives its first answer."""
    began = time.monotonic()
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if sock.recv(64).startswith(b"HTTP/1.1 "):
                    return time.monotonic() - began
        except OSError:
            time.sleep(0.005)


def request(method: str, path: str, body: object = None, token: str = "") -> bytes:
    """A whole request as it goes over the wire."""
    payload = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    head += "Content-Type: application/json\r\n" if payload else ""
    return head.encode() + b"\r\n" + payload


def ask(port: int, method: str, path: str, body: object = None, token: str = "") -> dict:
    """One request, its JSON answer."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(
            request(method, path, body, token).replace(
                b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1
            )
        )
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    head, _, payload = data.partition(b"\r\n\r\n")
    assert b" 20" in head.split(b"\r\n")[0], data
    return json.loads(payload or b"{}")


class Connection:
    """A kept-alive connection that asks again as soon as it has its answer."""

    def __init__(self, port: int, following: Callable[[bytes], bytes], first: bytes):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.following = following
        self.data = b""
        self.answers = 0
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
        asked = self.following(self.data[end + 4 :])
        self.data = b""
        self.sock.sendall(asked)


def load(port: int, firsts: list[bytes], following, seconds: float, counted) -> None:
    """Keep a connection busy for each of `firsts`; puts the answers a second into `counted`."""
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
    counted.put(sum(each.answers for each in connections) / (time.monotonic() - began))


def rate(port: int, firsts: list[bytes], following=None, seconds: float = SECONDS) -> float:
    """Requests a second with a kept-alive connection for each of `firsts`."""
    counted = multiprocessing.Queue()
    process = multiprocessing.Process(target=load, args=(port, firsts, following, seconds, counted))
    process.start()
    found = counted.get(timeout=seconds + 30)
    process.join()
    return found


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


def people(url: str, count: int) -> list[dict]:
    """Accounts with a session each, made below HTTP, where no hash is needed."""
    code = (
        "import json, sys; from wsgi import app; from runtime.models import User; "
        "from runtime.services import sessions\n"
        "from runtime.passwords import passwords\n"
        "with app.app_context():\n"
        "    hashed = passwords.hash('correct horse')\n"
        f"    for i in range({count}):\n"
        "        user = User.create(username=f'user_{i}', email=f'u{i}@example.org',"
        " password_hash=hashed)\n"
        "        pair = sessions.start(user, '127.0.0.1')\n"
        "        print(json.dumps({'access': pair.access_token, 'refresh': pair.refresh_token,"
        " 'id': str(user.id), 'session': str(user.sessions.get().id)}),"
        " file=sys.stderr)\n"
    )
    environ = {**os.environ, "DATABASE_URL": url, "SECRET_KEY": "a key for the benchmark " * 2}
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    return [json.loads(line) for line in made.stderr.splitlines()]


def main() -> None:
    with (
        scratch_database() as url,
        serving("tests.benchmark_floor:app", url) as floor,
        serving("wsgi:app", url) as service,
    ):
        everybody = people(url, CONNECTIONS * (ROUNDS + 1))
        users, fresh = everybody[:CONNECTIONS], everybody[CONNECTIONS:]
        me = [request("GET", "/api/v1/users/me", token=user["access"]) for user in users]
        named = [request("GET", "/api/v1/users/user_1", token=user["access"]) for user in users]
        bare = [request("GET", "/bare")] * CONNECTIONS
        select = [request("GET", f"/select/{user['id']}") for user in users]
        update = [request("POST", f"/update/{user['session']}", {}) for user in users]
        rows = {
            "Flask": lambda: rate(floor.port, bare),
            "Flask and one SELECT": lambda: rate(floor.port, select),
            "GET /users/me": lambda: rate(service.port, me),
            "GET /users/{username}": lambda: rate(service.port, named),
            "Flask and one UPDATE": lambda: rate(floor.port, update),
            "refresh": lambda: refreshed(service.port, fresh),
        }
        found: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(ROUNDS):
            for name, measure in rows.items():
                found[name].append(measure())
        report(found, service, floor)


def refreshed(port: int, fresh: list[dict]) -> float:
    """The rate of refreshes, each round's of sessions that nobody has refreshed."""
    users = [fresh.pop() for _ in range(CONNECTIONS)]
    firsts = [refresh_again(json.dumps({"refresh_token": u["refresh"]}).encode()) for u in users]
    return rate(port, firsts, refresh_again)


def report(found: dict[str, list[float]], service: Served, floor: Served) -> None:
    middle = {name: statistics.median(rates) for name, rates in found.items()}
    beside = {
        "GET /users/me": ("Flask and one SELECT", 0.75),
        "GET /users/{username}": ("Flask and one SELECT", 0.70),
        "refresh": ("Flask and one UPDATE", 0.60),
    }
    for name, value in middle.items():
        floor_name, target = beside.get(name, (None, None))
        ratio = f"{value / middle[floor_name]:.2f} of it (target {target})" if floor_name else ""
        print(f"{name:24} {value:8.0f} a second  {ratio}")
    print(f"memory: service {service.memory_mb():.0f} MB, floor {floor.memory_mb():.0f} MB")


if __name__ == "__main__":
    main()
