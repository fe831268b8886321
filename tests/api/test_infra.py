"""/health and /infra/health"""

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Log, Person, at_once
from tests.servers import wait_until


@pytest.fixture
def silent():
    """A server that accepts and says nothing; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_service_is_healthy(stranger: Person):
    assert stranger.get("/health").json == {"status": "ok"}


def test_what_it_stands_on_is_healthy(settings, stranger: Person):
    answer = stranger.get("/infra/health")

    assert answer.status_code == 200
    assert answer.json["status"] == "healthy"
    assert answer.json["services"]["database"]["status"] == "healthy"
    embedded = "REDIS_URL" not in settings
    assert answer.json["services"]["redis"]["status"] == "healthy"
    assert answer.json["services"]["redis"].get("mode") == ("embedded" if embedded else None)
    assert answer.json["services"]["redis"]["latency_ms"] >= 0


def test_a_redis_that_is_away_is_told(settings, request):
    settings |= {"REDIS_URL": "redis://127.0.0.1:1"}

    answer = request.getfixturevalue("stranger").get("/infra/health")

    assert answer.status_code == 200
    assert answer.json["status"] == "unhealthy"
    assert answer.json["services"]["redis"]["status"] == "unhealthy"
    assert isinstance(answer.json["services"]["redis"]["latency_ms"], int | float)
    assert "mode" not in answer.json["services"]["redis"]
    assert answer.json["services"]["database"]["status"] == "healthy"


@pytest.mark.quiet("tells one second from two")
def test_what_hangs_is_given_up_after_a_second_all_at_once(settings, request, silent: int):
    settings["REDIS_URL"] = f"redis://127.0.0.1:{silent}"
    settings["DATABASE_URL"] = f"postgres://nobody@127.0.0.1:{silent}/none"
    stranger = request.getfixturevalue("stranger")

    began = time.monotonic()
    answer = stranger.get("/infra/health")
    took = time.monotonic() - began

    statuses = {name: each["status"] for name, each in answer.json["services"].items()}
    assert statuses == {"redis": "unhealthy", "database": "unhealthy"}
    assert took < 1.9
    assert stranger.get("/health").status_code == 200


def health_threads() -> Counter:
    return Counter(t.name for t in threading.enumerate() if t.name.startswith("health-"))


@pytest.mark.in_process("counts the threads of the service")
def test_what_hangs_holds_one_thread_however_many_ask(settings, request, silent: int):
    settings["DATABASE_URL"] = f"postgres://nobody@127.0.0.1:{silent}/none"
    stranger = request.getfixturevalue("stranger")

    answers = at_once(*[lambda: stranger.get("/infra/health")] * 48)

    assert {answer.json["services"]["database"]["status"] for answer in answers} == {"unhealthy"}
    assert health_threads() <= Counter({"health-database": 1})


@pytest.mark.in_process("counts the threads of the service")
def test_no_thread_outlives_an_answer(stranger: Person):
    before = threading.active_count()

    for _ in range(3):
        assert stranger.get("/infra/health").json["status"] == "healthy"

    assert not health_threads()
    assert threading.active_count() <= before


@pytest.mark.in_process("sees what is logged for each probe")
def test_services_are_asked_once_a_second_for_all_who_ask(settings, request, log: Log):
    settings |= {"REDIS_URL": "redis://127.0.0.1:1"}
    stranger = request.getfixturevalue("stranger")
    log.clear()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: stranger.get("/infra/health").json, range(40)))

    failed = [line for line in log.events() if line["event"] == "health_probe_failed"]
    assert 1 <= len(failed) <= 3  # a slow machine may take more than one second
    assert {answer["services"]["redis"]["status"] for answer in answers} == {"unhealthy"}


def test_an_answer_is_made_anew_after_a_second(settings, request, silent: int):
    stranger = request.getfixturevalue("stranger")

    def latency_ms() -> float:
        return stranger.get("/infra/health").json["services"]["database"]["latency_ms"]

    first = latency_ms()
    wait_until(lambda: latency_ms() != first, 10, "another measurement")
