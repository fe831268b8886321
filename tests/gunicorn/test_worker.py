"""The server's bounds, against a real gunicorn over real sockets.

The application behind it is a small one of this file's own: what is asked for here is what holds
whatever the application does. Bounds are lowered in a settings file, so that they are met soon.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import mean, median

import pytest

from runtime.config.settings import SETTINGS
from runtime.errors import REFUSALS
from runtime.gunicorn.bounds import BODY_BYTES
from runtime.gunicorn.request_buffer import HEAD_BYTES, RequestBuffer, RequestState
from tests.servers import Server, Service

ROOT = Path(__file__).resolve().parents[2]

APPLICATION = """
    import gc
    import time
    from pathlib import Path
    from urllib.parse import parse_qs

    from runtime import logs

    logs.init_app(None)

    collects_while_loading = gc.isenabled()

    class Mail:
        def drain(self, timeout_seconds):
            time.sleep(0.3)
            Path("drained").write_text(str(timeout_seconds))

    class Application:
        extensions = {"mail": Mail()}

        def __call__(self, environ, start_response):
            query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
            status, body = "200 OK", [b"ok"]
            if environ["PATH_INFO"] == "/echo":
                body = [environ["wsgi.input"].read()]
            elif environ["PATH_INFO"] == "/collector":
                found = collects_while_loading, gc.isenabled(), gc.get_freeze_count() > 1000
                body = [str(found).encode()]
            elif environ["PATH_INFO"] == "/scheme":
                body = [environ["wsgi.url_scheme"].encode(), environ["SCRIPT_NAME"].encode()]
            elif environ["PATH_INFO"] == "/sleep":
                time.sleep(float(query["seconds"]))
            elif environ["PATH_INFO"] == "/big":
                body = [b"x" * int(query["bytes"])]
            elif environ["PATH_INFO"] == "/file":
                return self.send_file(environ, start_response, int(query["bytes"]))
            elif environ["PATH_INFO"] == "/drip":
                return self.drip(start_response, float(query["seconds"]))
            elif environ["PATH_INFO"] == "/break":
                return self.break_off(start_response)
            elif environ["PATH_INFO"] == "/raise":
                raise RuntimeError("the password is hunter2")
            elif int(environ.get("CONTENT_LENGTH") or 0) > 1024 * 1024:
                status, body = "413 Too Large", [b"too large"]
            length = str(sum(map(len, body)))
            start_response(status, [("Content-Length", length), ("Content-Type", "text/plain")])
            return body

        def drip(self, start_response, seconds):
            start_response("200 OK", [("Content-Type", "text/plain")])
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                yield b"drop"
                time.sleep(0.1)
            yield b"last"

        def send_file(self, environ, start_response, size):
            with Path("file").open("wb") as file:
                file.truncate(size)
            start_response("200 OK", [("Content-Length", str(size))])
            return environ["wsgi.file_wrapper"](Path("file").open("rb"))

        def break_off(self, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"begun"
            raise RuntimeError("half-way")

    app = Application()
"""

LOWERED = """
    import runtime.server
    import runtime.gunicorn.bounds as server
    server.REQUEST_SECONDS = 1
    server.STALL_SECONDS = 1
    server.LINGER_SECONDS = 2
    server.STOP_SECONDS = 8
    server.DRAIN_SECONDS = 2
    server.HELD_BYTES = 4 * 1024 * 1024
    {more}
    from runtime.server import *
    graceful_timeout = server.STOP_SECONDS
"""


class Served:
    """A running gunicorn: its port, what it has logged, and how to stop it."""

    def __init__(self, folder: Path, process: subprocess.Popen, port: int):
        self.folder = folder
        self.process = process
        self.port = port

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def ask(self, request: bytes) -> "Answer":
        with self.connect() as client:
            client.sendall(request)
            return read(client)

    def get(self, path: str = "/") -> "Answer":
        return self.ask(get(path, "Connection: close"))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(15)


class Answer:
    """One answer as it came over the socket."""

    def __init__(self, head: bytes, body: bytes):
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        self.body = body


def get(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def read(client: socket.socket) -> Answer:
    """Read one answer; EOFError when the connection ends before one does."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536) or _end(data)
    head, _, body = data.partition(b"\r\n\r\n")
    answer = Answer(head, body)
    if answer.status == 100:
        return answer
    length = answer.headers.get("content-length")
    while not _is_complete(body, length):
        body += client.recv(65536) or _end(body)
    answer.body = body
    return answer


def _is_complete(body: bytes, length: str | None) -> bool:
    return body.endswith(b"0\r\n\r\n") if length is None else len(body) >= int(length)


def _end(data: bytes) -> bytes:
    raise EOFError(f"the connection ended after {len(data)} bytes")


def is_closed(client: socket.socket, within: float) -> bool:
    """Whether the server closes the connection, whatever it says before."""
    client.settimeout(within)
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@contextmanager
def serving(
    folder: Path, more: str = "", application: str = APPLICATION, **environ: str
) -> Iterator[Served]:
    """gunicorn over the small application, with lowered bounds; `more` is further settings."""
    (folder / "application.py").write_text(textwrap.dedent(application))
    (folder / "lowered.py").write_text(textwrap.dedent(LOWERED).format(more=more))
    with Gunicorn(folder, environ) as gunicorn:
        served = Served(folder, gunicorn.process, gunicorn.port)
        yield served
        if served.process.poll() is None:
            served.stop(signal.SIGINT)


class Gunicorn(Server):
    """gunicorn over the small application of a folder."""

    def __init__(self, folder: Path, environ: dict[str, str]):
        super().__init__(folder)
        self.environ = environ

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gunicorn", "-c", "python:lowered", "application:app"]

    def popen(self) -> subprocess.Popen:
        with (self.folder / "log").open("w") as log:
            return start(self.folder, "lowered", log, PORT=str(self.port), **self.environ)

    def is_ready(self) -> bool:
        served = Served(self.folder, self.process, self.port)
        return "Booting worker" in served.log and served.get().status == 200


def start(folder: Path, module: str, stderr, **environ: str) -> subprocess.Popen:
    names = set(SETTINGS)
    clean = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", f"python:{module}", "application:app"],
        env=clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"} | environ,
        cwd=folder,
        stdout=stderr,
        stderr=stderr,
        text=True,
    )


