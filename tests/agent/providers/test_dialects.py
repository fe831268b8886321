"""Every kind of server in `tests.agent.dialects_server`, and what a run does with it."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runtime.agent.events import ErrorCode, Event, RunError, RunFinished, ToolCallResult
from runtime.agent.loop import Bounds, run
from runtime.agent.messages import Message, Usage
from runtime.agent.providers.openai import OpenAIProvider
from runtime.agent.stop import Stop
from runtime.agent.tools.foreign import foreign
from runtime.agent.transcript import from_events
from tests.agent.completions_server import (
    HANG,
    CompletionsServer,
    call,
    chunk,
    finish,
    stream,
    text,
)
from tests.agent.dialect_tools import add, blanks, nothing, now
from tests.agent.dialects_server import DIALECTS, HELLO, make
from tests.agent.order import check_order

KEY = "sk-of-nobody-at-all"


TOOLS = [now, add, nothing, blanks]


class Chat:
    """A chat with a model, kept as a journal keeps it: in JSON."""

    def __init__(self, server: CompletionsServer, model: str = "m", **how: Any) -> None:
        self.server = server
        self._model, self._how = model, {"backoff_seconds": 0.01, **how}
        self._kept: list[str | list[str]] = []
        self.restart()

    def restart(self) -> None:
        """Forget all that the process has learnt."""
        self.provider = OpenAIProvider(self.server.url, KEY, self._model, **self._how)

    def say(self, message: str, stop: Stop | None = None) -> list[Event]:
        """One run, to its end."""
        asked = [*self.history(), Message("user", message)]
        events = list(run(asked, self.provider, TOOLS, Bounds(max_steps=4), stop=stop))
        check_order(events)
        wire = [event.to_dict() | {"vendor": getattr(event, "vendor", None)} for event in events]
        self._kept += [message, [json.dumps(each) for each in wire]]
        return events

    def history(self) -> list[Message]:
        messages = [Message("system", "Be brief.")]
        for kept in self._kept:
            if isinstance(kept, str):
                messages.append(Message("user", kept))
            else:
                messages += from_events([json.loads(each) for each in kept])
        return messages

    def answered(self, message: str = "Hi") -> str:
        """The answer to a message that must succeed."""
        ending = self.say(message)[-1]
        assert isinstance(ending, RunFinished), ending
        return ending.output


@contextmanager
def chat_with(name: str, **how: Any) -> Iterator[Chat]:
    with make(name) as server:
        yield Chat(server, **how)


def rows(prefix: str) -> list[str]:
    """The servers of one kind."""
    return [name for name in DIALECTS if name.startswith(prefix)]


def results(events: list[Event]) -> list[tuple[str, str]]:
    """The tools that ran, and what they gave."""
    return [(each.tool_name, each.result) for each in events if isinstance(each, ToolCallResult)]


@pytest.mark.parametrize(
    "name",
    [
        *("plain", "comments", "gzipped", "whole", "whole_as_text", "whole_as_stream"),
        *("stream_as_text", "stream_as_json", "marked", "two_choices", "declining", "late_usage"),
        *("finish_in_every_chunk", "finish_is_the_text_null", "finish_before_the_end"),
        *("reasoning_member", "thinking_parts", "said_once_more", "one_part", *rows("tags_")),
        *("json_lines", "json_lines_then_done", "one_json_line", "spread_over_data_lines"),
        *("ends_a_data_line_like_an_object", "no_blank_lines", "legacy_text", "legacy_text_whole"),
    ],
)
def test_an_answer_is_understood_as_it_is(name: str) -> None:
    with chat_with(name) as chat:
        assert chat.answered() == "hello there"
        assert len(chat.server.requests) == 1


@pytest.mark.parametrize("name", ["busy_once", *rows("busy_in_the_stream")])
def test_a_busy_server_is_asked_again_before_the_first_word(name: str) -> None:
    with chat_with(name) as chat:
        assert chat.answered() == "hello there"
        assert len(chat.server.requests) == 2


@pytest.mark.parametrize("name", rows("no_tools"))
def test_a_model_without_tools_is_asked_without(name: str) -> None:
    with chat_with(name) as chat:
        assert [chat.answered(), chat.answered()] == ["hello there"] * 2
        offered = ["tools" in request.body for request in chat.server.requests]
        assert offered == [True, False, False]


def test_a_model_without_tools_is_told_of_earlier_calls_as_text() -> None:
    with chat_with("name_repeated") as chat:
        chat.answered("Add.")
        chat.server.script(DIALECTS["no_tools_0"]())
        assert chat.answered() == "hello there"
        sent = chat.server.requests[-1].body["messages"]
        assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
        assert "2+3" in sent[2]["content"] and "gave: 5" in sent[2]["content"]


@pytest.mark.parametrize("name", rows("effort"))
def test_a_model_that_has_tools_only_without_reasoning_keeps_them(name: str) -> None:
    with chat_with(name) as chat:
        assert chat.answered() == "hello there"
        sent = chat.server.requests[-1].body
        assert (sent["reasoning_effort"], len(sent["tools"])) == ("none", len(TOOLS))


@pytest.mark.parametrize("name", rows("no_system"))
def test_a_model_without_a_role_for_instructions_has_them_from_the_user(name: str) -> None:
    with chat_with(name) as chat:
        assert chat.answered() == "hello there"
        first = chat.server.requests[-1].body["messages"][0]
        assert first == {"role": "user", "content": "Be brief.\n\nHi"}


@pytest.mark.parametrize("name", rows("no_stream"))
def test_a_model_that_does_not_stream_answers_whole(name: str) -> None:
    with chat_with(name) as chat:
        assert chat.answered() == "hello there"
        sent = chat.server.requests[-1].body
        assert sent["stream"] is False and "stream_options" not in sent


@pytest.mark.parametrize(
    "name", ["signed_calls", "reasoning_back", "reasoning_details_back", "long_ids"]
)
def test_what_a_model_sent_of_its_own_comes_back_to_it(name: str) -> None:
    with chat_with(name) as chat:
        assert [chat.answered() for _ in range(3)] == ["done"] * 3
        chat.restart()
        assert chat.answered() == "done"


@pytest.mark.parametrize("name", ["signed_calls", "reasoning_back", "long_ids"])
def test_what_a_model_sent_of_its_own_goes_to_no_other(name: str) -> None:
    with chat_with(name) as chat:
        chat.answered()
        other = Chat(chat.server, "another model")
        other._kept = chat._kept
        chat.server.script(HELLO)
        other.answered()
        assert set(members_of(chat.server)) <= {"role", "content", "tool_calls", "tool_call_id"}
        calls = [c for m in last_messages(chat.server) for c in m.get("tool_calls", [])]
        assert all(c.keys() == {"id", "type", "function"} and len(c["id"]) <= 40 for c in calls)


def last_messages(server: CompletionsServer) -> list[dict[str, Any]]:
    return server.requests[-1].body["messages"]


def members_of(server: CompletionsServer) -> Iterator[str]:
    for message in last_messages(server):
        yield from message


def test_a_member_that_its_own_server_does_not_take_back_is_left_out() -> None:
    refusal = {"detail": [{"loc": ["body", "messages", 2, "assistant", "reasoning_content"]}]}
    with chat_with("reasoning_member") as chat:
        chat.answered()
        chat.server.script(
            lambda request: (
                DIALECTS["plain"]()
                if "reasoning_content" not in json.dumps(request.body)
                else stream(json.dumps(refusal), status=422)
            )
        )
        assert chat.answered() == "hello there"
        assert "reasoning_content" not in set(members_of(chat.server))


def test_a_chat_in_turns_survives_a_failed_run() -> None:
    with chat_with("alternate") as chat:
        assert isinstance(chat.say("FAIL")[-1], RunError)
        assert [chat.answered() for _ in range(3)] == ["hello there"] * 3
        assert last_messages(chat.server)[1]["content"] == "FAIL\n\nHi"


def test_a_chat_survives_a_failure_behind_a_tools_result() -> None:
    with chat_with("strict_order") as chat:
        assert isinstance(chat.say("CALL FAIL")[-1], RunError)
        assert chat.answered() == "hello there"
        assert chat.answered("CALL") == "done"


SLOW = ("late_usage", "finish_in_every_chunk", "finish_is_the_text_null")


@pytest.mark.parametrize("name", [name for name in DIALECTS if name not in SLOW])
def test_no_run_leaves_a_chat_that_a_strict_server_refuses(name: str) -> None:
    with chat_with(name) as chat:
        for message in ("Hi", "CALL FAIL", "call nothing"):
            chat.say(message)
        chat.server.script(DIALECTS["strict"]())
        assert chat.answered() == "hello there"
        chat.restart()
        assert chat.answered() == "hello there"


def test_what_came_before_a_stop_comes_back() -> None:
    thought = chunk({"reasoning_content": "I need the time."})
    with CompletionsServer(stream(thought, call(0, "a", "now", "{}"), HANG)) as server:
        chat = Chat(server)
        stop = Stop()
        threading.Timer(0.2, stop.set).start()
        assert isinstance(chat.say("Hi", stop=stop)[-1], RunError)
        server.script(DIALECTS["reasoning_back"]())
        assert chat.answered() == "done"


@pytest.mark.parametrize("name", ["nothing", "blanks"])
def test_no_text_is_blank(name: str) -> None:
    with chat_with("no_blanks") as chat:
        assert chat.answered(f"call {name}") == "hello there"
        assert chat.answered(" ") == "hello there"


def test_a_server_that_takes_no_null_has_a_text() -> None:
    with chat_with("no_null") as chat:
        assert [chat.answered("call now"), chat.answered("call now")] == ["hello there"] * 2


def test_one_tool_may_be_called_twice_at_once() -> None:
    with chat_with("one_tool_twice") as chat:
        assert results(chat.say("Hi")) == [("now", "noon"), ("add", "5"), ("add", "5")]


def test_two_calls_of_one_tool_may_come_in_turns() -> None:
    with chat_with("one_tool_twice_interleaved") as chat:
        assert results(chat.say("Hi")) == [("add", "5"), ("add", "5")]


LEVEL = {"type": "integer", "enum": [1, 2, 3], "description": "How much."}


@pytest.mark.parametrize("name", rows("enums_of_texts"))
@pytest.mark.parametrize("of", ["type", "enum alone"])
def test_a_server_that_takes_choices_of_texts_alone_is_told_of_numbers(name: str, of: str) -> None:
    level = LEVEL if of == "type" else {"enum": [1, 2, 3], "description": "How much."}
    schema = {"type": "object", "properties": {"level": level}}
    set_level = foreign("set_level", "Set the level.", schema)
    with chat_with(name) as chat:
        events = list(run([Message("user", "Hi")], chat.provider, [*TOOLS, set_level]))
        assert isinstance(events[-1], RunFinished)
        first, second = (request.body["tools"] for request in chat.server.requests)
        told = {"type": "integer", "description": "How much. One of 1, 2, 3."}
        assert first[-1]["function"]["parameters"] == schema
        assert second[-1]["function"]["parameters"]["properties"] == {"level": told}
        assert first[:-1] == second[:-1]
        # What one front end has brought changes nothing for others.
        list(run([Message("user", "Hi")], chat.provider, [*TOOLS, set_level]))
        assert chat.server.requests[2].body["tools"] == first


@pytest.mark.parametrize("name", rows("tags_"))
def test_what_was_thought_in_tags_does_not_come_back(name: str) -> None:
    with chat_with(name) as chat:
        events = chat.say("Hi")
        assert chat.answered() == "hello there"
        thoughts = [event.delta for event in events if event.type == "REASONING_MESSAGE_CONTENT"]
        assert "".join(thoughts) == "my secret thoughts"
        assert "secret" not in json.dumps(last_messages(chat.server))


@pytest.mark.parametrize("name", rows("small_context"))
def test_a_conversation_that_outgrows_the_model_goes_on(name: str) -> None:
    with chat_with(name) as chat:
        ending = chat.say("x" * 6000)[-1]
        assert isinstance(ending, RunError) and ending.code == ErrorCode.CONVERSATION_TOO_LONG
        assert len(chat.server.requests) <= 3
        for length in (2, 1500, 1500, 1500, 1500, 900):
            assert chat.answered("y" * length) == "hello there"


def test_the_size_that_a_model_took_is_remembered() -> None:
    with chat_with("small_context_0") as chat:
        for _ in range(4):
            chat.answered("y" * 1500)
        asked = len(chat.server.requests)
        chat.answered("y" * 100)
        assert len(chat.server.requests) == asked + 1


def test_a_size_that_is_remembered_has_room_for_more_than_one_message() -> None:
    with chat_with("small_context_0") as chat:
        chat.say("x" * 6000)
        chat.answered("Hi")
        other = Chat(chat.server)
        other.provider = chat.provider
        for _ in range(2):
            other.answered("y" * 900)
        assert len(last_messages(chat.server)) == 4


@pytest.mark.parametrize("name", rows("ids_of_"))
def test_a_server_that_takes_short_ids_alone_has_them(name: str) -> None:
    with chat_with("all_index_0_with_ids") as chat:
        chat.answered()
        chat.server.script(DIALECTS[name]())
        assert chat.answered() == "hello there"
        sent = last_messages(chat.server)
        ids = [call["id"] for message in sent for call in message.get("tool_calls", [])]
        assert ids == [m["tool_call_id"] for m in sent if m["role"] == "tool"]
        assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("length", ErrorCode.ANSWER_TOO_LONG),
        ("max_tokens", ErrorCode.ANSWER_TOO_LONG),
        ("MAX_TOKENS", ErrorCode.ANSWER_TOO_LONG),
        ("content_filter", ErrorCode.ANSWER_FILTERED),
        ("SAFETY", ErrorCode.ANSWER_FILTERED),
        ("error", ErrorCode.PROVIDER_INTERRUPTED),
        ("malformed_function_call", ErrorCode.ANSWER_UNFINISHED),
        ("whatever", ErrorCode.ANSWER_UNFINISHED),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(
    reason: str, code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    with CompletionsServer(stream(text("Half "), text("an "), finish(reason))) as server:
        chat = Chat(server)
        ending = chat.say("Hi")[-1]
        assert isinstance(ending, RunError)
        assert (ending.code, ending.output) == (code, "Half an ")
        assert reason in caplog.text
        server.script(HELLO)
        assert chat.answered() == "hello there"


@pytest.mark.parametrize("end", ["", "\n"])
def test_one_piece_of_an_answer_is_no_whole_answer(end: str) -> None:
    with CompletionsServer(stream(json.dumps(text("Half an ")) + end)) as server:
        ending = Chat(server).say("Hi")[-1]
        assert isinstance(ending, RunError)
        assert (ending.code, ending.output) == (ErrorCode.PROVIDER_INTERRUPTED, "Half an ")


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "eos", "eos_token", "tool_calls"])
def test_a_whole_answer_may_say_so_in_many_words(reason: str) -> None:
    with CompletionsServer(stream(text("Whole"), finish(reason))) as server:
        assert Chat(server).answered() == "Whole"


@pytest.mark.parametrize("name", [*rows("error_"), "errors"])
def test_an_error_in_the_middle_keeps_the_words(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with chat_with(name) as chat:
        ending = chat.say("Hi")[-1]
        assert isinstance(ending, RunError)
        assert len(chat.server.requests) == 1
        if not ending.output:
            assert "no channel for this" in caplog.text
        elif name == "error_of_no_shape":
            assert "the engine died" in caplog.text
        else:
            assert (ending.code, ending.output) == (ErrorCode.PROVIDER_INTERRUPTED, "Half an ")
            assert "the engine died" in caplog.text
        chat.server.script(HELLO)
        assert chat.answered() == "hello there"


def test_an_error_in_the_middle_of_arguments_leaves_a_chat_that_works() -> None:
    with chat_with("breaks_off_in_arguments") as chat:
        assert isinstance(chat.say("Hi")[-1], RunError)
        chat.server.script(HELLO)
        assert chat.answered() == "hello there"


@pytest.mark.parametrize("name", rows("a_page"))
def test_a_page_is_told_by_its_beginning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with chat_with(name) as chat:
        assert isinstance(chat.say("Hi")[-1], RunError)
        assert len(chat.server.requests) == 1
        assert "no channel for this" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        *("no_index", "all_index_0", "all_index_0_with_ids", "no_arguments_first", "interleaved"),
        *("text_between", "one_object", "whole_with_calls"),
    ],
)
def test_calls_at_once_are_told_apart(name: str) -> None:
    with chat_with(name) as chat:
        events = chat.say("Hi")
        assert sorted(results(events)) == [("add", "5"), ("now", "noon")]
        sent = last_messages(chat.server)
        calls = {c["id"]: c["function"]["name"] for m in sent for c in m.get("tool_calls", [])}
        told = {calls[m["tool_call_id"]]: m["content"] for m in sent if m["role"] == "tool"}
        assert told == {"add": "5", "now": "noon"}


@pytest.mark.parametrize(
    "name",
    [
        *("blank_ids", "name_repeated", "name_repeated_without_id", "no_index_blank_ids"),
        *("two_indexes", "two_ids", "two_ids_and_names", "two_ids_no_index", "empty_object_first"),
        *("empty_object_in_pieces", "null_first", "whole_call_repeated", "arguments_object"),
        *("json_in_json", "json_in_json_in_pieces", "function_call"),
    ],
)
def test_the_pieces_of_one_call_are_one_call(name: str) -> None:
    with chat_with(name) as chat:
        assert results(chat.say("Hi")) == [("add", "5")]
        (call,) = (c for m in last_messages(chat.server) for c in m.get("tool_calls", []))
        assert json.loads(call["function"]["arguments"]) == {"expression": "2+3"}


@pytest.mark.parametrize("name", ["arguments_empty", "arguments_null", "arguments_missing"])
def test_no_arguments_may_be_said_in_many_ways(name: str) -> None:
    with chat_with(name) as chat:
        assert results(chat.say("Hi")) == [("now", "noon")]


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("reasoning_apart", Usage(32, 2009)),
        ("usage_in_every_chunk", Usage(30, 3)),
        ("usage_then_empty", Usage(3, 4)),
    ],
)
def test_the_last_whole_usage_counts(name: str, usage: Usage) -> None:
    with chat_with(name) as chat:
        assert chat.say("Hi")[-1].usage == usage


def test_nobody_waits_long_for_a_usage_that_comes_late() -> None:
    with chat_with("late_usage") as chat:
        began = time.monotonic()
        chat.answered()
        assert time.monotonic() - began < 8


def test_options_of_the_operators_own_are_in_every_request() -> None:
    options = {"temperature": 0.5, "stream_options": None, "max_completion_tokens": 9}
    with chat_with("plain", options=options) as chat:
        chat.answered()
        sent = chat.server.requests[0].body
        assert (sent["temperature"], sent["max_completion_tokens"]) == (0.5, 9)
        assert "stream_options" not in sent and "max_tokens" not in sent


def test_an_option_of_the_operators_own_is_not_taken_back(caplog) -> None:
    caplog.set_level(logging.WARNING)
    with chat_with("effort_0", options={"reasoning_effort": "high"}) as chat:
        assert isinstance(chat.say("Hi")[-1], RunError)
        assert "reasoning_effort" in caplog.text
