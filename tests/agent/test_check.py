"""What `flask agent check` finds out about a model."""

import re
from collections.abc import Iterator

import pytest

from runtime.agent.check import check
from runtime.agent.providers.embedded import EmbeddedProvider
from runtime.agent.providers.openai import OpenAIProvider
from runtime.agent.tools.tool import load_tools
from tests.agent.completions_server import CompletionsServer, answer, plain, tool_answer
from tests.ports import nobody_listening


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with CompletionsServer(answer("Hi")) as server:
        yield server


def found(server: CompletionsServer) -> list[tuple[bool, str]]:
    provider = OpenAIProvider(server.url, "sk-0123456789", "m-1", attempts=1)
    return [(each.is_good, each.sentence) for each in check(provider, load_tools())]


def test_a_model_is_asked_without_tools_and_with_them(server: CompletionsServer) -> None:
    server.script(answer("hello"), tool_answer("current_time", "{}"))
    (is_good, without), (is_good_too, using) = found(server)
    assert is_good and is_good_too
    assert without.startswith("without tools: answered 5 characters in ")
    assert without.endswith("; 7 tokens in, 3 out")
    assert using.startswith("with tools: called current_time in ")
    assert ["tools" in request.body for request in server.requests] == [False, True]


def test_a_model_that_takes_no_tools_is_good_and_said_so(
    server: CompletionsServer, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = plain({"error": {"message": "m-1 does not support tools"}}, 400)
    server.script(answer("hello"), refusal, answer("hello"))
    _, (is_good, using) = found(server)
    assert is_good
    assert "and called no tool" in using
    assert using.endswith("; asked otherwise, for it refuses tools")
    assert "refuses tools" in caplog.text


def test_a_model_that_does_not_answer_says_why(server: CompletionsServer) -> None:
    server.script(plain({"error": "no"}, 401))
    [(is_good, sentence)] = found(server)
    assert not is_good
    assert sentence.startswith("without tools: m-1 on 127.0.0.1")
    assert "is OPENAI_API_KEY this server's?" in sentence


@pytest.mark.parametrize(
    ("url", "host", "reason"),
    [
        ("http://127.0.0.1:{port}/v1", "127.0.0.1", "Connection refused"),
        ("http://model.invalid/v1", "model.invalid", "not known|resolution|associated"),
    ],
)
def test_a_server_that_is_off_is_told_in_plain_words(url: str, host: str, reason: str) -> None:
    with nobody_listening() as port:
        provider = OpenAIProvider(url.format(port=port), None, "m-1", attempts=1)
        [finding] = check(provider, load_tools())
    assert not finding.is_good
    assert re.search(f"cannot connect to {host}: .*({reason})", finding.sentence)
    assert not re.search(r"0x|\(<|object at|urllib3|Error\b|Pool", finding.sentence)


def test_a_model_whose_tools_fail_is_not_good(server: CompletionsServer) -> None:
    server.script(answer("hello"), plain({"error": "boom"}, 500))
    (is_good, _), (is_good_too, using) = found(server)
    assert is_good and not is_good_too
    assert using.startswith("with tools: ")


def test_the_embedded_model_answers_too() -> None:
    assert [finding.is_good for finding in check(EmbeddedProvider(), load_tools())] == [True, True]