def wait_for(is_so, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except OSError:
            pass
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def seconds_of(work) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Served]:
    """One worker with four threads: what takes four clients to block shows at once."""
    with serving(tmp_path_factory.mktemp("server"), WEB_THREADS="4") as served:
        yield served


@pytest.fixture
def crowd(server: Served) -> Iterator:
    """Make many clients at once; they are gone after the test."""
    with ExitStack() as clients:

        def gather(count: int, request: bytes) -> list[socket.socket]:
            gathered = [clients.enter_context(server.connect()) for _ in range(count)]
            for client in gathered:
                client.sendall(request)
            return gathered

        yield gather


# What every answer has besides.
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def assert_is_a_problem(answer: Answer, status: int, instance: str = "/") -> None:
    problem = json.loads(answer.body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.headers.items() >= HEADERS.items()
    assert answer.headers["vary"] == "Accept-Language"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert problem.keys() == {"type", "title", "status", "code", "detail", "instance"}
    assert (problem["status"], problem["instance"]) == (status, instance)
    assert problem["code"] == REFUSALS[status].code


def test_a_request_is_answered_and_its_connection_kept(server):
    with server.connect() as client:
        for body in (b"one", b"two"):
            client.sendall(post("/echo", body))
            answer = read(client)
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["connection"] == "keep-alive"


def test_the_start_says_where_the_document_is(server):
    address = f"http://127.0.0.1:{server.port}/api/v1/docs"
    assert server.log.count(address) == 1


# What clients do to others: nothing.


def assert_others_are_served(server: Served, idle: float) -> None:
    assert median(seconds_of(server.get) for _ in range(15)) < 10 * idle + 1


@pytest.fixture
def idle(server) -> float:
    """What a request takes when nobody else is there."""
    return median(seconds_of(server.get) for _ in range(15))


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(get("/", "Connection: close"), id="do not close the connection they let go"),
        pytest.param(b"", id="say nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", id="stall in the head"),
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", id="or body"),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            id="stall in a chunk",
        ),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nx",
            id="announce a body too large and do not send it",
        ),
    ],
)
def test_clients_hold_nobody_up_when_they(server, crowd, idle, request_bytes):
    crowd(30, request_bytes)
    time.sleep(0.2)
    assert_others_are_served(server, idle)


def test_a_request_that_drips_in_is_ended_by_the_bound(server, crowd):
    (head,) = crowd(1, b"GET / HTTP/1.1\r\nX-Slow: ")
    (body,) = crowd(1, get("/", "Content-Length: 99"))
    (silent,) = crowd(1, b"")
    begun_at = time.monotonic()
    while time.monotonic() < begun_at + 0.9:
        head.sendall(b"x")
        body.sendall(b"x")
        time.sleep(0.1)
    for client in (head, body):
        assert_is_a_problem(read(client), 408)
        assert is_closed(client, within=2)
    assert silent.recv(1) == b""  # which has not asked for anything
    assert 0.9 < time.monotonic() - begun_at < 9


