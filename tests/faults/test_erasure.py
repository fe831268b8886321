"""Accounts that are deleted while they chat, in the same process and from another."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app import create_app
from runtime.database.base import db
from runtime.models.allowances import Allowance
from runtime.models.chats import Run
from runtime.models.run_events import RunEvent
from tests.agent.completions_server import HANG, CompletionsServer, Pause, stream, text
from tests.faults.conftest import SECRET_KEY, SignedIn, flask
from tests.servers import Service, wait_until

SECRET_WORDS = "words that nobody else says"


@pytest.fixture(scope="module")
def model() -> Iterator[CompletionsServer]:
    """Says something, and goes on for as long as it is listened to."""
    with CompletionsServer() as server:
        words = [part for _ in range(300) for part in (text("word "), Pause(0.02))]
        server.script(stream(*words, HANG))
        yield server
        server.stopping.set()


@pytest.fixture(params=["sqlite", "redis"])
def settings(request, model: CompletionsServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a service on SQLite, or on Postgres and Redis; a day's tokens are few."""
    found = {
        "SECRET_KEY": SECRET_KEY,
        "OPENAI_BASE_URL": model.url,
        "AGENT_MODEL": "test",
        "RATE_LIMITS": "off",
        "AGENT_DAILY_TOKENS": "1000000",
        "DATABASE_URL": f"sqlite:///{tmp_path}/runtime.sqlite3",
    }
    if request.param == "redis":
        found["DATABASE_URL"] = request.getfixturevalue("postgres").url
        found["REDIS_URL"] = request.getfixturevalue("redis").url
    else:
        flask("db", "upgrade", DATABASE_URL=found["DATABASE_URL"])
    return found


@pytest.fixture
def machines(
    settings: dict[str, str], model: CompletionsServer, tmp_path: Path
) -> Iterator[list[Service]]:
    """Two processes, so that a test knows which of them it asks."""
    with ExitStack() as stack:
        yield [stack.enter_context(Service(tmp_path / name, settings)) for name in ("one", "other")]
        # A stop waits for the runs that go on.
        model.stopping.set()


@pytest.fixture
def persons(people: Callable, machines) -> list[SignedIn]:
    """Made before the models are on the database for good."""
    return people(3)


@pytest.fixture
def database(settings: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """The models are on the machines' database."""
    app = create_app({**settings, "INSTANCE_PATH": str(tmp_path)})
    with app.app_context():
        yield
    app.extensions["db"].close_all()


def everything() -> str:
    """What stands in every table, keyed hashes apart."""
    tables = set(db.get_tables()) - {Allowance._meta.table_name}
    return str([db.execute_sql(f"SELECT * FROM {table}").fetchall() for table in tables])


def are_speaking(runs: int) -> bool:
    """Whether so many runs have not ended, and have events."""
    alive = RunEvent.select(RunEvent.run).distinct().join(Run).where(Run.finished_at.is_null())
    return alive.count() == runs


def delete(machine: Service, person: SignedIn):
    body = {"current_password": person.password}
    return machine.client.ask("DELETE", "/users/me", body, person.access_token)


def chat(machine: Service, person: SignedIn, answers: list) -> threading.Thread:
    """Ask something, and wait for the answer on a thread of its own."""

    def ask() -> None:
        body = {"message": SECRET_WORDS}
        answers.append(machine.client.post("/agent-chats", body, person.access_token))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("where", ["same process", "another"])
def test_a_deletion_ends_the_runs_and_leaves_nothing(
    machines: list[Service], persons: list[SignedIn], database, where: str
):
    one, other = machines
    deleting = one if where == "same process" else other
    assert persons
    for person in persons:
        answers: list = []
        threads = [chat(one, person, answers) for _ in range(4)]
        threads += [chat(other, person, answers) for _ in range(2)]
        wait_until(lambda: are_speaking(6), 10, "six runs go on")
        began = time.monotonic()
        deleted = delete(deleting, person)
        assert (deleted.status, deleted.body) == (204, b"")
        assert time.monotonic() - began < 10  # they would go on for ever
        for thread in threads:
            thread.join(10)
        assert {answer.status for answer in answers} == {200}
        assert {answer.json["events"][-1]["type"] for answer in answers} == {"RUN_ERROR"}
        assert one.client.get("/users/me", person.access_token).status == 401
        left = everything()
        for trace in (SECRET_WORDS, person.email, person.id, person.id.replace("-", "")):
            assert trace not in left
    for machine in machines:
        assert not [line for line in machine.events() if line["level"] == "error"]


def test_a_disabled_accounts_runs_stop_in_every_process(
    machines: list[Service], persons: list[SignedIn], settings: dict[str, str], database
):
    """An operator disables it in a process of their own."""
    person, bystander = persons[:2]
    answers: list = []
    threads = [chat(machine, person, answers) for machine in machines for _ in range(2)]
    others: list = []
    chat(machines[0], bystander, others)
    wait_until(lambda: are_speaking(5), 10, "five runs go on")
    flask("users", "disable", person.email, **settings)
    for thread in threads:
        thread.join(10)

    assert [answer.status for answer in answers] == [200] * 4
    endings = [answer.json["events"][-1] for answer in answers]
    assert {ending["type"] for ending in endings} == {"RUN_ERROR"}
    assert machines[0].client.get("/users/me", person.access_token).status == 401
    assert others == []
