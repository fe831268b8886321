"""A thousand answers at a time, a token every 50 ms each: `python -m tests.streams_benchmark`.

One gunicorn of two workers on Postgres relays what a model's server says, beside a bare relay
under gunicorn's own threaded worker, without a journal or a database. Model, readers, and whoever
asks for something else meanwhile are a process each. Every token is the instant it was sent at.
Set TEST_DATABASE_URL to a Postgres that a database may be made on.
"""

import logging
import re
import selectors
import socket
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from app import create_app
from tests.benchmark import background, people, request, scratch_database
from tests.servers import Service

STREAMS, STREAMS_A_USER = 1000, 8
WORKERS = 2
STARTS_A_SECOND = 100
TOKENS_A_SECOND = 20
# Counted from when the last stream has begun, with a moment to settle.
SETTLE_SECONDS, SECONDS = 3, 40
ON_TIME_SECONDS, SOON_SECONDS, STALL_SECONDS = 1, 0.25, 1
ON_TIME = 0.95

# So many groups of streams have their token one after the other, so that it is not all at once.
GROUPS = 50
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OBJECT = (
    'data: {"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion.chunk",'
    '"created":1741570283,"model":"gpt-4o-2024-08-06","service_tier":"default",'
    '"system_fingerprint":"fp_fc9f1d7035","choices":[%s],"usage":%s}\n\n'
)
CHOICE = '{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}'
LAST = (
    OBJECT % (CHOICE % ("{}", '"stop"'), "null")
    + OBJECT % ("", '{"prompt_tokens":20,"completion_tokens":800,"total_tokens":820}')
    + "data: [DONE]\n\n"
)
TOKEN = re.compile(rb"(\d{10}) ")


def now_ms() -> int:
    """An instant that all processes of a machine agree on."""
    return time.monotonic_ns() // 1_000_000