@pytest.mark.parametrize("path", ["/big", "/file"])
def test_clients_that_read_nothing_give_their_threads_back(server, crowd, path):
    crowd(4, get(f"{path}?bytes=30000000"))
    time.sleep(0.3)
    assert server.get().status == 200


def connect_narrowly(server: Served, buffer_bytes: int) -> socket.socket:
    """A connection whose client has room for little that it has not read."""
    client = socket.socket()
    client.settimeout(15)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    client.connect(("127.0.0.1", server.port))
    return client


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_an_answer_that_nobody_reads_does_not_stay_in_the_kernel(server):
    with connect_narrowly(server, 2048) as client:
        client.sendall(get("/big?bytes=60000", "Connection: close"))
        time.sleep(2.2)
        with pytest.raises(OSError):
            while client.recv(65536):
                pass


def test_a_client_that_reads_slowly_is_not_cut(server):
    with connect_narrowly(server, 65536) as client:
        client.sendall(get("/big?bytes=3000000", "Connection: close"))
        received, begun_at = 0, time.monotonic()
        while data := client.recv(65536):
            received += len(data)
            if time.monotonic() < begun_at + 1.6:
                time.sleep(0.15)
    assert received > 3_000_000
    assert time.monotonic() - begun_at > 1.2


@pytest.mark.slow
def test_a_routers_idle_connection_is_its_own_to_close(tmp_path):
    """Heroku's router keeps one for 90 s, nginx for 60; a request that met a close would fail."""
    with Service(tmp_path, {}) as service, closing(http.client.HTTPConnection("127.0.0.1")) as kept:
        kept.port = service.port
        for pause in (0, 92):
            time.sleep(pause)
            kept.request("GET", "/api/v1/health")
            answer = kept.getresponse()
            assert (answer.status, answer.read()[:1]) == (200, b"{")
            assert kept.sock is not None  # it is the same connection still


def test_an_answer_may_take_longer_than_any_bound(server):
    waits = threading.Thread(target=lambda: waited.append(server.get("/sleep?seconds=1.5")))
    waited: list[Answer] = []
    waits.start()
    assert server.get("/drip?seconds=1.5").body.endswith(b"4\r\nlast\r\n0\r\n\r\n")
    waits.join()
    assert waited[0].status == 200


def test_unfinished_requests_hold_no_more_memory_than_their_bound(server, crowd):
    body = b"x" * 900_000
    first, *rest = crowd(6, post("/echo", body)[:-1])
    assert is_closed(first, within=1)
    rest[-1].sendall(b"x")
    assert read(rest[-1]).body == body


def test_a_newcomer_takes_the_place_of_who_waits_longest(tmp_path):
    more = "runtime.server.worker_connections, server.REQUEST_SECONDS = 20, 30"
    with serving(tmp_path, more) as served, ExitStack() as clients:
        waiting = [clients.enter_context(served.connect()) for _ in range(30)]
        assert served.get().status == 200
        assert is_closed(waiting[0], within=1)
        waiting[-1].sendall(get())
        assert read(waiting[-1]).status == 200


# What gunicorn answers itself.

LONG = b"x" * 9000


