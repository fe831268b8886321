"""Streams sent without a thread for any, against a real gunicorn over real sockets.

The application behind it is a small one of this file's own, whose streams come from a thread, as
the service's do.
"""

import os
import re
import selectors
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from runtime.gunicorn.method_queue import MethodQueue
from runtime.gunicorn.sender import STREAMS_A_TURN, Sender
from runtime.gunicorn.sending import Sending
from runtime.gunicorn.stream import Stream
from tests.gunicorn.test_worker import (
    Served,
    connect_narrowly,
    get,
    is_closed,
    post,
    read,
    seconds_of,
    serving,
    wait_for,
)

APPLICATION = """
    import threading
    import time
    from collections import deque
    from urllib.parse import parse_qs

    from runtime import logs
    from runtime.gunicorn.stream import Stream

    logs.init_app(None)

    class Pieces(Stream):
        open = set()

        def __init__(self, pieces, pause, bytes, heartbeat, elsewhere, fails):
            self.heartbeat, self.heartbeat_seconds = b"beat ", heartbeat
            self.elsewhere = elsewhere
            self.ready, self.left, self.wake = deque(), pieces, lambda: None
            self.pause, self.size, self.fails = pause, bytes, fails
            Pieces.open.add(self)
            threading.Thread(target=self.make, daemon=True).start()

        def make(self):
            for number in range(self.left):
                time.sleep(self.pause)
                self.ready.append(f"{number:05d} ".encode() + b"x" * self.size)
                self.wake()

        @property
        def has_more(self):
            return bool(self.ready)

        @property
        def is_over(self):
            return not self.left

        @property
        def is_elsewhere(self):
            return self.elsewhere

        def read(self):
            if self.fails:
                raise RuntimeError("the password is hunter2")
            if not self.ready:
                return b""
            self.left -= 1
            return self.ready.popleft()

        def listen(self, wake):
            self.wake = wake

        def close(self):
            Pieces.open.remove(self)

        def __iter__(self):
            raise AssertionError("a thread iterates over a stream that the loop should send")

    def application(environ, start_response):
        query = {k: float(v[0]) for k, v in parse_qs(environ["QUERY_STRING"]).items()}
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/stream":
            return Pieces(
                int(query.get("pieces", 3)),
                query.get("pause", 0.1),
                int(query.get("bytes", 0)),
                query.get("heartbeat", 60),
                bool(query.get("elsewhere")),
                bool(query.get("fails")),
            )
        if environ["PATH_INFO"] == "/echo":
            return [environ["wsgi.input"].read()]
        return [str(len(Pieces.open)).encode()]

    app = application
"""

FOREVER = "/stream?pieces=99999&pause=0.05"
SILENT = "/stream?pause=60"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One worker with two threads, so that a stream that held one would be missed."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, application=APPLICATION, WEB_THREADS="2") as served:
        yield served


@pytest.fixture(autouse=True)
def nobody(server: Served) -> Iterator[None]:
    """Each test leaves no stream behind: all were let go of."""
    yield
    wait_for(lambda: open_streams(server) == 0, seconds=5)


def open_streams(server: Served) -> int:
    return int(server.get("/open").body.split(b"\r\n")[1])


def unframed(body: bytes) -> bytes:
    """A chunked body without its frames (RFC 9112 §7.1); AssertionError if they are wrong."""
    data = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        assert body[length : length + 2] == b"\r\n"
        if not length:
            assert body == b"\r\n"
            return data
        data, body = data + body[:length], body[length + 2 :]


def numbers(data: bytes) -> list[int]:
    """Which pieces are in it, in their order."""
    return [int(word) for word in data.replace(b"x", b"").replace(b"beat", b"").split()]