def chunk(data: str) -> bytes:
    """A chunk of a body, RFC 9112 §7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data.encode())


class Model:
    """Speaks chat completions to anybody, for so long, and costs little."""

    def __init__(self, listener: socket.socket, tokens: int):
        self.tokens = tokens
        self.groups: list[dict[socket.socket, int]] = [{} for _ in range(GROUPS)]
        self.asked = 0
        self.lost = 0
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        listener.setblocking(False)

    def accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = bytearray()
            self.selector.register(
                sock, selectors.EVENT_READ, lambda sock: self.receive(sock, data)
            )

    def receive(self, sock: socket.socket, data: bytearray) -> None:
        try:
            received = sock.recv(65536)
        except OSError:
            received = b""
        data += received
        if not received:
            self.selector.unregister(sock)
            sock.close()
        elif b"\r\n\r\n" in data and is_whole(data):
            data.clear()
            sock.send(HEAD)
            self.groups[self.asked % GROUPS][sock] = self.tokens
            self.asked += 1

    def serve(self, is_over: Callable[[], bool]) -> None:
        """Give every stream its token when it is due, one group after the other."""
        due = time.monotonic()
        group = 0
        while not is_over():
            due += 1 / TOKENS_A_SECOND / GROUPS
            group = (group + 1) % GROUPS
            while (left := due - time.monotonic()) > 0:
                for key, _ in self.selector.select(left):
                    key.data(key.fileobj)
            self.send(self.groups[group])

    def send(self, streams: dict[socket.socket, int]) -> None:
        delta = f'{{"content":"{now_ms():010d} "}}'
        token = chunk(OBJECT % (CHOICE % (delta, "null"), "null"))
        for sock, left in list(streams.items()):
            try:
                if left:
                    sock.send(token)
                    streams[sock] = left - 1
                else:
                    sock.send(chunk(LAST) + b"0\r\n\r\n")
                    del streams[sock]
            except OSError:  # nobody reads it, or nobody is there
                self.lost += 1
                del streams[sock]


def is_whole(data: bytearray) -> bool:
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return len(body) >= int(length[1])


def serve_model(listener: socket.socket, tokens: int, seconds: float, found) -> None:
    model = Model(listener, tokens)
    ends_at = time.monotonic() + seconds
    model.serve(lambda: time.monotonic() > ends_at)
    used = time.process_time()
    found.put((model.asked, model.lost, used))


class Reader:
    """One client of a stream: when each of its tokens was sent, and when it came."""

    def __init__(self, port: int, asks: bytes):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sock.send(asks)
        self.asked_at = now_ms()
        self.sent, self.came = array("q"), array("q")
        self.head = b""
        self.data = b""
        self.is_ending = self.is_over = False

    def receive(self) -> None:
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_over = True
            return
        came = now_ms()
        self.head = self.head or data
        self.data += data
        end = 0
        # An answer's last event has all of them again.
        ends_at = self.data.find(b"RUN_FINISHED")
        self.is_ending = self.is_ending or ends_at >= 0
        for match in TOKEN.finditer(self.data[: max(ends_at, 0)] if self.is_ending else self.data):
            self.sent.append(int(match[1]))
            self.came.append(came)
            end = match.end()
        # Both kinds of stream end in what a whole one ends in, and nothing else.
        self.is_over = self.data.endswith(b"0\r\n\r\n")
        self.data = self.data[max(end, len(self.data) - len(b"RUN_FINISHED")) :]


class Measured(NamedTuple):
    """What became of the tokens that were sent while all streams were open."""

    tokens: int
    on_time: float
    soon: float
    errors: int
    stalls: int
    median_ms: float
    worst_ms: int
    began_seconds: float
    began_at: float


def read_streams(port: int, asks: list[bytes], tokens: int, seconds: float, found) -> None:
    """Begin streams one after the other, and read them all to their ends."""
    selector = selectors.DefaultSelector()
    readers: list[Reader] = []
    began = time.monotonic()
    while time.monotonic() < began + seconds and not (
        len(readers) == len(asks) and all(each.is_over for each in readers)
    ):
        due = int((time.monotonic() - began) * STARTS_A_SECOND) + 1
        for ask in asks[len(readers) : due]:
            reader = Reader(port, ask)
            selector.register(reader.sock, selectors.EVENT_READ, reader)
            readers.append(reader)
        for key, _ in selector.select(0.01 if len(readers) < len(asks) else 0.5):
            key.data.receive()
            if key.data.is_over:
                selector.unregister(key.fileobj)
    found.put(measure(readers, tokens, int(began * 1000)))


def measure(readers: list[Reader], tokens: int, began_ms: int) -> Measured:
    starts = [each.sent[0] - each.asked_at for each in readers if each.sent]
    since = max(each.sent[0] for each in readers if each.sent) + SETTLE_SECONDS * 1000
    until = since + SECONDS * 1000
    late, errors, stalls = [], 0, 0
    for each in readers:
        whole = each.is_over and len(each.sent) == tokens
        if not (whole and list(each.sent) == sorted(set(each.sent))):
            errors += 1
            print(f"error: {len(each.sent)} of {tokens} tokens after {each.head[:12]}")
        times = [came for came in each.came if since <= came <= until]
        stalls += sum(b - a > STALL_SECONDS * 1000 for a, b in pairwise(times))
        pairs = zip(each.sent, each.came, strict=True)
        late += [came - sent for sent, came in pairs if since <= sent <= until]
    expected = len(readers) * SECONDS * TOKENS_A_SECOND
    return Measured(
        len(late),
        sum(ms <= ON_TIME_SECONDS * 1000 for ms in late) / max(len(late), expected * 0.999),
        sum(ms <= SOON_SECONDS * 1000 for ms in late) / max(len(late), expected * 0.999),
        errors,
        stalls,
        statistics.median(late),
        max(late),
        max(starts) / 1000,
        since / 1000,
    )


def ask_again(port: int, asks: bytes, seconds: float, found) -> None:
    """Ask for the same again and again, with a pause between; finds how long it took."""
    took, failed = [], 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            began = time.monotonic()
            sock.sendall(asks)
            answer = b""
            while not answer.endswith(b"}\n"):
                answer += sock.recv(65536)
            failed += not answer.startswith(b"HTTP/1.1 200")
            took.append((time.monotonic() - began) * 1000)
            time.sleep(0.02)
    found.put((statistics.median(took), statistics.quantiles(took, n=100)[98], failed))


class Subject(NamedTuple):
    """What is measured: a server, what begins a stream on it, and what else it is asked for."""

    server: Service
    streams: list[bytes]
    other: bytes


def measure_subject(name: str, subject: Subject, model: socket.socket) -> None:
    starting = STREAMS / STARTS_A_SECOND
    tokens = int((starting + SETTLE_SECONDS + SECONDS + 7) * TOKENS_A_SECOND)
    seconds = tokens / TOKENS_A_SECOND + starting + 15
    port = subject.server.port
    with subject.server, background(serve_model, model, tokens, seconds + 10) as modelled:
        with background(ask_again, port, subject.other, 5.0) as found:
            alone = found.get()
        memory = subject.server.memory_mb()
        with background(read_streams, port, subject.streams, tokens, seconds) as found:
            time.sleep(starting + SETTLE_SECONDS + 1)
            used, began = subject.server.cpu_seconds(), time.monotonic()
            with background(ask_again, port, subject.other, SECONDS - 5) as beside:
                busy = beside.get()
            used = (subject.server.cpu_seconds() - used) / (time.monotonic() - began)
            held = (subject.server.memory_mb() - memory) * 1e3 / STREAMS
            measured: Measured = found.get()
        asked, lost, spent = modelled.get()
    a_second = measured.tokens / SECONDS
    print(
        f"{name}: {measured.on_time:.3f} of the tokens within {ON_TIME_SECONDS} s (target"
        f" {ON_TIME}), {measured.soon:.3f} within {SOON_SECONDS * 1000:.0f} ms, median"
        f" {measured.median_ms:.0f} ms, worst {measured.worst_ms} ms\n"
        f"  {measured.tokens} tokens, {measured.errors} errors, {measured.stalls} stalls over"
        f" {STALL_SECONDS} s; first token after {measured.began_seconds:.2f} s at the worst\n"
        f"  another route: median {alone[0]:.1f} ms and p99 {alone[1]:.1f} ms without,"
        f" {busy[0]:.1f} and {busy[1]:.1f} ms with, {busy[2]} errors\n"
        f"  {held:.0f} kB and {used / a_second * 1000:.3f} ms of processor a token,"
        f" {used:.2f} processors; the model's {spent / seconds:.2f} ({asked} asked, {lost} lost)",
        flush=True,
    )


def subjects(folder: Path, url: str, model_url: str) -> dict[str, Subject]:
    settings = {
        "DATABASE_URL": url,
        "SECRET_KEY": "a-key-for-the-benchmark-" * 2,
        "RATE_LIMITS": "off",
        "OPENAI_BASE_URL": model_url,
        "AGENT_MODEL": "test",
        "WEB_CONCURRENCY": str(WORKERS),
    }
    app = create_app({**settings, "INSTANCE_PATH": str(folder)})
    logging.getLogger("runtime").setLevel(logging.WARNING)  # this process's alone
    users = people(app, -(-STREAMS // STREAMS_A_USER))
    service = Service(folder / "service", settings)
    relay = Service(folder / "relay", settings, "tests.benchmark_floor:app", WEB_THREADS="1000")
    body = {"message": "Tell me something that takes a minute."}
    asks = request("POST", "/api/v1/agent-chats", body, "%s")
    asks = asks.replace(b"\r\n\r\n", b"\r\nAccept: text/event-stream\r\n\r\n", 1)
    tokens = [users[number % len(users)]["access"].encode() for number in range(STREAMS)]
    return {
        "service": Subject(
            service,
            [asks % token for token in tokens],
            request("GET", "/api/v1/users/me", token=users[0]["access"]),
        ),
        "bare relay": Subject(
            relay, [request("POST", "/relay", body)] * STREAMS, request("GET", "/bare")
        ),
    }


def main() -> None:
    with (
        scratch_database() as url,
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as model,
    ):
        model_url = f"http://127.0.0.1:{model.getsockname()[1]}/v1"
        for name, subject in subjects(Path(folder), url, model_url).items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                measure_subject(name, subject, model)


if __name__ == "__main__":
    main()
