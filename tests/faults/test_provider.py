"""A model's server that fails in every way, and tools that do: the run ends, its thread is free."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import i18n
from tests.agent.completions_server import (
    HANG,
    RESET,
    CompletionsServer,
    Drip,
    Part,
    Reply,
    answer,
    plain,
    stream,
    text,
    tool_answer,
)
from tests.faults.conftest import SECRET_KEY, SignedIn, flask
from tests.servers import Answer, Service

KEY = "sk-very-secret-0123456789"
THREADS = 4
RUNS = 3  # as many at once as THREADS leave to runs
SILENCE_SECONDS, RUN_SECONDS, TOOL_SECONDS = 2, 4, 1
MAX_OUTPUT_CHARS = 100_000

TOOLS = """
import time
from runtime.agent import tool
from runtime.models.users import User

@tool
def count_users() -> int:
    '''How many users there are.'''
    return User.select().count()

@tool
def sleep() -> str:
    '''Takes too long.'''
    time.sleep(60)
"""


@pytest.fixture
def model() -> Iterator[CompletionsServer]:
    with CompletionsServer(answer("Hello")) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, model: CompletionsServer) -> dict[str, str]:
    """A small service with short bounds, on SQLite."""
    url = f"sqlite:///{tmp_path / 'runtime.sqlite3'}"
    flask("db", "upgrade", DATABASE_URL=url)
    return {
        "DATABASE_URL": url,
        "SECRET_KEY": SECRET_KEY,
        "RATE_LIMITS": "off",
        "OPENAI_BASE_URL": model.url,
        "AGENT_MODEL": "test",
        "OPENAI_API_KEY": KEY,
        "AGENT_SILENCE_SECONDS": str(SILENCE_SECONDS),
        "AGENT_MAX_SECONDS": str(RUN_SECONDS),
        "AGENT_TOOL_SECONDS": str(TOOL_SECONDS),
        "AGENT_MAX_OUTPUT_CHARS": str(MAX_OUTPUT_CHARS),
        "WEB_THREADS": str(THREADS),
    }


@pytest.fixture
def service(settings: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, settings) as running:
        yield running


def chat(service: Service, person: SignedIn) -> Answer:
    return service.client.post("/agent-chats", {"message": "Hi"}, person.access_token)


def chats(service: Service, person: SignedIn) -> list[Answer]:
    """As many at once as there may be; meanwhile everybody else is served."""
    with ThreadPoolExecutor(RUNS) as threads:
        asked = [threads.submit(chat, service, person) for _ in range(RUNS)]
        while not all(each.done() for each in asked):
            assert service.client.get("/users/me", person.access_token).status == 200
            time.sleep(0.05)
        return [each.result() for each in asked]


def error_of(answers: list[Answer]) -> str:
    """The error that all of them ended with."""
    assert {each.status for each in answers} == {200}
    endings = [each.json["events"][-1] for each in answers]
    assert {ending["type"] for ending in endings} == {"RUN_ERROR"}
    (error,) = {ending["error"] for ending in endings}
    return error


def hundred_megabytes(part: Callable[[str], Part]) -> tuple[Part, ...]:
    """In parts of half a megabyte, made of as many letters."""
    return (part("x" * 500_000),) * 200


# What the server does, what the run's error is, and after how many seconds.
FAULTS = {
    "silent": (stream(text("Hel"), HANG), "provider_timeout", SILENCE_SECONDS),
    "dripping": (stream(text("Hel"), Drip("x", 1)), "out_of_time", RUN_SECONDS),
    "100 MB of text": (stream(*hundred_megabytes(text)), "answer_too_long", 0),
    "100 MB of nothing": (
        stream(*hundred_megabytes(lambda letters: f": {letters}\n")),
        "answer_too_long",
        0,
    ),
    "100 MB without an end of line": (
        stream("data: ", *hundred_megabytes(str)),
        "provider_protocol",
        0,
    ),
    "busy for longer than a run": (plain({}, 429, Retry_After="100"), "provider_busy", 0),
    "refusing, and quoting": (
        plain({"error": f"{'x' * 260}{KEY}"}, 400),
        "provider_rejected",
        0,
    ),
    "dying": (Reply((RESET,), status=0), "provider_unavailable", 0),
}


def test_whatever_a_models_server_does_its_runs_end_in_time_and_their_threads_are_free(
    service, people, model
):
    (ada,) = people(1)
    chat(service, ada)
    memory = service.memory_mb()
    for name, (reply, code, bound) in FAULTS.items():
        model.script(reply)
        began_at = time.monotonic()
        answers = chats(service, ada)
        seconds = time.monotonic() - began_at
        assert error_of(answers) == i18n.sentence(f"run_{code}", "zh"), name
        assert bound <= seconds < bound + 4, name
        assert all(len(each.json["output"]) <= MAX_OUTPUT_CHARS for each in answers), name
        assert service.memory_mb() - memory < RUNS * 10, name
    model.__exit__()  # Whoever died above has left no connection that would still be answered.
    assert error_of(chats(service, ada)) == i18n.sentence("run_provider_unavailable", "zh")
    assert KEY[:6] not in service.log


def test_a_run_waits_for_a_busy_server_as_long_as_it_asks_for(service, people, model):
    (ada,) = people(1)
    model.script(plain({}, 429, Retry_After="1"), answer("Hello"))
    answered = chat(service, ada)
    assert answered.json["output"] == "Hello"
    assert answered.seconds > 1


def test_tools_of_ones_own_that_ask_the_database_leave_no_connection_behind(
    settings, people, model, tmp_path
):
    (ada,) = people(1)
    with service_with_tools(tmp_path, settings) as service:
        for _ in range(THREADS + 12):  # more than the pool has
            model.script(tool_answer("count_users", "{}"), answer("Done"))
            assert results_of(chat(service, ada)) == ["1"]
        assert service.client.get("/users/me", ada.access_token).status == 200


def test_a_tool_that_takes_longer_than_the_setting_gives_an_error(
    settings, people, model, tmp_path
):
    (ada,) = people(1)
    with service_with_tools(tmp_path, settings) as service:
        model.script(tool_answer("sleep", "{}"), answer("Done"))
        answered = chat(service, ada)
    assert results_of(answered) == [f"Error: the tool gave no result within {TOOL_SECONDS} seconds"]
    assert TOOL_SECONDS <= answered.seconds < TOOL_SECONDS + 4


def service_with_tools(folder: Path, settings: dict[str, str]) -> Service:
    (folder / "tools_of_our_own.py").write_text(TOOLS)
    return ServiceWithTools(folder, settings, AGENT_TOOLS="tools_of_our_own")


class ServiceWithTools(Service):
    def environ(self) -> dict[str, str]:
        return super().environ() | {"PYTHONPATH": str(self.folder)}


def results_of(answered: Answer) -> list[str]:
    events = answered.json["events"]
    return [event["result"] for event in events if event["type"] == "TOOL_CALL_RESULT"]


def test_the_start_says_once_which_model_answers(service: Service, model: CompletionsServer):
    host = model.url.removeprefix("http://")
    said = [line for line in service.log.splitlines() if "Chats are answered by" in line]
    assert len(said) == 1
    assert f"Chats are answered by test on {host}" in said[0]
