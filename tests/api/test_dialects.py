"""Chats with servers of many kinds: what each needs survives failures, restarts and readers."""

from collections.abc import Callable

import pytest
from flask import Flask

from runtime.config.settings import ConfigError
from runtime.models.run_events import RunEvent
from tests.agent.completions_server import (
    CompletionsServer,
    Pause,
    answer,
    chunk,
    stream,
    text,
    tool_answer,
)
from tests.agent.dialects_server import DIALECTS, error
from tests.api.test_agent_chats import types
from tests.conftest import Person

OF_ITS_OWN = ("signed_calls", "reasoning_back", "reasoning_details_back", "long_ids")


@pytest.fixture
def tools(settings: dict) -> None:
    """The tools that the dialects call."""
    settings["AGENT_TOOLS"] = "tests.agent.dialect_tools"


@pytest.mark.in_process("the service is made a second time on one database")
@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_what_a_model_sent_of_its_own_comes_back_after_a_restart(
    tools,
    model: CompletionsServer,
    settings: dict,
    serve: Callable,
    app: Flask,
    alice: Person,
    name,
):
    model.script(DIALECTS[name]())
    chat = alice.chat("Hi").json["session_id"]
    assert alice.chat("Hi", chat).json["output"] == "done"

    alice.client = serve(settings).test_client()

    assert alice.chat("Hi", chat).json["output"] == "done"


@pytest.mark.parametrize("name", OF_ITS_OWN)
def test_no_client_is_shown_what_a_model_sent_of_its_own(
    tools, model: CompletionsServer, alice: Person, name
):
    model.script(DIALECTS[name]())
    answered = alice.chat("Hi")
    chat = f"/agent-chats/{answered.json['session_id']}"
    shown = [
        answered.data,
        alice.stream("Hi", answered.json["session_id"]).data,
        *(alice.get(chat + path).data for path in ("", "/messages")),
        alice.get("/users/me/export").data,
    ]
    secrets = (b"s+/==", b"reasoning_details", b"Abc+/Abc", b"vendor", b"signature")
    assert [each for each in secrets if any(each in body for body in shown)] == []


def test_what_came_before_a_stream_broke_off_comes_back(
    tools, model: CompletionsServer, alice: Person
):
    thought = chunk({"reasoning_content": "I need the time."})
    called = tool_answer("now", "{}").parts[0]
    model.script(stream(thought, called, {"error": {"message": "the engine died"}}))
    chat = alice.chat("Hi").json["session_id"]

    model.script(DIALECTS["reasoning_back"]())

    assert alice.chat("Hi", chat).json["output"] == "done"


def test_a_journal_that_is_rewritten_keeps_what_a_model_sent_of_its_own(
    tools, model: CompletionsServer, alice: Person
):
    words = [part for n in range(20) for part in (text(f"{n} "), Pause(0.06))]
    thought = chunk({"reasoning_content": "I need the time."})
    called = tool_answer("now", "{}").parts
    model.script(stream(thought, *words, *called), answer("done"))
    streamed = alice.stream("Hi")
    streamed.get_data()
    chat = streamed.headers["Content-Location"].split("/")[4]
    (kept,) = [row for row in RunEvent.select() if row.vendor]
    assert kept.number > RunEvent.select().where(RunEvent.run == kept.run_id).count()

    model.script(DIALECTS["reasoning_back"]())

    assert alice.chat("Hi", chat).json["output"] == "done"


@pytest.mark.parametrize("name", ["alternate", "strict_order"])
def test_a_failed_run_leaves_a_chat_that_works(
    tools, model: CompletionsServer, alice: Person, name
):
    model.script(DIALECTS[name]())
    failed = alice.chat("CALL FAIL")
    assert types(failed)[-1] == "RUN_ERROR"

    for _ in range(2):
        assert alice.chat("Hi", failed.json["session_id"]).json["output"] == "hello there"


def test_a_conversation_too_long_for_the_model_is_called_so(
    model: CompletionsServer, alice: Person
):
    model.script(error("too much", code="context_length_exceeded"))
    failed = alice.chat("Hi")
    assert failed.json["events"][-1]["error"].startswith("这个对话对模型来说太长了")


def test_the_operators_settings_are_in_every_request(
    settings: dict, model: CompletionsServer, request: pytest.FixtureRequest
):
    settings |= {"AGENT_OPTIONS": '{"temperature": 0.5}', "AGENT_BUILTIN_TOOLS": "calculate"}
    request.getfixturevalue("alice").chat("Hi")
    sent = model.requests[0].body
    assert sent["temperature"] == 0.5
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["calculate"]


def test_with_no_tools_none_are_offered(
    settings: dict, model: CompletionsServer, request: pytest.FixtureRequest
):
    settings["AGENT_BUILTIN_TOOLS"] = "none"
    request.getfixturevalue("alice").chat("Hi")
    assert "tools" not in model.requests[0].body


@pytest.mark.in_process("a start is refused")
def test_a_built_in_tool_that_is_none_stops_the_start(settings: dict, serve: Callable):
    with pytest.raises(ConfigError, match="AGENT_BUILTIN_TOOLS: 'weather' is none of"):
        serve(settings | {"AGENT_BUILTIN_TOOLS": "weather"})
