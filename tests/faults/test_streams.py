"""Many streams of one service, and what becomes of runs and their readers when it stops."""

import json
import os
import signal
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from runtime.config.settings import ROOT
from tests.agent.completions_server import (
    DONE,
    HANG,
    CompletionsServer,
    Drip,
    Pause,
    Reply,
    finish,
    stream,
    text,
)
from tests.faults.conftest import SECRET_KEY, SignedIn, flask
from tests.servers import PREFIX, Service, wait_until
from tests.streaming import Listener

STREAMS_A_USER = 8
# The requests' time and the mail's, so short that a stop is over soon.
STOP_SECONDS, DRAIN_SECONDS, INTERRUPT_SECONDS = 6, 1, 3
LOWERED = """
    import runtime.gunicorn.bounds as worker
    worker.STOP_SECONDS, worker.DRAIN_SECONDS, worker.INTERRUPT_SECONDS = {stop}, {drain}, {end}
    from runtime.server import *
"""


@pytest.fixture
def model() -> Iterator[CompletionsServer]:
    with CompletionsServer() as server:
        yield server
        server.stopping.set()


@pytest.fixture
def settings(model: CompletionsServer, tmp_path: Path) -> dict[str, str]:
    """One machine with SQLite."""
    url = f"sqlite:///{tmp_path}/runtime.sqlite3"
    flask("db", "upgrade", DATABASE_URL=url)
    return {
        "DATABASE_URL": url,
        "SECRET_KEY": SECRET_KEY,
        "OPENAI_BASE_URL": model.url,
        "AGENT_MODEL": "test",
        "RATE_LIMITS": "off",
    }


class Lowered(Service):
    """Takes less time to stop."""

    def command(self) -> list[str]:
        values = {"stop": STOP_SECONDS, "drain": DRAIN_SECONDS, "end": INTERRUPT_SECONDS}
        (self.folder / "lowered.py").write_text(textwrap.dedent(LOWERED).format(**values))
        return [each.replace("runtime.server", "lowered") for each in super().command()]

    def environ(self) -> dict[str, str]:
        return {**super().environ(), "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"}


@pytest.fixture
def machines(settings: dict[str, str], tmp_path: Path) -> Iterator[list[Service]]:
    """Two processes on one database."""
    with ExitStack() as stack:
        yield [stack.enter_context(Lowered(tmp_path / name, settings)) for name in ("one", "other")]


def talk(every_seconds: float) -> Reply:
    """An answer that goes on and on."""
    return stream(Drip(f"data: {json.dumps(text('word '))}\n\n", every_seconds))


def asks(person: SignedIn) -> bytes:
    """A request for a stream, as it goes over the wire."""
    body = json.dumps({"message": "hello"})
    lines = [
        f"POST {PREFIX}/agent-chats HTTP/1.1",
        "Host: x",
        "Accept: text/event-stream",
        "Content-Type: application/json",
        f"Authorization: Bearer {person.access_token}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", body]).encode()


class Readers:
    """Clients that begin a run each, and read when they are told to."""

    def __init__(self, service: Service, people: list[SignedIn], narrow: bool = False):
        self._stack = ExitStack()
        self.sockets = []
        for person in people:
            client = self._stack.enter_context(socket.socket())
            if narrow:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.settimeout(30)
            client.connect(("127.0.0.1", service.port))
            client.sendall(asks(person))
            self.sockets.append(client)

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_error) -> None:
        self._stack.close()

    def read(self) -> list[bytes]:
        """All that each of them is sent."""
        return [b"".join(iter(partial(client.recv, 65536), b"")) for client in self.sockets]


def heard(service: Service, person: SignedIn, **kwargs) -> tuple[Listener, threading.Thread]:
    """Somebody who begins a run and listens in the background, the first word heard."""
    listener = Listener(person.access_token, **kwargs)
    thread = threading.Thread(target=listener.listen, args=[service.port])
    thread.start()
    wait_until(lambda: listener.text, 10, "the first word")
    return listener, thread


def demand_free(service: Service, listener: Listener, model: CompletionsServer) -> None:
    """The chat takes the next message at once."""
    model.script(stream(text("Next"), finish(), DONE))
    following = Listener(listener.token, session_id=listener.chat)
    following.listen(service.port)
    assert following.text == "Next"


# Many


def test_fifty_streams_leave_the_threads_to_others(
    settings: dict, people: Callable, model: CompletionsServer, tmp_path: Path
):
    model.script(talk(0.2))
    everybody = people(7) * STREAMS_A_USER
    with Service(tmp_path / "service", settings, WEB_THREADS="2") as service:
        with Readers(service, everybody[:50]) as readers:
            for client in readers.sockets:
                assert b"RUN_STARTED" in client.recv(65536) + client.recv(65536)
            for _ in range(10):
                asked = service.client.get("/users/me", everybody[0].access_token)
                assert (asked.status, asked.seconds < 10) == (200, True)
        # Nobody reads any more, and the runs go on.
        assert service.client.get("/users/me", everybody[0].access_token).status == 200
        model.stopping.set()


