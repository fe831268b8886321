"""The cast, and the stage: a service of its own for every test, on real parts."""

import ctypes
import gc
import json
import os
import re
import resource
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from runtime import clock as runtime_clock
from runtime.caller import Caller
from runtime.models.users import User
from runtime.security.passwords import METHOD
from runtime.services.accounts import sessions
from tests import openapi_checker
from tests.grounds import InProcess, OverSockets
from tests.quick import quick_hash
from tests.servers import Service

PREFIX = "/api/v1"
PASSWORD = "correct horse battery"
# What the tests' process may take at most: a test that keeps what it made is found out by it.
MOST_MEMORY_MB = 500
peaks_mb: list[float] = []
# What is asked over HTTP, and so on either ground.
HTTP = ("api", "services")
SERVERS = ("TEST_DATABASE_URL",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ground",
        choices=["sqlite", "postgres", "pgbouncer"],
        default="sqlite",
        help="postgres: the HTTP tests alone, over sockets, on Postgres, Redis and two workers;"
        " pgbouncer: likewise, with PgBouncer in transaction mode in front of Postgres",
    )


def pytest_configure(config: pytest.Config) -> None:
    missing = [name for name in SERVERS if not os.environ.get(name)]
    ground = config.getoption("ground")
    if ground != "sqlite" and missing:
        raise pytest.UsageError(f"--ground={ground}: {' and '.join(missing)} must name a server")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Take only what is HTTP to the second ground."""
    place = collection_path.relative_to(Path(__file__).parent).parts
    is_other = config.getoption("ground") != "sqlite" and place and place[0] not in HTTP
    return True if is_other else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave behind what must be in the service's own process."""
    if config.getoption("ground") == "sqlite":
        return
    for item in items:
        if marker := item.get_closest_marker("in_process"):
            item.add_marker(pytest.mark.skip(reason=f"in process alone: {marker.args[0]}"))


def pytest_collection_finish() -> None:
    """Collect garbage: gunicorn's settings, which some tests import, let nothing be collected
    until a worker begins. What is there now stays, and need not be looked through."""
    gc.collect()
    gc.freeze()
    gc.enable()
    give_memory_back()


def give_memory_back() -> None:
    """Let glibc give large blocks back when they are freed: it would keep those of long bodies, for
    every thread's heap anew."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(-3, 128 * 1024)  # M_MMAP_THRESHOLD
        mallopt(-8, 2)  # M_ARENA_MAX


def peak_memory_mb() -> float:
    """Resident, of this process alone, at most so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says a process has from the one that started it.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def pytest_testnodedown(node: Any) -> None:
    """Keep what a process of pytest-xdist's took."""
    peaks_mb.append(node.workeroutput.get("peak_mb", 0))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if the tests of one process together took more memory than they may."""
    peaks_mb.append(peak_memory_mb())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak_mb"] = peaks_mb[-1]
    elif max(peaks_mb) > MOST_MEMORY_MB and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    peak = max(peaks_mb)
    said = f"peak of memory: {peak:.0f} MB"
    if peak > MOST_MEMORY_MB:
        said += f", more than the {MOST_MEMORY_MB} MB that the tests may take"
    terminalreporter.write_line(said, red=peak > MOST_MEMORY_MB)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator:
    """Under CI nothing else may keep a test from the second ground."""
    report = yield
    may = item.config.getoption("ground") == "sqlite" or item.get_closest_marker("in_process")
    if report.skipped and os.environ.get("CI") and not may:
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator:
    """Let a test's mails be sent while its output is still captured, and before the next test."""
    try:
        return (yield)
    finally:
        if ground := getattr(item, "funcargs", {}).get("ground"):
            ground.settle()


def url_of(variable: str) -> str:
    """The server that a variable names; without one the test is skipped, but never under CI."""
    url = os.environ.get(variable)
    if not url:
        assert not os.environ.get("CI"), f"{variable} must name a server under CI"
        pytest.skip(f"{variable} names no server")
    return url


@cache
def password_hash() -> str:
    """PASSWORD as a service hashes it, once for all tests: it takes a quarter of a second."""
    return generate_password_hash(PASSWORD, METHOD)


