"""Servers that a test may stop, pause and kill: Postgres, Redis, nginx, and the service itself.

Each is a process of its own on a free port of this machine, with its files in a folder that the
test gives. Where a program is not installed the test is skipped, but never under CI.
"""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
import redis
import urllib3

from runtime.config.settings import ROOT, SETTINGS
from tests.ports import free_port, is_taken, is_taken_by_another

PREFIX = "/api/v1"
START_SECONDS = 60
STOP_SECONDS = 30


def program(name: str) -> str:
    """Where a program is; Debian keeps Postgres' out of the PATH, and nginx in the root's."""
    places = [*sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True), f"/usr/sbin/{name}"]
    found = next((place for place in places if os.access(place, os.X_OK)), shutil.which(name))
    if found is None:
        assert not os.environ.get("CI"), f"{name} must be installed under CI"
        pytest.skip(f"{name} is not installed")
    return found


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Ask again until it holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


class PortTaken(Exception):
    """Another program listens where a server was to."""


class Server(ABC):
    """A process, its children, and a log."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen | None = None
        self._has_served = False

    @abstractmethod
    def command(self) -> list[str]:
        """The program that is the server, and its arguments."""

    def is_ready(self) -> object:
        """Whether it answers; may raise OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def popen(self, **options) -> subprocess.Popen:
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(self.command(), stdout=log, stderr=log, **options)

    def start(self):
        """Start, and wait until it answers; returns itself.

        When its port is taken it gets another, unless it has served on this one: others know it
        by that, and it waits for it.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._has_begun(deadline):
            self.stop(signal.SIGKILL)
            assert time.monotonic() < deadline, f"port {self.port} is taken"
            if self._has_served:
                time.sleep(0.1)
            else:
                self.move(free_port())
        self._has_served = True
        return self

    def move(self, port: int) -> None:
        """Take another port; the server does not run."""
        self.port = port

    def _has_begun(self, deadline: float) -> bool:
        """Start, and wait until it answers; False when another program has its port."""
        self.process = self.popen()
        seconds = deadline - time.monotonic()
        try:
            wait_until(self._answers, seconds, f"{type(self).__name__} answers")
        except PortTaken:
            return False
        return True

    def _answers(self) -> bool:
        has_ended = self.process.poll() is not None
        if is_taken(self.port) if has_ended else is_taken_by_another(self.port, self.pids()):
            raise PortTaken
        assert not has_ended, self.log[-2000:]
        try:
            return bool(self.is_ready())
        except OSError:
            return False

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait for its end."""
        self.resume()
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(STOP_SECONDS)

    def pids(self) -> list[int]:
        """The process and all that it has started."""
        found = [self.process.pid]
        for pid in found:
            found += children(pid)
        return found

    def pause(self) -> None:
        """SIGSTOP: it is there, and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, which)

    def __enter__(self):
        is_running = self.process is not None and self.process.poll() is None
        return self if is_running else self.start()

    def __exit__(self, *_error) -> None:
        self.stop()


def children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


class UnprivilegedServer(Server):
    """A program that refuses to run as root: it runs as `user`, if the tests are root's.

    Its folder is then not below pytest's, which every other pytest that starts shuts to all
    users but root.
    """

    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}

    def __init__(self, folder: Path):
        if self.user:
            folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))
            shutil.chown(folder, **self.user)
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(folder)

    def popen(self, **options) -> subprocess.Popen:
        return super().popen(**options, **self.user)


class Postgres(UnprivilegedServer):
    """A cluster of its own: `url` is a database in it."""

    def command(self) -> list[str]:
        data = self.folder / "data"
        settings = {"port": self.port, "unix_socket_directories": "", "fsync": "on"}
        options = [option for k, v in settings.items() for option in ("-c", f"{k}={v}")]
        return [program("postgres"), "-D", str(data), *options]

    def start(self):
        if not (self.folder / "data").exists():
            make = [program("initdb"), "-A", "trust", "-U", "postgres", "-D"]
            make.append(str(self.folder / "data"))
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **self.user)
        return super().start()

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """At once, with a checkpoint ("fast"); SIGQUIT is "immediate"."""
        super().stop(how)


class PgBouncer(UnprivilegedServer):
    """A pooler in front of the server that `server_url` names, of transactions unless `mode` is
    another.

    It has few sessions of the server, so that each serves many clients in turn.
    """

    SESSIONS = 4

    def __init__(self, folder: Path, server_url: str, mode: str = "transaction"):
        super().__init__(folder)
        self.server_url = server_url
        self.mode = mode

    def command(self) -> list[str]:
        server = urlsplit(self.server_url)
        user, password = unquote(server.username or "postgres"), unquote(server.password or "")
        (self.folder / "users").write_text(f'"{user}" "{password}"\n')
        (self.folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host={server.hostname} port={server.port or 5432}\n"
            "[pgbouncer]\n"
            f"pool_mode = {self.mode}\n"
            f"default_pool_size = {self.SESSIONS}\n"
            "max_client_conn = 500\n"
            "server_login_retry = 1\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self.folder}/users\n"
        )
        return [program("pgbouncer"), str(self.folder / "pgbouncer.ini")]

    @property
    def url(self) -> str:
        """The same database, through the pooler."""
        server = urlsplit(self.server_url)
        login = (server.netloc.rpartition("@")[0] or "postgres") + "@"
        return server._replace(netloc=f"{login}127.0.0.1:{self.port}").geturl()


class Redis(Server):
    """A server that keeps nothing on disk."""

    def command(self) -> list[str]:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [program("redis-server"), *where, "--save", "", "--appendonly", "no"]

    def is_ready(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return client.ping()
        except redis.RedisError:
            return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Nginx(Server):
    """A router in front of `ports`, kept-alive connections on both sides."""

    def __init__(self, folder: Path, ports: list[int]):
        super().__init__(folder)
        self.ports = ports

    def command(self) -> list[str]:
        upstreams = " ".join(f"server 127.0.0.1:{port};" for port in self.ports)
        (self.folder / "nginx.conf").write_text(
            f"daemon off; pid {self.folder}/pid; error_log {self.folder}/errors;"
            " events { worker_connections 1024; }"
            " http { access_log off;"
            f"   client_body_temp_path {self.folder}; proxy_temp_path {self.folder};"
            f"   fastcgi_temp_path {self.folder}; uwsgi_temp_path {self.folder};"
            f"   scgi_temp_path {self.folder};"
            f"   upstream service {{ {upstreams} keepalive 32; }}"
            f"   server {{ listen 127.0.0.1:{self.port};"
            "     location / { proxy_pass http://service; proxy_http_version 1.1;"
            '       proxy_set_header Connection ""; proxy_set_header Host $host;'
            "       proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
            "       proxy_set_header X-Forwarded-Proto $scheme; } } }"
        )
        return [program("nginx"), "-e", f"{self.folder}/errors", "-c", f"{self.folder}/nginx.conf"]

    def reload(self, ports: list[int]) -> None:
        """Send new requests to other ports; those under way end where they are."""
        self.ports = ports
        self.command()
        self.process.send_signal(signal.SIGHUP)


@dataclass
class Answer:
    """What came back, and after how many seconds."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes
    seconds: float

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Asks one port over connections that are kept alive, from any thread; retries nothing."""

    def __init__(self, port: int, timeout: float = 30):
        self._pool = urllib3.HTTPConnectionPool(
            "127.0.0.1", port, maxsize=64, timeout=timeout, retries=False
        )

    def hang_up(self) -> None:
        """Close the connections that wait for a next request."""
        idle = self._pool.pool
        while not idle.empty():
            if connection := idle.get_nowait():
                connection.close()
        for _ in range(idle.maxsize):
            idle.put_nowait(None)

    def ask(
        self, method: str, path: str, json: object = None, token: str | None = None, **headers: str
    ) -> Answer:
        """One request below /api/v1; raises urllib3.exceptions.HTTPError when nothing comes."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        began = time.monotonic()
        answer = self._pool.request(method, PREFIX + path, json=json, headers=headers)
        seconds = time.monotonic() - began
        return Answer(answer.status, answer.headers, answer.data, seconds)

    def get(self, path: str, token: str | None = None, **headers: str) -> Answer:
        return self.ask("GET", path, None, token, **headers)

    def post(self, path: str, json: object, token: str | None = None, **headers: str) -> Answer:
        return self.ask("POST", path, json, token, **headers)