def test_a_reader_that_takes_nothing_slows_neither_its_run_nor_others(
    settings: dict, people: Callable, model: CompletionsServer, tmp_path: Path
):
    words = [text("word " * 2000)] * 100
    model.script(stream(*words, finish(), DONE))
    [alice, bob] = people(2)
    large = {"AGENT_MAX_OUTPUT_CHARS": "2000000"}
    with Service(tmp_path / "service", settings | large) as service:
        with Readers(service, [alice], narrow=True) as stalled:
            wait_until(lambda: service.events("run_ended"), 15, "the run goes to its end")
            model.script(stream(text("quick"), finish(), DONE))
            other = Listener(bob.access_token)
            other.listen(service.port)
            assert other.text == "quick"
            [late] = stalled.read()
        assert late.endswith(b"0\r\n\r\n")
        assert b"RUN_FINISHED" in late


@pytest.mark.parametrize("count", [500])
def test_hundreds_of_streams_lose_no_word(
    settings: dict, people: Callable, model: CompletionsServer, tmp_path: Path, count: int
):
    words = [part for n in range(20) for part in (text(f"<{n}>"), Pause(0.1))]
    model.script(stream(*words, finish(), DONE))
    everybody = people(-(-count // STREAMS_A_USER)) * STREAMS_A_USER
    with (
        Service(tmp_path / "service", settings) as service,
        Readers(service, everybody[:count]) as readers,
    ):
        whole = "".join(f"<{n}>" for n in range(20)).encode()
        for answer in readers.read():
            assert answer.endswith(b"0\r\n\r\n")
            assert b'"output":"%b"' % whole in answer


# Stopped


def test_a_stop_lets_runs_end_and_their_readers_hear_it(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(stream(text("Hel"), Pause(1), text("lo"), finish(), DONE))
    [alice] = people(1)
    listener, thread = heard(machines[0], alice)

    machines[0].stop()
    thread.join()

    assert machines[0].process.returncode == 0
    assert listener.events[-1][1]["type"] == "RUN_FINISHED"
    assert listener.text == "Hello"


def test_a_stop_sends_readers_of_other_processes_away(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(talk(0.05))
    [alice] = people(1)
    writer, writing = heard(machines[0], alice)
    reader, reading = heard(machines[1], alice, where=writer.where)

    began = time.monotonic()
    machines[1].stop()
    reading.join()

    assert time.monotonic() - began < STOP_SECONDS / 2
    assert not reader.is_over
    before = len(reader.events)
    model.stopping.set()
    reader.listen(machines[0].port)
    writing.join()
    assert reader.is_over
    assert reader.text == writer.text
    assert len(reader.events) > before


def test_a_stop_ends_runs_that_go_on_and_tells_everybody(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(talk(0.05))
    [alice, bob] = people(2)
    listener, thread = heard(machines[0], alice)
    asked: list = []
    asking = threading.Thread(
        target=lambda: asked.append(
            machines[0].client.post("/agent-chats", {"message": "hello"}, bob.access_token)
        )
    )
    asking.start()
    wait_until(lambda: len(model.requests) == 2, 5, "both runs have begun")

    began = time.monotonic()
    machines[0].stop()
    thread.join()
    asking.join()

    assert time.monotonic() - began > STOP_SECONDS - DRAIN_SECONDS - INTERRUPT_SECONDS
    assert time.monotonic() - began < STOP_SECONDS
    assert "SIGKILL" not in machines[0].log
    ending = listener.events[-1][1]
    assert (ending["type"], ending["error"]) == ("RUN_ERROR", "回答因服务中断而停止")
    assert ending["output"] == listener.text
    assert asked[0].json["events"][-1]["type"] == "RUN_ERROR"
    assert asked[0].json["output"].startswith("word word ")
    demand_free(machines[1], listener, model)


def test_a_stop_waits_for_a_run_that_nobody_reads(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(stream(text("Hel"), Pause(1.5), text("lo"), finish(), DONE))
    [alice] = people(1)
    listener = Listener(alice.access_token)
    listener.listen(machines[0].port, iter([65536] * 2))

    machines[0].stop()

    assert machines[0].process.returncode == 0
    again = Listener(alice.access_token, where=listener.where)
    began = time.monotonic()
    again.listen(machines[1].port)
    assert time.monotonic() - began < 10
    assert again.text == "Hello"
    assert again.events[-1][1]["type"] == "RUN_FINISHED"


def test_a_stop_ends_a_run_that_nobody_reads(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(stream(text("Hel"), HANG))
    [alice] = people(1)
    listener = Listener(alice.access_token)
    listener.listen(machines[0].port, iter([65536] * 2))

    machines[0].stop()

    assert "SIGKILL" not in machines[0].log
    demand_free(machines[1], listener, model)


def test_an_interrupt_locks_no_chat(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(talk(0.05))
    [alice] = people(1)
    listener = Listener(alice.access_token)
    listener.listen(machines[0].port, iter([65536] * 2))

    machines[0].stop(signal.SIGINT)

    demand_free(machines[1], listener, model)
