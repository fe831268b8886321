"""A model for the tests over HTTP: a real server that speaks chat completions."""

from collections.abc import Iterator

import pytest

from tests.agent.completions_server import CompletionsServer, answer


@pytest.fixture(scope="module")
def completions() -> Iterator[CompletionsServer]:
    """One server for all these tests, so that services which stand on it can be kept."""
    with CompletionsServer() as server:
        yield server


@pytest.fixture
def model(completions: CompletionsServer, settings: dict) -> Iterator[CompletionsServer]:
    """A model, which answers as a test scripts it."""
    settings |= {"OPENAI_BASE_URL": completions.url, "AGENT_MODEL": "test"}
    completions.requests.clear()
    completions.stopping.clear()
    completions.script(answer("Hello"))
    yield completions
    completions.stopping.set()