@dataclass
class Person:
    """Somebody at a device: speaks JSON, from one network, with their access token if signed in."""

    client: FlaskClient
    network: str = "127.0.0.1"
    email: str = ""
    tokens: dict = field(default_factory=dict)
    id: str = ""
    language: str | None = None

    def request(self, method: str, path: str, **kwargs) -> TestResponse:
        headers = kwargs.pop("headers", {})
        if self.tokens:
            headers = {"Authorization": f"Bearer {self.tokens['access_token']}", **headers}
        if self.language:
            headers = {"Accept-Language": self.language, **headers}
        answer = self.client.open(
            PREFIX + path,
            method=method,
            headers=headers,
            environ_base={"REMOTE_ADDR": self.network},
            # Closed too, as by a server.
            **{"buffered": True, **kwargs},
        )
        openapi_checker.check(self.client.application, answer)
        return answer

    def get(self, path: str, **kwargs) -> TestResponse:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, json=None, **kwargs) -> TestResponse:
        return self.request("POST", path, json=json, **kwargs)

    def patch(self, path: str, json=None, **kwargs) -> TestResponse:
        return self.request("PATCH", path, json=json, **kwargs)

    def delete(self, path: str, json=None, **kwargs) -> TestResponse:
        return self.request("DELETE", path, json=json, **kwargs)

    def chat(self, message: str, session_id: str | None = None) -> TestResponse:
        return self.post("/agent-chats", {"message": message, "session_id": session_id})

    def stream(self, message: str, session_id: str | None = None, **headers: str) -> TestResponse:
        """The answer to a message as it happens; `Idempotency_Key="…"` is a header."""
        body = {"message": message, "session_id": session_id}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post("/agent-chats", body, headers={"Accept": "text/event-stream", **given})

    def refresh(self, refresh_token: str | None = None) -> TestResponse:
        token = refresh_token or self.tokens["refresh_token"]
        return self.post("/auth/sessions/refresh", {"refresh_token": token})


@pytest.fixture(scope="session")
def ground(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess | OverSockets]:
    """What the service runs on, as `--ground` says."""
    folder = tmp_path_factory.mktemp("ground")
    if request.config.getoption("ground") == "sqlite":
        ground = InProcess(folder)
    else:
        is_pooled = request.config.getoption("ground") == "pgbouncer"
        ground = OverSockets(folder, *map(url_of, SERVERS), is_pooled=is_pooled)
    yield ground
    ground.close()


@pytest.fixture
def settings(ground: InProcess | OverSockets, tmp_path: Path) -> dict[str, str]:
    """The environment of the service; a test may change it before it asks for `app`."""
    return ground.settings(tmp_path)


@pytest.fixture
def serve(ground: InProcess | OverSockets) -> Iterator[Callable[[dict[str, str]], Flask]]:
    """Serves with the settings of a test's own."""
    yield ground.serve
    ground.clear()


@pytest.fixture
def app(serve: Callable, settings: dict[str, str]) -> Flask:
    """The service, its database empty."""
    return serve(settings)


@pytest.fixture
def service(ground, app: Flask, settings: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    """The service under gunicorn, for raw sockets, on the database of `app`."""
    with ground.under_gunicorn(app, settings, tmp_path) as service:
        yield service


@pytest.fixture
def strong(ground: InProcess | OverSockets, app: Flask) -> None:
    """Passwords cost what they do in service, those of members too. Asked for after them."""
    ground.strengthen(app)
    with app.app_context():
        User.update(password_hash=password_hash()).execute()


@dataclass
class Clock:
    """The time of the service, its database and the tests, standing still."""

    ground: InProcess | OverSockets

    def now(self) -> datetime:
        return runtime_clock.now()

    def hold(self, instant: datetime | None) -> None:
        runtime_clock.hold(instant)
        self.ground.hold(instant)

    def advance(self, **duration: float) -> None:
        """Move it by a `timedelta`'s arguments; negative sets it back."""
        self.hold(self.now() + timedelta(**duration))


@pytest.fixture
def clock(ground: InProcess | OverSockets) -> Iterator[Clock]:
    """The time, standing still; `clock.advance(seconds=…)` moves it."""
    clock = Clock(ground)
    clock.hold(clock.now())
    yield clock
    clock.hold(None)


class Log:
    """What the service has logged since the test asked for it, or cleared it."""

    def __init__(self, read: Callable[[], str]):
        self._read = read
        self.clear()

    def clear(self) -> None:
        self._read()
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._read()
        return self._text

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]


