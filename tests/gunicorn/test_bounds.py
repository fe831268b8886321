"""What one client can cost the server at most: processor, threads and memory, never wall time.

The contract's three bounds, against the service under gunicorn as it is run.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from app import create_app
from runtime import clock
from runtime.caller import Caller
from runtime.database.base import db
from runtime.models.users import User
from runtime.services.accounts import sessions
from tests.gunicorn.test_worker import Served, connect_narrowly, get, read, serving
from tests.servers import Service

MEBIBYTE = 1024 * 1024
LOGIN = "/api/v1/auth/sessions"
CHATS = "/api/v1/agent-chats"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker with as many threads as it has by default."""
    with Service(tmp_path_factory.mktemp("service"), {"RATE_LIMITS": "off"}) as service:
        yield service


@pytest.fixture(scope="module")
def token(service: Service) -> str:
    """The access token of a user of that service."""
    app = create_app(service.settings)
    with app.app_context():
        user = User.create(
            username="ada",
            email="ada@example.org",
            password_hash="-",
            email_confirmed_at=clock.now(),
        )
        access_token = sessions.start(user, Caller("127.0.0.1")).access_token
    db.close_all()
    return access_token


def post(path: str, *headers: str) -> bytes:
    """The head of a request with a body; that for a chat is of a user, whose token is filled in."""
    fields = ["Host: x", "Content-Type: application/json", *headers]
    if path == CHATS:
        fields.append("Authorization: Bearer TOKEN")
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode()


def chunked(path: str, chunks: bytes) -> bytes:
    return post(path, "Transfer-Encoding: chunked") + chunks


def with_length(path: str, body: bytes) -> bytes:
    return post(path, f"Content-Length: {len(body)}") + body


def filled(request_bytes: bytes, token: str) -> bytes:
    return request_bytes.replace(b"TOKEN", token.encode(), 1)