@pytest.mark.parametrize(
    ("status", "request_bytes"),
    [
        pytest.param(400, b"GARBAGE\r\n\r\n", id="no request line"),
        pytest.param(400, b"\r\n\r\n", id="empty lines"),
        pytest.param(400, b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", id="TLS"),
        pytest.param(400, b"GET / HTTP/1.1\nHost: x\n\n", id="bare line feeds"),
        pytest.param(400, b"get / HTTP/1.1\r\nHost: x\r\n\r\n", id="method in lower case"),
        pytest.param(400, b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", id="HTTP 3.0"),
        pytest.param(400, b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", id="path not ASCII"),
        pytest.param(400, b"GET / HTTP/1.1\r\n\r\n", id="no Host"),
        pytest.param(400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", id="two Hosts"),
        pytest.param(400, b"GET / HTTP/1.1\r\nHost: x\r\nBad\r\n\r\n", id="header, no colon"),
        pytest.param(400, b"GET / HTTP/1.1\r\nHost: x\r\nB d: y\r\n\r\n", id="space in name"),
        pytest.param(400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", id="folding"),
        pytest.param(400, b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", id="NUL"),
        pytest.param(400, get("/", "Content-Length: abc"), id="length, no number"),
        pytest.param(400, get("/", "Content-Length: -1"), id="length below 0"),
        pytest.param(400, get("/", "Content-Length: " + "9" * 5000), id="length of 5000 digits"),
        pytest.param(400, get("/", "Content-Length: 1", "Content-Length: 2"), id="two lengths"),
        pytest.param(
            400,
            get("/", "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(400, get("/", "Transfer-Encoding: chunked, chunked"), id="chunked twice"),
        pytest.param(501, get("/", "Transfer-Encoding: br"), id="unknown coding"),
        pytest.param(417, get("/", "Expect: the unexpected"), id="unknown expectation"),
        pytest.param(414, b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="long path"),
        pytest.param(414, b"GET /" + LONG * 4, id="path without an end"),
        pytest.param(431, get("/", "A: " + "x" * 9000), id="long header"),
        pytest.param(431, get("/", *["A: b"] * 200), id="many headers"),
        pytest.param(431, b"GET / HTTP/1.1\r\nA: " + LONG * 4, id="header without an end"),
    ],
)
def test_a_bad_request_is_refused_as_a_problem(server, status, request_bytes):
    assert_is_a_problem(server.ask(request_bytes), status)


def test_a_refusal_names_the_path_without_its_query(server):
    answer = server.ask(b"GET /users?token=secret HTTP/1.1\r\n\r\n")
    assert_is_a_problem(answer, 400, instance="/users")


@pytest.mark.parametrize(
    "body", [b"zz\r\nab", b"{}\r\n", b"5\r\nhello!!", b"0;\x00\r\n\r\n"], ids=repr
)
def test_a_bad_chunk_that_the_application_meets_is_a_problem(server, body):
    answer = server.ask(get("/echo", "Transfer-Encoding: chunked") + body + b"\r\n" * 4)
    assert_is_a_problem(answer, 400, instance="/echo")


def test_what_the_application_raises_is_a_problem_that_tells_nothing(server):
    answer = server.get("/raise")
    assert_is_a_problem(answer, 500, instance="/raise")
    assert b"hunter2" not in answer.body


ENGLISH = ("Accept-Language: en-GB, zh;q=0.5", "X-Request-ID: r-1")


@pytest.mark.parametrize(
    ("status", "request_bytes"),
    [
        (400, get("/", *ENGLISH, "B d: y")),
        (408, get("/", *ENGLISH)[:-2]),
        (408, get("/", *ENGLISH, "Content-Length: 2") + b"x"),
        (413, get("/", *ENGLISH, "Transfer-Encoding: chunked") + b"200001\r\n"),
        (414, get("/" + "x" * 9000, *ENGLISH)),
        (417, get("/", *ENGLISH, "Expect: the unexpected")),
        (431, get("/", *ENGLISH, "A: " + "x" * 9000)),
        (431, get("/", *ENGLISH, "A: " + "x" * 40_000)),
        (500, get("/raise", *ENGLISH)),
        (501, get("/", *ENGLISH, "Transfer-Encoding: br")),
    ],
)
def test_a_refusal_is_in_the_language_of_who_asks(server, status, request_bytes):
    answer = server.ask(request_bytes)
    assert answer.status == status
    assert (answer.headers["content-language"], answer.headers["x-request-id"]) == ("en", "r-1")
    assert json.loads(answer.body)["detail"].isascii()


def test_a_refusal_repeats_little_of_a_path(server):
    answer = server.ask(get("/" + "%e5" * 2000, "Transfer-Encoding: chunked") + b"{}\r\n")
    assert_is_a_problem(answer, 400, instance="/" + "%e5" * 99 + "...")


def test_a_refused_request_is_not_quoted_in_the_log(server):
    server.ask(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer s3cret\r\n\r\n")
    chunks = get("/echo", "Transfer-Encoding: chunked") + b'{"password": "s3cret"}\r\n\r\n'
    request_id = server.ask(chunks).headers["x-request-id"]
    wait_for(lambda: request_id in server.log)
    assert "s3cret" not in server.log


@pytest.mark.parametrize(
    ("level", "status", "cause", "request_bytes"),
    [
        ("info", 400, "InvalidHeader", b"GET / HTTP/1.1\r\n\r\n"),
        ("info", 431, "a head without an end", b"GET / HTTP/1.1\r\nA: " + LONG * 4),
        ("info", 408, "late", b"GET / HTTP/1.1\r\nA: "),
        ("error", 500, "RuntimeError", get("/raise")),
    ],
)
def test_a_refusal_is_one_line_of_the_log_with_the_answers_id(
    server, level, status, cause, request_bytes
):
    request_id = server.ask(request_bytes).headers["x-request-id"]
    wait_for(lambda: request_id in server.log)
    (line,) = [json.loads(each) for each in server.log.splitlines() if request_id in each]
    told = {name: line[name] for name in ("event", "level", "status", "cause", "peer")}
    assert told == {
        "event": "request_refused",
        "level": level,
        "status": status,
        "cause": cause,
        "peer": "127.0.0.1",
    }


def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(server):
    with server.connect() as client:
        client.sendall(post("/", b"x" * 20_000_000))
        time.sleep(0.2)
        answer = read(client)
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_a_page_of_an_allowed_origin_may_read_a_refusal(tmp_path):
    with serving(tmp_path, CORS_ORIGINS="https://app.example.org") as served:
        for origin, told in (
            ("https://app.example.org", "https://app.example.org"),
            ("null", None),
        ):
            with served.connect() as client:
                asked = get("/", f"Origin: {origin}", "Transfer-Encoding: chunked")
                client.sendall(asked + b"200001\r\n")
                answer = read(client)
            assert answer.status == 413
            assert answer.headers.get("access-control-allow-origin") == told
            assert answer.headers["vary"] == "Accept-Language, Origin"


def test_a_body_that_may_be_too_large_is_only_asked_for_when_it_is_not(server, crowd):
    expects = "Expect: 100-continue"
    small, large = crowd(1, get("/echo", "Content-Length: 2", expects)) + crowd(
        1, get("/", f"Content-Length: {BODY_BYTES + 1}", expects)
    )
    assert read(small).status == 100
    small.sendall(b"hi")
    assert read(small).body == b"hi"
    assert read(large).status == 413


def test_a_body_that_ends_early_is_the_applications_to_answer(server):
    with server.connect() as client:
        client.sendall(post("/echo", b"half")[:-2])
        client.shutdown(socket.SHUT_WR)
        assert read(client).body == b"ha"


def test_a_connection_outlives_a_body_that_nobody_read(server):
    with server.connect() as client:
        for _ in range(2):
            client.sendall(post("/", b"x" * 500_000))
            assert read(client).status == 200


def test_requests_sent_in_one_go_are_answered_in_order(server):
    bodies = [b"one", b"two", b"three"]
    with server.connect() as client:
        client.sendall(b"".join(post("/echo", body) for body in bodies) + b"POST /ec")
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(b"three"):
            received += client.recv(65536)
        client.sendall(post("/echo", b"four")[len("POST /ec") :])
        assert read(client).body == b"four"
    assert received.index(b"one") < received.index(b"two") < received.index(b"three")


def test_what_a_proxy_forwards_is_left_to_the_application(server):
    forged = ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: off", "SCRIPT_NAME: /scheme"]
    assert server.ask(get("/scheme", *forged)).body == b"http"


# Bodies in chunks, as strange clients send them.

CHUNKED = get("/echo", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n",
        b"0000000000000000000005\r\nhello\r\n000\r\n\r\n",
        b'5;a;b=c;d="e;\\"f"\r\nhello\r\n0;last\r\n\r\n',
        b"5 ; a = b\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\nDigest: x\r\nX-Y: \r\n\r\n",
    ],
    ids=["one", "bytes", "zeros", "extensions", "spaces", "trailers"],
)
@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_chunks_are_read_however_they_are_cut(server, chunks, step):
    data = CHUNKED + chunks + get("/after", "Connection: close")
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step):
            client.sendall(data[start : start + step])
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200") == 2
    assert b"\r\n\r\nhello" in received
    assert received.endswith(b"\r\n\r\nok")


def test_chunks_of_a_mebibyte_are_read(server):
    body = os.urandom(BODY_BYTES)
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    chunks = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    assert server.ask(CHUNKED + chunks).body == body


@pytest.mark.parametrize(
    ("status", "chunks"),
    [
        pytest.param(400, b"5\nhello\r\n0\r\n\r\n", id="bare LF after a size"),
        pytest.param(400, b"5\r\nhello\n0\r\n\r\n", id="bare LF after a chunk"),
        pytest.param(400, b"5\r\nhello\r\n0\r\nA: b\n\r\n", id="bare LF in a trailer"),
        pytest.param(400, b"5\r\nhello\r\n0\n\n", id="bare LFs at the end"),
        pytest.param(400, b"5;\x00\r\nhello\r\n", id="NUL in an extension"),
        pytest.param(400, b"5;a\rb\r\nhello\r\n", id="CR in an extension"),
        pytest.param(400, b"5 \r\nhello\r\n", id="space after a size"),
        pytest.param(400, b" 5\r\nhello\r\n", id="space before a size"),
        pytest.param(400, b"0x5\r\nhello\r\n", id="0x"),
        pytest.param(400, b"5_0\r\nhello\r\n", id="underscore"),
        pytest.param(400, b"\r\nhello\r\n", id="no size"),
        pytest.param(400, b"0\r\nno colon\r\n\r\n", id="a trailer that is none"),
        pytest.param(400, b"0\r\nA: \x01\r\n\r\n", id="control character in a trailer"),
        pytest.param(413, b"100001\r\n", id="a mebibyte and a byte"),
        pytest.param(413, b"F" * 8000 + b"\r\n", id="a size of 8000 digits"),
        pytest.param(413, b"1\r\nA\r\n" * 60_000, id="60,000 chunks"),
        pytest.param(413, (b"1;" + b"a" * 8000 + b"\r\nA\r\n") * 40, id="long extensions"),
        pytest.param(413, b"0\r\n" + b"A: b\r\n" * 50_000, id="50,000 trailers"),
    ],
)
def test_chunks_that_are_wrong_or_too_many_are_refused(server, status, chunks):
    with server.connect() as client:
        client.sendall(CHUNKED + chunks)
        assert_is_a_problem(read(client), status, instance="/echo")


def test_the_length_that_a_route_takes_is_asked_once_and_only_for_a_long_body():
    asked = []
    request_buffer = RequestBuffer(lambda head: asked.append(head) or 20_000)
    for data in (CHUNKED, b"4000\r\n" + b"x" * 0x4000 + b"\r\n"):
        assert request_buffer.take(data) is RequestState.INCOMPLETE
    assert asked == []
    for _ in range(3):
        assert request_buffer.take(b"400\r\n" + b"x" * 0x400 + b"\r\n") is RequestState.INCOMPLETE
    assert request_buffer.take(b"400\r\n") is RequestState.REJECTED
    assert asked == [CHUNKED]


# Answers that a client does not take at once.


@pytest.mark.parametrize(
    ("request_bytes", "is_kept"),
    [
        (get("/big?bytes=3000000"), True),
        (get("/big?bytes=3000000", "Connection: close"), False),
        (b"GET /big?bytes=3000000 HTTP/1.0\r\n\r\n", False),
        (b"GET /big?bytes=3000000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (get("/file?bytes=3000000"), True),
    ],
    ids=["1.1", "close", "1.0", "1.0 keep-alive", "file"],
)
def test_a_large_answer_arrives_whole_and_its_connection_goes_on(server, request_bytes, is_kept):
    with connect_narrowly(server, 65536) as client:
        client.sendall(request_bytes)
        time.sleep(0.3)
        answer = read(client)
        assert (answer.status, len(answer.body)) == (200, 3_000_000)
        assert (answer.headers["connection"] == "keep-alive") is is_kept
        if is_kept:
            client.sendall(post("/echo", b"next"))
            assert read(client).body == b"next"
        else:
            assert client.recv(1) == b""


def test_requests_behind_a_large_answer_wait_for_their_turn(server):
    with connect_narrowly(server, 65536) as client:
        client.sendall(get("/big?bytes=3000000") * 2 + post("/echo", b"a"))
        time.sleep(0.3)
        client.sendall(post("/echo", b"b") + get("/", "Connection: close"))
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200") == 5
    assert received.count(b"x") >= 6_000_000
    assert received.index(b"\r\n\r\na") < received.index(b"\r\n\r\nb")
    assert received.endswith(b"\r\n\r\nok")


def test_a_client_that_ends_its_side_still_gets_a_large_answer(server):
    with connect_narrowly(server, 65536) as client:
        client.sendall(get("/big?bytes=3000000"))
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        assert len(read(client).body) == 3_000_000
        assert client.recv(1) == b""


def test_head_of_a_large_answer_is_its_head_alone(server):
    with server.connect() as client:
        client.sendall(get("/big?bytes=3000000").replace(b"GET", b"HEAD"))
        head = client.recv(65536)
        assert head.endswith(b"\r\n\r\n")
        assert b"content-length: 3000000" in head.lower()
        client.sendall(get())
        assert read(client).status == 200


def test_a_stop_waits_for_an_answer_that_is_being_read(tmp_path):
    with serving(tmp_path) as served, connect_narrowly(served, 65536) as client:
        client.sendall(get("/big?bytes=3000000"))
        wait_for(lambda: client.recv(1, socket.MSG_PEEK))
        served.process.terminate()
        wait_for(lambda: "Handling signal: term" in served.log)
        assert len(read(client).body) == 3_000_000


# Where a request ends.

MESSAGES = [
    get(),
    b"\r\n" + get(),
    post("/", b"\r\n\r\n"),
    post("/", b""),
    get("/", "transfer-encoding:chunked")
    + b"5;a=b\r\nhello\r\nA\r\n\r\n\r\n0\r\n\r\nx\r\n0\r\n\r\n",
    get("/", "Transfer-Encoding: chunked") + b"0\r\nTrailer: x\r\n\r\n",
]


def one_mebibyte(_head: bytes) -> int:
    """How much every route takes here."""
    return BODY_BYTES


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_request_is_whole_at_its_last_byte_and_not_before(message):
    request_buffer = RequestBuffer(one_mebibyte)
    arrivals = [request_buffer.take(bytes([byte])) for byte in message]
    assert set(arrivals[:-1]) == {RequestState.INCOMPLETE}
    assert arrivals[-1] is RequestState.COMPLETE
    assert RequestBuffer(one_mebibyte).take(message) is RequestState.COMPLETE


@pytest.mark.parametrize(
    "endless",
    [
        get("/", f"Content-Length: {BODY_BYTES + 1}"),
        get("/", "Content-Length: " + "9" * 5000),
        get("/", "Content-Length: 1", "Content-Length: 2"),
        get("/", "Content-Length: 1", "Transfer-Encoding: chunked"),
        get("/", "Transfer-Encoding: chunked") + b"1400000\r\n" + b"x" * 2 * BODY_BYTES,
        get("/", "Transfer-Encoding: chunked") + b"1;" + b"x" * 2 * HEAD_BYTES,
        get("/", "Transfer-Encoding: chunked") + b"0\r\nA: " + b"x" * 2 * HEAD_BYTES,
    ],
    ids=["length", "number", "two lengths", "length and chunks", "chunk", "size line", "trailer"],
)
def test_nobody_waits_for_what_is_refused_anyway(endless):
    assert RequestBuffer(one_mebibyte).take(endless) is RequestState.REJECTED


# Start and stop.


@pytest.mark.parametrize("is_configured", [False, True])
def test_the_application_that_the_workers_share_has_opened_nothing(tmp_path, is_configured):
    """A connection or a thread from before the fork would be all workers' at once, or nobody's."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = {
            "DATABASE_URL": f"postgresql://x@127.0.0.1:{port}/x",
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "SMTP_URL": f"smtp://127.0.0.1:{port}",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "AGENT_MODEL": "test",
            "SECRET_KEY": "a-key-for-tests-" * 3,
        }
        with Service(tmp_path, settings if is_configured else {}) as service:
            master = Path(f"/proc/{service.process.pid}")
            wait_for(lambda: len(list((master / "task").iterdir())) == 1)
            opened = [os.readlink(fd) for fd in (master / "fd").iterdir()]
            silent.setblocking(False)
            if is_configured:  # The start has looked whether the database is there.
                looked, _ = silent.accept()
                with looked:
                    assert is_closed(looked, within=5)
            with pytest.raises(BlockingIOError):
                silent.accept()
    assert len([each for each in opened if each.startswith("socket:")]) == 1  # its listener
    assert not [each for each in opened if "sqlite" in each]


def test_workers_share_the_memory_of_the_application(tmp_path):
    """Two of them take less than twice what one does, by a third of what one holds at least."""
    with Service(tmp_path, {}, WEB_CONCURRENCY="2") as service:
        workers = service.workers()
        wait_for(lambda: [service.client.get("/docs").status for _ in range(20)] == [200] * 20)
        resident = sum(memory_of(pid, "Rss") for pid in workers)
        own = sum(memory_of(pid, "Pss") for pid in workers)
    assert own < resident * 2 / 3


def test_the_collector_leaves_alone_what_is_loaded_at_the_start(tmp_path):
    """Off while it is loaded, on in the worker, which has it set apart (`gc.freeze`)."""
    with serving(tmp_path) as served:
        assert served.ask(get("/collector")).body == b"(False, True, True)"


def memory_of(pid: int, kind: str) -> int:
    """In kB; of pages that n processes share, "Pss" counts an nth."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def test_workers_have_as_many_connections_as_each_other(tmp_path):
    """Whoever looked first would take most of them, and one interpreter would do all the work."""
    with Service(tmp_path, {}, WEB_CONCURRENCY="2") as service:
        wait_for(lambda: len(service.workers()) == 2)
        workers = service.workers()
        assert mean(difference(service.port, workers) for _ in range(20)) <= 3


def test_workers_that_took_over_share_connections_too(tmp_path):
    with Service(tmp_path, {}, WEB_CONCURRENCY="2") as service:
        wait_for(lambda: len(service.workers()) == 2)
        first = service.workers()
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(service.workers()) == 2 and not {*first} & {*service.workers()})
        workers = service.workers()
        assert mean(difference(service.port, workers) for _ in range(20)) <= 3


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "dies"])
def test_a_worker_with_fewer_connections_that_takes_none_keeps_nobody_waiting(tmp_path, how):
    with Service(tmp_path, {}, WEB_CONCURRENCY="2") as service, ExitStack() as clients:
        wait_for(lambda: len(service.workers()) == 2)
        for _ in range(9):
            clients.enter_context(answered_connection(service.port))
        stuck = min(service.workers(), key=sockets_of)
        os.kill(stuck, how)
        if how == signal.SIGSTOP:
            clients.callback(os.kill, stuck, signal.SIGCONT)
        # The other one's threads are all at work, and its loop comes late.
        busy = [clients.enter_context(answered_connection(service.port)) for _ in range(8)]
        for each in busy:
            each.sendall(get("/api/v1/openapi.json") * 20)
        times = [
            seconds_of(lambda: clients.enter_context(answered_connection(service.port)))
            for _ in range(20)
        ]
    assert max(times) < 1


def difference(port: int, workers: list[int]) -> int:
    """How many more of 32 new connections one worker has than the other."""
    before = [sockets_of(pid) for pid in workers]
    with ExitStack() as clients:
        for _ in range(32):
            clients.enter_context(answered_connection(port))
        taken = [sockets_of(pid) - had for pid, had in zip(workers, before, strict=True)]
    wait_for(lambda: sum(map(sockets_of, workers)) <= sum(before))
    return abs(taken[0] - taken[1])


def answered_connection(port: int) -> socket.socket:
    """One that has its answer, and stays open."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    sock.sendall(get("/api/v1/health"))
    assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    return sock


def sockets_of(pid: int) -> int:
    found = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += os.readlink(fd).startswith("socket:")
    return found


def test_a_setting_that_makes_no_sense_stops_the_start_with_one_line(tmp_path):
    process = start(tmp_path, "runtime.server", subprocess.PIPE, PORT="eighty")
    _, error = process.communicate(timeout=15)
    assert process.returncode != 0
    assert error.count("\n") == 1
    assert error.startswith("PORT ")


def test_a_stop_finishes_what_runs_and_sends_the_mail(tmp_path):
    with serving(tmp_path) as served, served.connect() as running, served.connect() as kept:
        kept.sendall(get())
        read(kept)
        for _ in range(3):  # a broken answer must not be counted as two that are done
            with served.connect() as broken:
                broken.sendall(get("/break"))
                assert is_closed(broken, within=5)
        running.sendall(get("/sleep?seconds=1", "Connection: close"))
        time.sleep(0.2)
        stopping = threading.Thread(target=served.stop)
        stopping.start()
        time.sleep(0.2)
        kept.sendall(get())
        assert read(kept).headers["connection"] == "close"
        with pytest.raises(ConnectionRefusedError):  # nobody is let in to wait for nothing
            served.get()
        assert read(running).body == b"ok"
        stopping.join()
        assert (tmp_path / "drained").read_text() == "2"
        assert served.process.returncode == 0
        assert "SIGKILL" not in served.log


def test_a_stop_that_cannot_wait_for_a_request_sends_the_mail(tmp_path):
    more = "server.STOP_SECONDS, server.DRAIN_SECONDS = 2, 1"
    with serving(tmp_path, more) as served, served.connect() as running:
        running.sendall(get("/sleep?seconds=9"))
        time.sleep(0.2)
        served.stop()
    assert (tmp_path / "drained").read_text() == "1"


def test_a_stop_does_not_wait_for_a_request_that_is_not_there(tmp_path):
    more = "server.REQUEST_SECONDS, server.STOP_SECONDS = 30, 12"
    with serving(tmp_path, more) as served, served.connect() as unfinished:
        unfinished.sendall(b"GET / HT")
        time.sleep(0.2)
        assert seconds_of(served.stop) < 11


def test_an_interrupt_sends_the_mail_too(tmp_path):
    with serving(tmp_path) as served:
        served.stop(signal.SIGINT)
    assert (tmp_path / "drained").read_text() == "2"


def test_a_stop_answers_whom_the_kernel_has_let_in(tmp_path):
    with serving(tmp_path) as served, ExitStack() as clients:
        worker = int(re.search(r"Booting worker with pid: (\d+)", served.log)[1])
        os.kill(worker, signal.SIGSTOP)
        queued = [clients.enter_context(served.connect()) for _ in range(5)]
        for client in queued:
            client.sendall(get("/", "Connection: close"))
        served.process.terminate()
        wait_for(lambda: "Handling signal: term" in served.log)
        os.kill(worker, signal.SIGCONT)
        assert [read(client).status for client in queued] == [200] * 5
        served.process.wait(15)