def receive(client: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        data += client.recv(65536) or pytest.fail(f"it ended after {data[-100:]}")
    return data


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_stream_is_sent_as_it_comes(server: Served):
    with server.connect() as client:
        begun_at = time.monotonic()
        client.sendall(get("/stream?pieces=3&pause=0.3"))
        came = []
        for number in range(3):
            receive(client, b"%05d " % number)
            came.append(time.monotonic() - begun_at)

    assert [round(at / 0.3) for at in came] == [1, 2, 3]


def test_a_stream_ends_and_its_connection_with_it(server: Served):
    with server.connect() as client:
        client.sendall(get("/stream?pieces=3&pause=0"))
        answer = read(client)
        assert client.recv(1) == b""

    assert answer.headers["connection"] == "close"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert numbers(unframed(answer.body)) == [0, 1, 2]


def test_a_client_of_http_1_0_gets_the_stream_as_it_is(server: Served):
    with server.connect() as client:
        client.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")

    assert b"chunked" not in head
    assert body == b"00000 00001 00002 "


def test_the_head_does_not_wait_for_the_first_piece(server: Served):
    with server.connect() as client:
        client.sendall(get(SILENT))
        client.settimeout(1)
        assert receive(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_head_alone_is_no_stream(server: Served):
    with server.connect() as client:
        client.sendall(get(SILENT).replace(b"GET", b"HEAD"))
        assert receive(client, b"\r\n\r\n").endswith(b"\r\n\r\n")
        client.sendall(get("/open"))
        assert read(client).body == b"1\r\n0\r\n0\r\n\r\n"


def test_streams_hold_no_thread(server: Served):
    with ExitStack() as clients:
        for _ in range(50):
            clients.enter_context(server.connect()).sendall(get(FOREVER))
        wait_for(lambda: open_streams(server) == 50)

        assert median(seconds_of(server.get) for _ in range(15)) < 2


def test_five_hundred_streams_are_sent_at_once(server: Served):
    with ExitStack() as clients:
        everybody = [clients.enter_context(server.connect()) for _ in range(500)]
        for client in everybody:
            client.sendall(get("/stream?pieces=20&pause=0.05"))
        bodies = [read(client).body for client in everybody]

    assert [numbers(unframed(body)) for body in bodies] == [list(range(20))] * 500


def test_bytes_that_are_taken_one_at_a_time_are_framed_well(server: Served):
    with connect_narrowly(server, 2048) as client:
        client.sendall(get("/stream?pieces=150&pause=0&bytes=2000"))
        time.sleep(0.5)  # until nothing more fits in between
        data = b"".join(iter(lambda: client.recv(1), b""))

    body = unframed(data.partition(b"\r\n\r\n")[2])
    assert len(body) == 150 * 2006
    assert numbers(body) == list(range(150))


def test_a_reader_that_takes_nothing_is_let_go_of_and_slows_nobody(server: Served):
    with connect_narrowly(server, 2048) as stalled, server.connect() as other:
        stalled.sendall(get("/stream?pieces=99999&pause=0.01&bytes=5000"))
        other.sendall(get("/stream?pieces=40&pause=0.05"))
        wait_for(lambda: open_streams(server) == 2)
        begun_at = time.monotonic()
        assert numbers(unframed(read(other).body)) == list(range(40))
        assert time.monotonic() - begun_at < 6
        wait_for(lambda: open_streams(server) == 0, seconds=3)


def test_what_slow_readers_hold_together_is_bounded(tmp_path: Path):
    more = "server.UNSENT_BYTES = 500_000"
    more += "; server.STALL_SECONDS = 60"
    with serving(tmp_path, more, APPLICATION) as served, ExitStack() as clients:
        for size in (700_000, 600_000, 500_000):
            client = clients.enter_context(connect_narrowly(served, 2048))
            client.sendall(get(f"/stream?pieces=2&pause=0.2&bytes={size}"))
        # Those that hold most go first.
        wait_for(lambda: open_streams(served) == 1, seconds=3)
        time.sleep(1)
        assert open_streams(served) == 1


def test_a_reader_that_is_slow_is_not_let_go_of(server: Served):
    with connect_narrowly(server, 65536) as client:
        client.sendall(get("/stream?pieces=300&pause=0&bytes=5000"))
        received, begun_at = b"", time.monotonic()
        while data := client.recv(16384):
            received += data
            if time.monotonic() < begun_at + 2.5:  # longer than a stall may take
                time.sleep(0.05)

    assert time.monotonic() - begun_at > 2.5
    assert numbers(unframed(received.partition(b"\r\n\r\n")[2])) == list(range(300))


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_reader_that_leaves_is_noticed_before_anything_is_sent(server: Served, leave):
    client = server.connect()
    client.sendall(get(SILENT))
    receive(client, b"\r\n\r\n")
    assert open_streams(server) == 1

    leave(client)

    wait_for(lambda: open_streams(server) == 0, seconds=0.5)


def test_a_reader_that_leaves_in_the_middle_disturbs_nobody(server: Served):
    with server.connect() as other:
        other.sendall(get("/stream?pieces=40&pause=0.02"))
        for _ in range(20):
            client = server.connect()
            client.sendall(get("/stream?pieces=9999&pause=0.001&bytes=1000"))
            receive(client, b"00005 ")
            reset(client)
        assert numbers(unframed(read(other).body)) == list(range(40))
    assert "Traceback" not in server.log


def test_a_stream_that_is_silent_is_kept_alive(server: Served):
    with server.connect() as client:
        client.sendall(get("/stream?pieces=1&pause=4&heartbeat=0.5"))
        begun_at = time.monotonic()
        receive(client, b"beat ")
        assert 0.4 < time.monotonic() - begun_at < 3.5
        rest = receive(client, b"0\r\n\r\n")

    assert 1 <= rest.count(b"beat ") <= 7
    assert b"00000 " in rest


def test_a_stream_that_speaks_is_left_alone(server: Served):
    with server.connect() as client:
        client.sendall(get("/stream?pieces=30&pause=0.1&heartbeat=2"))
        assert b"beat" not in read(client).body


def test_what_a_reader_says_meanwhile_is_not_heard(server: Served):
    with server.connect() as client:
        client.sendall(get("/stream?pieces=5&pause=0.1") + post("/echo", b"hello"))
        client.sendall(b"x" * 100_000)
        answer = read(client)
        assert numbers(unframed(answer.body)) == list(range(5))
        assert is_closed(client, within=1)


def test_a_stream_that_fails_ends_alone(server: Served):
    with server.connect() as client, server.connect() as other:
        other.sendall(get("/stream?pieces=10&pause=0.05"))
        client.sendall(get("/stream?fails=1"))
        assert is_closed(client, within=1)
        assert numbers(unframed(read(other).body)) == list(range(10))
    assert "stream_failed" in server.log


def test_a_newcomer_takes_the_place_of_the_oldest_stream(tmp_path: Path):
    more = "runtime.server.worker_connections = 20"
    with serving(tmp_path, more, APPLICATION) as served, ExitStack() as clients:
        streaming = []
        for _ in range(25):
            streaming.append(clients.enter_context(served.connect()))
            streaming[-1].sendall(get(FOREVER))
            receive(streaming[-1], b"\r\n\r\n")
        assert served.get().status == 200
        assert is_closed(streaming[0], within=1)
        receive(streaming[-1], b"00003 ")


@pytest.mark.parametrize("request_bytes", [get(FOREVER), b"GET / HT"], ids=["stream", "request"])
def test_a_client_that_speaks_as_it_is_let_go_of_disturbs_nobody(tmp_path: Path, request_bytes):
    more = "runtime.server.worker_connections, server.REQUEST_SECONDS = 20, 30"
    with serving(tmp_path, more, APPLICATION) as served, ExitStack() as clients:
        waiting = []
        for _ in range(19):
            waiting.append(clients.enter_context(served.connect()))
            waiting[-1].sendall(request_bytes)
        wait_for(lambda: open_streams(served) == 18 or b"HT" in request_bytes)
        worker = int(re.search(r"Booting worker with pid: (\d+)", served.log)[1])
        os.kill(worker, signal.SIGSTOP)
        newcomers = [clients.enter_context(served.connect()) for _ in range(19)]
        for client in waiting:
            client.sendall(b"x")
        os.kill(worker, signal.SIGCONT)

        newcomers[-1].sendall(get("/open"))
        assert read(newcomers[-1]).status == 200
        assert "Traceback" not in served.log


def test_a_stop_ends_what_can_be_had_elsewhere_and_nothing_else(tmp_path: Path):
    with (
        serving(tmp_path, application=APPLICATION) as served,
        served.connect() as here,
        served.connect() as elsewhere,
    ):
        here.sendall(get("/stream?pieces=20&pause=0.1"))
        elsewhere.sendall(get("/stream?pieces=60&pause=0.1&elsewhere=1"))
        wait_for(lambda: open_streams(served) == 2)
        begun_at = time.monotonic()
        served.process.terminate()

        cut = numbers(unframed(read(elsewhere).body))
        assert time.monotonic() - begun_at < 4
        assert cut == list(range(len(cut)))
        assert numbers(unframed(read(here).body)) == list(range(20))
        served.process.wait(15)
        assert served.process.returncode == 0


# What shows only from inside.


class Numbers(Stream):
    """Has a piece whenever it is told so."""

    heartbeat, heartbeat_seconds = b"", 60
    is_over = is_elsewhere = False

    def __init__(self):
        self.ready = 0
        self.is_closed = False

    @property
    def has_more(self) -> bool:
        return self.ready > 0

    def read(self) -> bytes:
        self.ready, ready = 0, self.ready
        return b"x" * ready

    def listen(self, wake) -> None:
        self.wake = wake

    def close(self) -> None:
        self.is_closed = True

    def __iter__(self):
        raise AssertionError("a thread iterates over a stream that the loop should send")

    def more(self) -> None:
        self.ready += 1
        self.wake()


@pytest.fixture
def deferred() -> list:
    """What the sender wants to be called on the loop."""
    return []


@pytest.fixture
def streams(deferred: list) -> Iterator[list[tuple[Numbers, socket.socket]]]:
    """Streams that are being sent, each with the socket of its client."""
    with ExitStack() as sockets, selectors.DefaultSelector() as selector:
        sender = Sender(selector, deferred.append, stall_seconds=60)
        made = []
        for _ in range(3 * STREAMS_A_TURN):
            ours, theirs = map(sockets.enter_context, socket.socketpair())
            made.append((Numbers(), theirs))
            sender.begin(Sending(ours, made[-1][0], is_chunked=False), lambda _is_sent: None)
        yield made


def test_news_of_many_streams_wake_the_loop_once(streams, deferred: list):
    for _ in range(5):
        for stream, _client in streams:
            stream.more()

    assert len(deferred) == 1


def test_the_loop_looks_elsewhere_between_the_streams(streams, deferred: list):
    for stream, _client in streams:
        stream.more()
    turns = 0
    while deferred:
        deferred.pop()()
        turns += 1
        sent = sum(not stream.has_more for stream, _client in streams)
        assert sent == turns * STREAMS_A_TURN

    assert turns == 3
    assert {client.recv(10) for _stream, client in streams} == {b"x"}


def test_a_thread_that_outlives_the_loop_writes_to_nobodys_file():
    queue = MethodQueue()
    queue.init()
    descriptor = queue.fileno()
    queue.close()

    queue.defer(lambda: None)

    assert os.read(descriptor, 10) == b"\0"
