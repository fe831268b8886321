"""/health and /infra/health"""

import socket
import time

import pytest

from tests.conftest import Person


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