@pytest.fixture
def log(ground: InProcess | OverSockets, capfd: pytest.CaptureFixture) -> Log:
    return Log(lambda: ground.read_log(capfd))


@pytest.fixture
def stranger(app: Flask) -> Person:
    """Somebody who is not signed in, on a network of their own."""
    return Person(app.test_client(), network="203.0.113.66")


@pytest.fixture
def member(app: Flask) -> Callable[..., Person]:
    """Makes an account that signs in with PASSWORD, and a session of it."""

    def make(username: str, network: str = "127.0.0.1", **columns) -> Person:
        email = f"{username}@example.org"
        with app.app_context():
            user = User.create(
                username=username,
                email=email,
                password_hash=quick_hash(PASSWORD),
                email_confirmed_at=runtime_clock.now(),
                **columns,
            )
            pair = sessions.start(user, Caller(network))
        tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
        return Person(app.test_client(), network, email, tokens, str(user.id))

    return make


@pytest.fixture
def alice(member: Callable[..., Person]) -> Person:
    """Owns what the test is about."""
    return member("alice", "198.51.100.1")


@pytest.fixture
def bob(member: Callable[..., Person]) -> Person:
    """Another user, with a life of his own."""
    return member("bob", "198.51.100.2")


@pytest.fixture
def charlie(member: Callable[..., Person]) -> Person:
    """Must see nothing of Alice's."""
    return member("charlie", "198.51.100.3")


@pytest.fixture
def admin(member: Callable[..., Person]) -> Person:
    """An administrator."""
    return member("admin", "198.51.100.9", is_admin=True)


@dataclass
class Outbox:
    """The mails that were written, oldest first."""

    folder: Path
    ground: InProcess | OverSockets

    def mails(self) -> list[EmailMessage]:
        """All of them, once there are no more to come."""
        self.ground.settle()
        files = sorted(self.folder.glob("*.eml"), key=written_at)
        return [message_from_bytes(f.read_bytes(), policy=policy.default) for f in files]

    def texts(self, to: str) -> list[str]:
        """The plain text of the mails to an address."""
        mails = [mail for mail in self.mails() if mail["To"] == to]
        return [mail.get_body(("plain",)).get_content() for mail in mails]

    def code(self, to: str, username: str | None = None) -> str:
        """The code in the last mail to an address, the one for `username` if there are several."""
        text = self.texts(to)[-1]
        return re.search(rf"{username or ''}\b.*?\b(\d{{6}})\b", text, re.DOTALL).group(1)


def written_at(mail: Path) -> tuple[str, int]:
    """When a mail was queued, and of one held instant when it was written."""
    return mail.name.partition("-")[0], mail.stat().st_mtime_ns


@pytest.fixture
def outbox(ground: InProcess | OverSockets, app: Flask) -> Outbox:
    """What was mailed."""
    return Outbox(Path(app.config["INSTANCE_PATH"]) / "outbox", ground)


def at_once(*calls: Callable) -> list:
    """What the calls return, all made at the same moment by as many threads."""
    barrier = Barrier(len(calls))

    def run(call: Callable):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def events_in(stream: TestResponse | bytes) -> list[tuple[int, dict]]:
    """The numbers and the events of a stream of Server-Sent Events, as far as it came."""
    text = (stream if isinstance(stream, bytes) else stream.data).decode()
    assert "\r" not in text
    frames = [frame for frame in text.split("\n\n")[:-1] if frame != ":"]
    return [(int(id[4:]), json.loads(data[6:])) for id, data in map(str.splitlines, frames)]


def instant(text: str) -> datetime:
    """An ISO 8601 instant with `Z`, as answers have them."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)