@dataclass
class Asked:
    """One request of a load: when it was sent (monotonic), and what came of it."""

    at: float
    answer: Answer | None
    error: Exception | None

    @property
    def ended_at(self) -> float:
        return self.at + self.answer.seconds if self.answer else self.at


class Load:
    """Asks without a rest from several threads while its block runs, and keeps what came back.

    `ask` is given a number that no other request has. Each thread waits `pause` seconds between
    its requests.
    """

    def __init__(self, ask: Callable[[int], Answer], threads: int = 8, pause: float = 0):
        self.asked: list[Asked] = []
        self._ask = ask
        self._pause = pause
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self) -> None:
        while not self._over.is_set():
            at, answer, failed = time.monotonic(), None, None
            try:
                answer = self._ask(next(self._numbers))
            except Exception as error:
                failed = error
            self.asked.append(Asked(at, answer, failed))
            self._over.wait(self._pause)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def between(self, began: float, ended: float) -> list[Asked]:
        """What was sent between two instants."""
        return [each for each in self.asked if began <= each.at < ended]

    @property
    def errors(self) -> list[Exception]:
        """What came back as no answer at all."""
        return [each.error for each in self.asked if each.error]

    @property
    def statuses(self) -> Counter[int]:
        """How many answers there were of each status."""
        return Counter(each.answer.status for each in self.asked if each.answer)


