"""Runs while readers are cut off, workers are killed, and Redis goes away."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from uuid import uuid4

import pytest

from runtime.services.chats.keeper import LEASE_SECONDS
from tests.agent.completions_server import (
    DONE,
    HANG,
    CompletionsServer,
    Pause,
    finish,
    stream,
    text,
)
from tests.faults.conftest import SECRET_KEY, SignedIn, flask
from tests.servers import Client, Postgres, Redis, Service, wait_until
from tests.streaming import Listener, Refused, until

WORDS = [f"{number} " for number in range(60)]


@pytest.fixture(scope="module")
def model() -> Iterator[CompletionsServer]:
    """Says sixty words in half a second or more."""
    with CompletionsServer() as server:
        yield server


@pytest.fixture(autouse=True)
def script(model: CompletionsServer) -> Iterator[None]:
    model.stopping.clear()
    parts = [part for word in WORDS for part in (text(word), Pause(random.uniform(0.002, 0.02)))]
    model.script(stream(*parts, finish(), DONE))
    yield
    model.stopping.set()


def settings_on(ground: str, model: CompletionsServer, request, folder: Path) -> dict[str, str]:
    """The environment of a service on SQLite, Postgres, or Postgres with Redis."""
    settings = {
        "SECRET_KEY": SECRET_KEY,
        "OPENAI_BASE_URL": model.url,
        "AGENT_MODEL": "test",
        "RATE_LIMITS": "off",
        "DATABASE_URL": f"sqlite:///{folder}/runtime.sqlite3",
    }
    if ground != "sqlite":
        settings["DATABASE_URL"] = request.getfixturevalue("postgres").url
    if ground in ("redis", "redis goes"):
        settings["REDIS_URL"] = request.getfixturevalue("redis").url
    return settings


GROUNDS = ["sqlite", "postgres", "redis", "redis goes"]


@pytest.fixture(params=GROUNDS)
def settings(request, model: CompletionsServer, tmp_path: Path) -> dict[str, str]:
    found = settings_on(request.param, model, request, tmp_path)
    if request.param == "sqlite":
        flask("db", "upgrade", DATABASE_URL=found["DATABASE_URL"])
    return found


@pytest.fixture
def machines(settings: dict[str, str], tmp_path: Path) -> Iterator[list[Service]]:
    """Two processes, so that a test knows which of them it asks."""
    with ExitStack() as stack:
        yield [stack.enter_context(Service(tmp_path / name, settings)) for name in ("one", "other")]


def cut_again_and_again(listener: Listener, ports: list[int], cuts: int) -> int:
    """Hear a run to its end, cut `cuts` times at any place, each time on the other port."""
    for number in range(cuts):
        sizes = iter([random.randint(1, 700) for _ in range(random.randint(1, 4))])
        listener.listen(ports[number % 2], sizes, reset=random.random() < 0.5)
        if listener.is_over:
            return number
    while not listener.is_over:
        listener.listen(ports[cuts % 2])
    return cuts


def demand_whole(listener: Listener) -> None:
    numbers = [number for number, _ in listener.events]
    assert numbers == sorted(set(numbers))
    assert listener.text == "".join(WORDS)
    assert listener.events[-1][1]["output"] == listener.text


def cut_runs(machines: list[Service], people, runs: int, cuts: int) -> int:
    """So many runs, cut so often each at most; how many cuts there were."""
    ports = [machine.port for machine in machines]
    everybody = people(4)

    def one(number: int) -> int:
        person = everybody[number % len(everybody)]
        asks_again = number % 2 == 1
        listener = Listener(person.access_token, key=uuid4().hex, asks_again=asks_again)
        done = cut_again_and_again(listener, random.sample(ports, 2), cuts)
        demand_whole(listener)
        return done

    with ThreadPoolExecutor(2 * len(everybody)) as threads:
        return sum(threads.map(one, range(runs)))


def test_a_reader_that_is_cut_off_misses_nothing(
    machines: list[Service], people: Callable, settings: dict, request
):
    with stopped_half_way(request, settings, seconds=1.5):
        assert cut_runs(machines, people, runs=24, cuts=12) > 100


@pytest.mark.slow
def test_ten_thousand_cuts_lose_nothing(
    machines: list[Service], people: Callable, settings: dict, request
):
    cuts = 0
    with stopped_half_way(request, settings, seconds=20):
        while cuts < 10_000:
            more = cut_runs(machines, people, runs=200, cuts=30)
            assert more
            cuts += more
    print(f"{cuts} cuts")
    assert cuts >= 10_000


class stopped_half_way:
    """Stops Redis after so many seconds, where that is what is tested; starts it in the end."""

    def __init__(self, request, settings: dict, seconds: float) -> None:
        is_wanted = request.node.callspec.params["settings"] == "redis goes"
        self._redis: Redis | None = request.getfixturevalue("redis") if is_wanted else None
        self._timer = threading.Timer(seconds, self._redis.stop if self._redis else int)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_error) -> None:
        self._timer.join()
        if self._redis:
            self._redis.start()


# Killed


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
def test_readers_elsewhere_are_told_that_the_process_of_a_run_died(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(stream(text("Hel"), text("lo"), HANG))
    [alice] = people(1)
    listener = Listener(alice.access_token)
    listener.listen(machines[0].port, iter([65536]))
    thread = threading.Thread(target=listener.listen, args=[machines[1].port])
    thread.start()
    wait_until(lambda: listener.text == "Hello", 5, "the words are heard")

    for pid in machines[0].pids():
        os.kill(pid, signal.SIGKILL)
    died_at = time.monotonic()
    thread.join()

    assert time.monotonic() - died_at < LEASE_SECONDS + 5
    assert listener.text == "Hello"
    ending = listener.events[-1][1]
    assert (ending["type"], ending["output"]) == ("RUN_ERROR", "Hello")
    assert ending["error"] == "回答因服务中断而停止"
    model.stopping.set()
    model.script(stream(text("Next"), finish(), DONE))
    following = Listener(alice.access_token, session_id=listener.chat)
    following.listen(machines[1].port)
    assert following.text == "Next"


class Talker:
    """Somebody who listens to one run after another, whatever becomes of the connection."""

    def __init__(self, person: SignedIn, port: int) -> None:
        self.person = person
        self.port = port
        self.runs: list[Listener] = []

    def talk(self, until: float) -> None:
        while time.monotonic() < until:
            listener = Listener(self.person.access_token, key=uuid4().hex)
            self.runs.append(listener)
            while not listener.is_over and time.monotonic() < until:
                try:
                    listener.listen(self.port)
                except (OSError, HTTPException, Refused):
                    time.sleep(0.05)
                    if random.random() < 0.8:  # Else they wait for the run to be found dead.
                        break

    def lost(self, client: Client) -> list[str]:
        """Words that were heard and are in no journal."""
        found = []
        for listener in self.runs:
            if listener.where:
                whole = Listener(self.person.access_token, where=listener.where)
                whole.listen(self.port)
                if not whole.is_over or not whole.text.startswith(listener.text):
                    found.append(f"{listener.text!r} of {whole.text!r}")
                if whole.is_over and listener.is_over and whole.text != listener.text:
                    found.append(f"{listener.text!r} is not {whole.text!r}")
        return found

    def demand_that_chats_go_on(self) -> None:
        for listener in self.runs[-20:]:
            if listener.where:
                following = Listener(self.person.access_token, session_id=listener.chat)
                following.listen(self.port)
                assert following.text == "".join(WORDS)


def kill_workers(service: Service, kills: int, seconds: float) -> int:
    """Kill a worker every so many seconds; how many were killed."""
    killed = 0
    for _ in range(kills):
        time.sleep(seconds)
        with suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(service.workers()), signal.SIGKILL)
            killed += 1
    return killed


def demand_words_survive(service: Service, people: Callable, kills: int, seconds: float) -> None:
    """Kill workers in the middle of runs; every word that was heard is there, no chat locked."""
    talkers = [Talker(person, service.port) for person in people(6)]
    until = time.monotonic() + kills * seconds + 2
    with ThreadPoolExecutor(len(talkers)) as threads:
        talking = [threads.submit(talker.talk, until) for talker in talkers]
        assert kill_workers(service, kills, seconds) == kills
        for each in talking:
            each.result()
    time.sleep(LEASE_SECONDS)
    assert [each for talker in talkers for each in talker.lost(service.client)] == []
    assert sum(len(talker.runs) for talker in talkers) > kills
    with ThreadPoolExecutor(len(talkers)) as threads:
        list(threads.map(Talker.demand_that_chats_go_on, talkers))


@pytest.mark.parametrize("settings", ["sqlite", "postgres"], indirect=True)
def test_words_survive_the_killing_of_workers(settings: dict, people: Callable, tmp_path: Path):
    with Service(tmp_path / "service", settings, WEB_CONCURRENCY="2") as service:
        demand_words_survive(service, people, kills=8, seconds=0.7)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["sqlite", "postgres"], indirect=True)
def test_words_survive_fifty_kills(settings: dict, people: Callable, tmp_path: Path):
    with Service(tmp_path / "service", settings, WEB_CONCURRENCY="2") as service:
        demand_words_survive(service, people, kills=50, seconds=0.7)


# Stopped, and asked again, by another process


@pytest.mark.parametrize("settings", ["sqlite", "postgres"], indirect=True)
def test_a_run_is_stopped_from_another_process(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    model.script(stream(text("Hel"), HANG))
    [alice] = people(1)
    for _ in range(5):
        model.left.clear()
        listener = Listener(alice.access_token)
        listener.listen(machines[0].port, until(lambda heard=listener: heard.text))
        path = listener.where.removeprefix("/api/v1").removesuffix("/events")

        stopped = machines[1].client.post(f"{path}/cancel", None, alice.access_token)

        assert (stopped.status, stopped.json["status"]) == (200, "stopped")
        assert model.left.wait(5), "the connection to the model is closed by then"
        assert stopped.seconds < 5


def test_a_key_gives_the_same_run_on_another_process(
    machines: list[Service], people: Callable, model: CompletionsServer
):
    [alice] = people(1)
    listeners = [Listener(alice.access_token, key="k") for _ in range(6)]
    before = len(model.requests)

    with ThreadPoolExecutor(6) as threads:
        ports = [machines[number % 2].port for number in range(6)]
        list(threads.map(Listener.listen, listeners, ports))

    assert len(model.requests) == before + 1
    assert {listener.run for listener in listeners} == {listeners[0].run}
    for listener in listeners:
        demand_whole(listener)


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
def test_a_run_waits_for_the_database_to_come_back(
    machines: list[Service], people: Callable, postgres: Postgres
):
    [alice] = people(1)
    listener = Listener(alice.access_token)
    thread = threading.Thread(target=listener.listen, args=[machines[0].port])
    thread.start()
    wait_until(lambda: listener.text, 5, "the run has begun")

    postgres.pause()
    time.sleep(3)
    postgres.resume()

    thread.join()
    demand_whole(listener)


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
def test_an_answer_in_json_does_not_wait_for_the_database_without_end(
    machines: list[Service], people: Callable, model: CompletionsServer, postgres: Postgres
):
    chat = str(uuid4())
    model.script(stream(text("Hel"), Pause(1), text("lo"), finish(), DONE))
    [alice] = people(1)
    replies, began_at = [], len(model.requests)

    def ask() -> None:
        body = {"message": "hello", "session_id": chat}
        replies.append(machines[0].client.post("/agent-chats", body, alice.access_token))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: len(model.requests) > began_at, 5, "the model is asked")
    postgres.pause()
    paused_at = time.monotonic()
    thread.join(20)
    assert [reply.status for reply in replies] == [503]
    assert int(replies[0].headers["Retry-After"]) > 0
    # Others find its lease run out as soon as there is a database again.
    is_over = threading.Event()
    path = f"/agent-chats/{chat}/messages"

    def look(machine: Service) -> None:
        while not is_over.is_set():
            machine.client.get(path, alice.access_token)

    looking = [threading.Thread(target=look, args=[machine]) for machine in machines]
    for each in looking:
        each.start()
    time.sleep(max(0, LEASE_SECONDS + 1 - (time.monotonic() - paused_at)))
    postgres.resume()

    def messages() -> list[dict]:
        return machines[1].client.get(path, alice.access_token).json.get("messages", [])

    wait_until(lambda: [m for m in messages() if m["status"] != "running"], 15, "it is over")
    is_over.set()
    for each in looking:
        each.join()
    found = [(message["content"], message["status"]) for message in messages()]
    assert found == [("hello", "finished"), ("Hello", "finished")]