def objects(size: int) -> bytes:
    """JSON of about that size that takes thirty times as much memory."""
    return b"[" + b",".join([b'{"":0}'] * (size // 7)) + b"]"


# Processor


COSTLY = {
    "chunks of a byte": chunked(LOGIN, b"1\r\nA\r\n" * 160_000 + b"0\r\n\r\n"),
    "chunks of a byte, two codings": post(LOGIN, "Transfer-Encoding: gzip, chunked")
    + b"1\r\nA\r\n" * 160_000
    + b"0\r\n\r\n",
    "chunks of a byte for a chat": chunked(CHATS, b"1\r\nA\r\n" * 340_000 + b"0\r\n\r\n"),
    "extensions": chunked(LOGIN, b"1" + b";a" * 4000 + b"\r\nA\r\n" * 250),
    "extensions in quotes": chunked(LOGIN, (b'1;a="' + b"\\a" * 4000 + b"\r\nA\r\n") * 250),
    "leading zeros": chunked(LOGIN, (b"0" * 8000 + b"1\r\nA\r\n") * 250 + b"0\r\n\r\n"),
    "trailers": chunked(LOGIN, b"0\r\n" + b"A: b\r\n" * 340_000 + b"\r\n"),
    "a size without an end": chunked(LOGIN, b"f" * 2 * MEBIBYTE),
    "spaces in a length": post(LOGIN, "Content-Length: x" + " " * 30_000 + "y"),
    "spaces before a bare CR": post(
        LOGIN, "Content-Length:" + " " * 15_000 + "x" + " " * 15_000 + "y\rz"
    ),
    "versions in a head": get("/", *["A: x HTTP/1.1"] * 2000),
    "languages": get("/no", "Accept-Language: " + "en-a;q=0.1," * 700),
    "media types": get("/api/v1/users/me", "Accept: " + "a/b;c=d," * 1000),
    "credentials": get("/api/v1/users/me", "Authorization: Digest " + 'a="b\\"",' * 1000),
    "a query": get("/api/v1/auth/users?" + "a=b&" * 2000),
    "unknown fields": with_length(
        CHATS, b"{" + b",".join(b'"%x":0' % n for n in range(99_000)) + b"}"
    ),
    "nesting": with_length(CHATS, b'{"a":' * 200_000),
    "lists": with_length(CHATS, b'{"message":[' + b",".join([b"[0]"] * 250_000) + b"]}"),
    "objects for a chat": with_length(CHATS, objects(MEBIBYTE - 1000)),
    "objects": with_length(LOGIN, objects(MEBIBYTE)),
}


@pytest.mark.parametrize("request_bytes", COSTLY.values(), ids=COSTLY)
def test_no_request_costs_a_second_of_processor(service: Service, token: str, request_bytes):
    before = service.cpu_seconds()

    answer = send(service.port, filled(request_bytes, token))

    is_of_a_user = b"TOKEN" in request_bytes
    # What a user may send is read, and refused before it costs as much as it could.
    assert service.cpu_seconds() - before < (0.4 if is_of_a_user else 1)
    assert answer.startswith(b"HTTP/1.1 ")
    assert not is_of_a_user or b" 401 " not in answer


def send(port: int, request_bytes: bytes) -> bytes:
    """Send a request, and wait for its answer, or until there is none to come."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        with suppress(OSError):  # it may have heard enough
            client.sendall(request_bytes)
        with suppress(OSError):
            return client.recv(65536)
    return b""


@pytest.mark.quiet("compares the processor's time of two moments")
def test_packets_cost_the_same_however_many_clients_wait(service: Service):
    """What unfinished requests hold is counted, not added up anew at each packet."""

    def cost(client: socket.socket) -> float:
        before = service.cpu_seconds()
        for _ in range(1500):
            client.sendall(b"x")
            time.sleep(0.0005)
        return service.cpu_seconds() - before

    head = post(CHATS, "Content-Length: 9999")
    with ExitStack() as clients:
        dripping = clients.enter_context(connected(service.port))
        dripping.sendall(head)
        alone = cost(dripping)
        for _ in range(800):
            clients.enter_context(connected(service.port)).sendall(head)
        time.sleep(0.5)
        in_company = cost(dripping)

    assert in_company < 1.3 * alone + 0.03


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=15)


# Threads


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two threads that waits for a reader for as long as these tests take."""
    folder = tmp_path_factory.mktemp("patient")
    with serving(folder, "server.STALL_SECONDS = 120", WEB_THREADS="2") as served:
        yield served


@pytest.mark.parametrize("size", [100_000, 2_500_000, 8_000_000])
def test_a_reader_that_takes_nothing_holds_no_thread(patient: Served, size: int):
    with ExitStack() as clients:
        for _ in range(3):
            client = clients.enter_context(connect_narrowly(patient, 2048))
            client.sendall(get(f"/big?bytes={size}"))
            receive_some(client)

        assert patient.get().status == 200  # or TimeoutError


def receive_some(client: socket.socket) -> None:
    """The answer has begun: a thread is, or was, at it."""
    assert client.recv(16)


def test_what_waits_to_be_sent_holds_no_more_memory_than_its_bound(tmp_path: Path):
    more = "server.UNSENT_BYTES = 4_000_000"
    more += "; server.STALL_SECONDS = 120"
    with serving(tmp_path, more) as served, ExitStack() as clients:
        readers = [clients.enter_context(connect_narrowly(served, 2048)) for _ in range(4)]
        for number, client in enumerate(readers, 1):
            client.sendall(get(f"/big?bytes={number}00000", "Connection: close"))
            receive_some(client)
        large = clients.enter_context(connect_narrowly(served, 2048))
        large.sendall(get("/big?bytes=20000000"))

        # Who has most to be sent goes first.
        with pytest.raises((ConnectionError, EOFError)):
            read(large)
        for number, client in enumerate(readers, 1):
            assert len(drained(client)) > number * 100_000 - 1000


def drained(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


# Memory


def worker_of(service: Service) -> Path:
    (pid,) = service.workers()
    return Path(f"/proc/{pid}")


def resident(worker: Path, kind: str) -> int:
    """In bytes: `VmRSS` now, `VmHWM` at most since `forget_peak`."""
    lines = (worker / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024


def forget_peak(worker: Path) -> None:
    (worker / "clear_refs").write_text("5")


BODIES = {
    "objects to a public route": with_length(LOGIN, objects(MEBIBYTE)),
    "objects to a chat": with_length(CHATS, objects(MEBIBYTE)),
    "chunks to a chat": chunked(CHATS, (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 16 + b"0\r\n\r\n"),
}
# As long as a user's may be.
READ = {name: COSTLY[name] for name in ("objects for a chat", "lists", "unknown fields", "nesting")}


@pytest.mark.parametrize("request_bytes", BODIES.values(), ids=BODIES)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_anonymous_bodies_leave_the_memory_near_idle(service: Service, request_bytes: bytes):
    """At their most too, while 64 of them come in at once."""
    assert growth(service, request_bytes.replace(b"TOKEN", b"")) < 64 * MEBIBYTE


@pytest.mark.parametrize("request_bytes", READ.values(), ids=READ)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_bodies_of_a_user_leave_the_memory_near_idle(
    service: Service, token: str, request_bytes: bytes
):
    """All of them are read, one at a time; some could take thirty times their length in memory."""
    assert b" 422 " in send(service.port, filled(request_bytes, token))
    assert growth(service, filled(request_bytes, token)) < 128 * MEBIBYTE


def growth(service: Service, request_bytes: bytes) -> int:
    """How much memory a worker takes at most, beyond that of idleness, for 64 requests at once."""
    worker = worker_of(service)
    send(service.port, request_bytes)
    idle = resident(worker, "VmRSS")
    forget_peak(worker)
    with ExitStack() as clients:
        crowd = [clients.enter_context(connected(service.port)) for _ in range(64)]
        for client in crowd:
            with suppress(OSError):  # it may have been refused already
                client.sendall(request_bytes[:-1])
        for client in crowd:
            with suppress(OSError):
                client.sendall(request_bytes[-1:])
        for client in crowd:
            with suppress(OSError):
                client.recv(65536)

    assert service.client.get("/health").status == 200
    return resident(worker, "VmHWM") - idle


def test_bodies_that_wait_for_a_thread_count_as_well(tmp_path: Path):
    """Both threads are busy, and whole bodies queue up behind them."""
    more = "server.STALL_SECONDS = server.REQUEST_SECONDS = 120"
    with serving(tmp_path, more, WEB_THREADS="2") as served, ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(served.connect()).sendall(get("/sleep?seconds=6"))
        body = b"x" * 900_000
        head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        crowd = [clients.enter_context(served.connect()) for _ in range(8)]
        for client in crowd:
            with suppress(OSError):
                client.sendall(head + body)
        statuses = [read(client).status for client in crowd]

    # HELD_BYTES is 4 MiB here. Those that came when it was used up are told so at once.
    assert 3 <= statuses.count(200) <= 5
    assert statuses.count(503) == 8 - statuses.count(200)


# The loop


FAILING = """
from pathlib import Path
class Stall(int):
    def __mul__(self, other):
        return -1 if Path("failing").exists() else int(self) * other
server.STALL_SECONDS = Stall(1)
"""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_a_connection_that_cannot_be_set_up_costs_nobody_else_anything(tmp_path: Path):
    """The kernel refuses an option of a new connection, as it may of one that is reset by then."""
    with serving(tmp_path, FAILING) as served, served.connect() as kept:
        kept.sendall(get())
        assert read(kept).status == 200
        (tmp_path / "failing").touch()
        for _ in range(3):
            with served.connect() as refused, suppress(ConnectionError):
                assert refused.recv(1) == b""
        (tmp_path / "failing").unlink()

        kept.sendall(get())
        assert read(kept).status == 200
        assert served.get().status == 200
        assert served.log.count("Booting worker") == 1