class Service(Server):
    """The service under gunicorn, as the Procfile runs it; `settings` are its environment.

    `application` names another WSGI application to be run the same way.
    """

    def __init__(
        self, folder: Path, settings: dict[str, str], application: str = "wsgi:app", **options: str
    ):
        super().__init__(folder)
        self.application = application
        self.settings = {"INSTANCE_PATH": str(folder / "instance"), **settings, **options}

    def command(self) -> list[str]:
        settings = ["-c", "python:runtime.server"]
        return [sys.executable, "-m", "gunicorn", *settings, self.application]

    def environ(self) -> dict[str, str]:
        """The settings, and nothing that the tests' own environment may set of them."""
        ours = set(SETTINGS)
        clean = {name: value for name, value in os.environ.items() if name not in ours}
        return {**clean, **self.settings, "PORT": str(self.port)}

    def popen(self, **options) -> subprocess.Popen:
        return super().popen(cwd=ROOT, env=self.environ(), **options)

    def is_ready(self) -> bool:
        try:
            return self.client.get("/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    @cached_property
    def client(self) -> Client:
        return Client(self.port)

    def move(self, port: int) -> None:
        super().move(port)
        self.__dict__.pop("client", None)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; with a connection of ours open it would wait two seconds for a next request."""
        self.client.hang_up()
        super().stop(how)

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return children(self.process.pid)

    def events(self, name: str | None = None) -> list[dict]:
        """What it has logged, the events of one name if one is given."""
        whole = self.log.rpartition("\n")[0]  # the last line may be half written
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if name in (None, line["event"])]

    def memory_mb(self) -> float:
        """Resident, of all processes; a page that they share counts once (PSS)."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(re.search(r"^Pss: +(\d+)", rollup, re.M)[1]) for rollup in rollups) / 1e3

    def cpu_seconds(self) -> float:
        """Processor time of all processes so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in self.pids()]
        ticks = sum(int(stat.split()[11]) + int(stat.split()[12]) for stat in stats)
        return ticks / os.sysconf("SC_CLK_TCK")
