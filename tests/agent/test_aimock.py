"""The provider against a chat completions server that none of us wrote: @copilotkit/aimock.

`TEST_AIMOCK` names the directory it is or will be installed in; else it is in the user's cache.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.agent.events import ErrorCode, Event, RunFinished, TextMessageContent, ToolCallResult
from runtime.agent.loop import run
from runtime.agent.messages import Message
from runtime.agent.providers.openai import OpenAIProvider
from runtime.agent.tools.tool import load_tools
from tests import npm
from tests.agent.order import check_order
from tests.servers import Server

PACKAGE = "@copilotkit/aimock"

BOTH_TOOLS = [
    {"name": "calculate", "arguments": {"expression": "12*(3+4)"}},
    {"name": "current_time", "arguments": {}},
]
LONG = "This sentence is cut somewhere in its middle, long before it comes to its end."


def fixture(asked: str, response: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"match": {"userMessage": asked, **more.pop("match", {})}, "response": response, **more}


def error(status: int, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "not now", "type": "overloaded_error"}, "status": status, **more}


FIXTURES = [
    fixture("greet", {"content": "Hello there, and welcome to the place."}),
    fixture("both", {"content": "Both are done."}, match={"hasToolResult": True}),
    fixture("both", {"content": "One moment.", "toolCalls": BOTH_TOOLS}),
    fixture("cut", {"content": LONG}, truncateAfterChunks=3),
    fixture("crowd", error(429, retryAfter=1)),
    fixture("overload", error(529)),
    fixture("wrong", error(400)),
]


class Aimock(Server):
    """It answers from FIXTURES, a chunk every few milliseconds."""

    def command(self) -> list[str]:
        folder = Path(os.environ.get("TEST_AIMOCK") or npm.CACHE / "aimock")
        program = npm.installed(PACKAGE, folder) / ".bin" / "llmock"
        fixtures = self.folder / "fixtures.json"
        fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
        options = ["-f", str(fixtures), "-l", "10", "-c", "8", "--log-level", "silent"]
        return [str(program), "-p", str(self.port), *options]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running aimock."""
    with Aimock(tmp_path_factory.mktemp("aimock")) as server:
        yield f"http://127.0.0.1:{server.port}/v1"


def ask(url: str, question: str) -> list[Event]:
    provider = OpenAIProvider(url, "sk-test", "gpt-test", attempts=2, backoff_seconds=0.05)
    return check_order(run([Message("user", question)], provider, load_tools()))


def test_aimock_streams_text_and_usage(url: str) -> None:
    events = ask(url, "greet")
    assert isinstance(events[-1], RunFinished)
    assert events[-1].output == "Hello there, and welcome to the place."
    assert sum(isinstance(event, TextMessageContent) for event in events) > 1
    assert events[-1].usage.output_tokens


def test_aimock_calls_two_tools_at_once(url: str) -> None:
    events = ask(url, "both")
    results = [event for event in events if isinstance(event, ToolCallResult)]
    assert [result.tool_name for result in results] == ["calculate", "current_time"]
    assert results[0].result == "84"
    assert events[-1].output == "Both are done."


def test_aimock_cuts_its_answer(url: str) -> None:
    ending = ask(url, "cut")[-1]
    assert ending.code == ErrorCode.PROVIDER_INTERRUPTED
    assert ending.output and LONG.startswith(ending.output)


def test_aimock_has_too_many_requests_and_its_retry_after_is_kept(url: str) -> None:
    began = time.monotonic()
    assert ask(url, "crowd")[-1].code == ErrorCode.PROVIDER_BUSY
    assert 1 <= time.monotonic() - began < 10


def test_aimock_is_overloaded(url: str) -> None:
    assert ask(url, "overload")[-1].code == ErrorCode.PROVIDER_BUSY


def test_aimock_refuses_a_request(url: str) -> None:
    assert ask(url, "wrong")[-1].code == ErrorCode.PROVIDER_REJECTED
