"""Two machines' worth: two gunicorns of two workers, one Postgres, one Redis, nginx in front."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import SignedIn
from tests.faults.writers import Writer
from tests.servers import Answer, Client, Load, Nginx, Postgres, Service, children, wait_until

CODES_A_NETWORK = 100


class Hasty(Client):
    """Opens a connection for each request, so that each may come to another worker."""

    def ask(self, *arguments, **headers) -> Answer:
        return super().ask(*arguments, **headers, Connection="close")


@pytest.fixture(scope="module")
def machines(settings: dict[str, str], tmp_path_factory) -> Iterator[list[Service]]:
    folder = tmp_path_factory.mktemp("machines")
    with ExitStack() as stack:
        yield [
            stack.enter_context(Service(folder / name, settings, WEB_CONCURRENCY="2"))
            for name in ("one", "other")
        ]


@pytest.fixture(scope="module")
def nginx(machines: list[Service], tmp_path_factory) -> Iterator[Nginx]:
    """Asks both machines in turn."""
    with Nginx(tmp_path_factory.mktemp("nginx"), [each.port for each in machines]) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def router(nginx: Nginx) -> Hasty:
    return Hasty(nginx.port)


@contextmanager
def writing(writers: list[Writer]) -> Iterator[list[Load]]:
    """Each writes without a rest while the block runs."""
    with ExitStack() as stack:
        yield [stack.enter_context(Load(writer.write, threads=1)) for writer in writers]


def lost(writers: list[Writer], database_url: str) -> list[str]:
    """All that was acknowledged to any of them and is not there."""
    return [each for writer in writers for each in writer.lost(database_url)]


def test_a_sign_out_on_one_is_401_on_the_others_at_the_next_request(
    machines: list[Service], people: Callable[[int], list[SignedIn]]
):
    one, other = (Hasty(machine.port) for machine in machines)
    everybody = people(10)
    assert everybody
    for person in everybody:
        for client in (one, other) * 4:  # whatever a worker might keep of a session, it keeps
            assert client.get("/users/me", person.access_token).status == 200
        signed_out = one.ask("DELETE", "/auth/sessions", {"refresh_token": person.refresh_token})
        assert signed_out.status == 204
        for client in (other, one) * 4:
            assert client.get("/users/me", person.access_token).status == 401


def test_a_limit_of_so_many_is_so_many_in_all(router: Hasty):
    def try_code(number: int) -> int:
        wrong = {"email": f"{number}@example.org", "token": "000000"}
        return router.post("/auth/verifications/verify", wrong).status

    with ThreadPoolExecutor(16) as threads:
        statuses = Counter(threads.map(try_code, range(CODES_A_NETWORK + 30)))

    assert statuses == {401: CODES_A_NETWORK, 429: 30}


def test_fifty_parallel_refreshes_over_both_give_one_successor(
    router: Hasty, people: Callable[[int], list[SignedIn]]
):
    together = threading.Barrier(50)

    def refresh(token: str) -> Answer:
        together.wait()
        return router.post("/auth/sessions/refresh", {"refresh_token": token})

    everybody = people(3)
    assert everybody
    with ThreadPoolExecutor(50) as threads:
        for person in everybody:
            answers = list(threads.map(refresh, [person.refresh_token] * 50))

            assert Counter(answer.status for answer in answers) == {200: 50}
            tokens = {(a.json["access_token"], a.json["refresh_token"]) for a in answers}
            assert len(tokens) == 1
            access_token, refresh_token = tokens.pop()
            assert router.get("/users/me", access_token).status == 200
            again = router.post("/auth/sessions/refresh", {"refresh_token": refresh_token})
            assert again.status == 200


def test_a_rolling_restart_fails_no_request(
    settings: dict[str, str],
    postgres: Postgres,
    people: Callable[[int], list[SignedIn]],
    tmp_path: Path,
):
    """As a platform does it: the new ones are up, the router sends to them, the old are told."""
    with ExitStack() as stack:

        def start(name: str) -> Service:
            return stack.enter_context(Service(tmp_path / name, settings, RATE_LIMITS="off"))

        old = start("old")
        nginx = stack.enter_context(Nginx(tmp_path / "nginx", [old.port]))
        writers = [Writer(person, Hasty(nginx.port)) for person in people(6)]
        with writing(writers) as loads:
            new = start("new")
            routers = set(children(nginx.process.pid))
            nginx.reload([new.port])
            wait_until(
                lambda: not routers & set(children(nginx.process.pid)),
                20,
                "the router sends to the new ones alone",
            )
            old.stop()
            time.sleep(0.5)

        errors = (nginx.folder / "errors").read_text()
        print(f"{sum(load.statuses.total() for load in loads)} requests")
        assert not [load.errors for load in loads if load.errors]
        assert {status for load in loads for status in load.statuses} == {200, 202}, errors
        assert lost(writers, postgres.url) == []


def test_machines_whose_clocks_differ_sign_nobody_out(
    settings: dict[str, str],
    people: Callable[[int], list[SignedIn]],
    tmp_path: Path,
):
    """One is right, one 30 s ahead; then that one is set back an hour."""
    clock = tmp_path / "clock"
    clock.write_text("30")
    with (
        Service(tmp_path / "right", settings) as right,
        Service(
            tmp_path / "wrong", {**settings, "CLOCK_FILE": str(clock)}, "tests.faults.clock_app:app"
        ) as wrong,
    ):
        for offset in (30, -30, -3700):
            clock.write_text(str(offset))
            clients = wrong.client, right.client
            everybody = people(2)
            assert everybody
            for person, client in zip(everybody, clients, strict=True):
                begun = client.post(
                    "/auth/sessions", {"email": person.email, "password": person.password}
                )
                assert begun.status == 200, begun.body
                refused = use_everywhere(begun.json, clients)
                assert refused == [], f"{offset} s, signed in at {clients.index(client)}"


def use_everywhere(pair: dict, clients: tuple[Client, ...]) -> list[str]:
    """Use a session in turns on all machines; what was refused."""
    refused = []
    for turn in range(3):
        for index, client in enumerate(clients):
            for reader, each in enumerate(clients):
                if each.get("/users/me", pair["access_token"]).status != 200:
                    refused.append(f"turn {turn}: {index}'s access token at {reader}")
            answer = client.post("/auth/sessions/refresh", {"refresh_token": pair["refresh_token"]})
            if answer.status != 200:
                return [*refused, f"turn {turn}: refresh at {index}"]
            pair = answer.json
    return refused


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_workers_lose_nothing_that_was_acknowledged(
    kills: int,
    settings: dict[str, str],
    postgres: Postgres,
    people: Callable[[int], list[SignedIn]],
    tmp_path: Path,
):
    with Service(tmp_path / "service", settings, WEB_CONCURRENCY="2", RATE_LIMITS="off") as service:
        writers = [Writer(person, service.client) for person in people(6)]
        killed: set[int] = set()
        with writing(writers) as loads:
            for _ in range(kills):
                time.sleep(random.uniform(0.1, 0.6))
                wait_until(lambda: set(service.workers()) - killed, 30, "a worker is there")
                victim = random.choice(sorted(set(service.workers()) - killed))
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
            wait_until(lambda: len(set(service.workers()) - killed) == 2, 30, "both are back")
            time.sleep(0.5)
        wait_until(service.is_ready, 30, "the service answers")

        asked = sum(len(load.asked) for load in loads)
        unanswered = sum(len(load.errors) for load in loads)
        acknowledged = sum(writer.acknowledged for writer in writers)
        print(
            f"{len(killed)} killed, {asked} requests, {unanswered} unanswered, {acknowledged} kept"
        )
        assert {status for load in loads for status in load.statuses} <= {200, 202, 409}
        assert lost(writers, postgres.url) == []
        assert acknowledged > 10 * kills


def test_a_machine_that_stops_while_the_router_still_sends_to_it_fails_no_request(
    machines: list[Service],
    nginx: Nginx,
    postgres: Postgres,
    people: Callable[[int], list[SignedIn]],
):
    """It takes no connection any more, which the router sees, and ends those it has in order."""
    writers = [Writer(person, Hasty(nginx.port)) for person in people(6)]
    with writing(writers) as loads:
        time.sleep(0.5)
        machines[0].stop()
        time.sleep(0.5)
    errors = (nginx.folder / "errors").read_text()

    print(f"{sum(load.statuses.total() for load in loads)} requests")
    assert not [load.errors for load in loads if load.errors]
    # On a fast machine one person chats more than 60 times a minute.
    assert {status for load in loads for status in load.statuses} <= {200, 202, 429}, errors
    assert lost(writers, postgres.url) == []
