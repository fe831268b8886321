"""The provider against a real server that speaks every dialect, and fails in every way."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, ToolCall, Usage
from runtime.agent.providers.openai import OpenAIProvider
from runtime.agent.providers.provider import (
    Chunk,
    ProviderError,
    StepFinished,
    TextDelta,
    ToolCallDelta,
)
from runtime.agent.stop import Stop, Stopped
from runtime.agent.tools.builtin import calculate
from runtime.agent.tools.tool import Tool
from tests.agent.completions_server import (
    CLOSE,
    DONE,
    HANG,
    RESET,
    CompletionsServer,
    Drip,
    Pause,
    Reply,
    Request,
    answer,
    call,
    chunk,
    finish,
    plain,
    stream,
    text,
    usage,
)
from tests.ports import nobody_listening

HELLO = [Message("user", "Hello")]
KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    """A server that says Hello until it is given another script."""
    with CompletionsServer() as server:
        yield server


def provider_for(server: CompletionsServer) -> OpenAIProvider:
    return OpenAIProvider(server.url, KEY, "m", backoff_seconds=0.01)


def open_stream(
    provider: OpenAIProvider,
    messages: list[Message] = HELLO,
    *,
    seconds: float = 5,
    silence_seconds: float = 5,
    **kwargs: Any,
) -> Iterator[Chunk]:
    deadline = time.monotonic() + seconds
    tools, stop = kwargs.pop("tools", []), kwargs.pop("stop", None) or Stop()
    return provider.stream(
        messages, tools, deadline=deadline, silence_seconds=silence_seconds, stop=stop, **kwargs
    )


def ask(server: CompletionsServer, *args: Any, **kwargs: Any) -> list[Chunk]:
    return list(open_stream(provider_for(server), *args, **kwargs))


def failure(server: CompletionsServer, **kwargs: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(server, **kwargs)
    assert KEY not in repr(caught.value)
    return caught.value


def joined(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def calls(chunks: list[Chunk]) -> dict[int, tuple[str | None, str | None, str]]:
    found: dict[int, tuple[str | None, str | None, str]] = {}
    for each in chunks:
        if isinstance(each, ToolCallDelta):
            call_id, name, arguments = found.get(each.index, (None, None, ""))
            found[each.index] = (
                call_id or each.id,
                name or each.name,
                arguments + each.arguments,
            )
    return found


def test_an_answer_is_streamed_with_its_usage(server: CompletionsServer) -> None:
    server.script(stream(text("Hel"), Pause(0.05), text("lo"), finish(), usage(7, 3), DONE))
    assert ask(server) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        StepFinished("stop", Usage(7, 3)),
    ]


def test_a_request_has_the_history_the_tools_and_the_key(server: CompletionsServer) -> None:
    history = [
        Message("system", "Be brief."),
        Message("user", "1+1?"),
        Message("assistant", "", (ToolCall("c1", "calculate", '{"expression": "1+1"}'),)),
        Message("tool", "2", tool_call_id="c1", tool_name="calculate"),
    ]
    ask(server, history, tools=[calculate])
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.body["stream"] is True
    assert request.body["stream_options"] == {"include_usage": True}
    assert [message["role"] for message in request.body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert request.body["messages"][2]["tool_calls"][0]["id"] == "c1"
    assert request.body["messages"][3]["tool_call_id"] == "c1"
    assert request.body["tools"][0]["function"]["parameters"] == calculate.parameters


def test_broken_arguments_go_back_as_an_empty_object(server: CompletionsServer) -> None:
    broken = (ToolCall("c1", "calculate", '{"expr'),)
    result = Message("tool", "Error", tool_call_id="c1", tool_name="calculate")
    ask(server, [*HELLO, Message("assistant", "", broken), result], tools=[calculate])
    sent = server.requests[0].body["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert sent == "{}"


def test_usage_may_come_in_a_chunk_with_choices(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), {**finish(), "usage": usage(1, 2)["usage"]}, DONE))
    assert ask(server)[-1] == StepFinished("stop", Usage(1, 2))


def test_usage_may_be_missing(server: CompletionsServer) -> None:
    server.script(stream({**text("Hi"), "usage": None}, finish(), DONE))
    assert ask(server)[-1] == StepFinished("stop", None)


def test_several_calls_at_once_are_told_apart_by_index(server: CompletionsServer) -> None:
    server.script(
        stream(
            call(0, "a", "one", '{"x"'),
            call(1, "b", "two", "{"),
            call(0, arguments=":1}"),
            call(1, arguments="}"),
            finish("tool_calls"),
            DONE,
        )
    )
    assert calls(ask(server)) == {0: ("a", "one", '{"x":1}'), 1: ("b", "two", "{}")}


def test_several_calls_without_an_index_are_told_apart_by_id(server: CompletionsServer) -> None:
    server.script(
        stream(
            call(None, "a", "one", '{"x"'),
            call(None, arguments=":"),
            call(None, "b", "two", "{"),
            call(None, "a", arguments="1}"),
            call(None, "b", arguments="}"),
            finish("tool_calls"),
            DONE,
        )
    )
    assert calls(ask(server)) == {0: ("a", "one", '{"x":1}'), 1: ("b", "two", "{}")}


def test_calls_with_neither_index_nor_id_begin_with_a_name(server: CompletionsServer) -> None:
    server.script(
        stream(
            call(name="one", arguments="{"),
            call(arguments="}"),
            call(name="two", arguments="{}"),
            finish("tool_calls"),
            DONE,
        )
    )
    assert calls(ask(server)) == {0: (None, "one", "{}"), 1: (None, "two", "{}")}


def test_whole_calls_that_share_an_index_are_told_apart_by_id(server: CompletionsServer) -> None:
    server.script(
        stream(call(0, "a", "one", "{}"), call(0, "b", "two", "{}"), finish("tool_calls"), DONE)
    )
    assert calls(ask(server)) == {0: ("a", "one", "{}"), 1: ("b", "two", "{}")}


def test_calls_that_share_an_id_are_told_apart_by_index(server: CompletionsServer) -> None:
    server.script(
        stream(call(0, "a", "one", "{}"), call(1, "a", "two", "{}"), finish("tool_calls"), DONE)
    )
    assert calls(ask(server)) == {0: ("a", "one", "{}"), 1: ("a", "two", "{}")}


def test_an_id_may_come_late(server: CompletionsServer) -> None:
    server.script(stream(call(0, None, "one", "{"), call(0, "a", None, "}"), finish(), DONE))
    assert calls(ask(server)) == {0: ("a", "one", "{}")}


def test_arguments_may_be_an_object(server: CompletionsServer) -> None:
    server.script(stream(call(0, "a", "one", {"city": "东京"}), finish("tool_calls"), DONE))
    assert calls(ask(server))[0][2] == '{"city": "东京"}'


def test_content_may_be_null(server: CompletionsServer) -> None:
    server.script(stream(text(None), call(0, "a", "one", "{}"), finish("tool_calls"), DONE))
    assert joined(ask(server)) == ""


def test_content_may_come_in_parts(server: CompletionsServer) -> None:
    parts = [{"type": "text", "text": "Hi"}, {"type": "image"}, {"type": "text", "text": "!"}]
    server.script(stream(chunk({"content": parts}), finish(), DONE))
    assert joined(ask(server)) == "Hi!"


@pytest.mark.parametrize(
    "line",
    [": keep-alive\n\n", "event: message\nid: 1\n", "retry: 5\n\n", "data:\n\n", "\n", "data\n"],
)
def test_other_lines_are_passed_over(server: CompletionsServer, line: str) -> None:
    server.script(stream(line, text("Hi"), line, finish(), line, DONE))
    assert joined(ask(server)) == "Hi"


def test_lines_may_end_in_crlf_and_have_no_space(server: CompletionsServer) -> None:
    lines = [f"data:{json.dumps(each)}\r\n\r\n" for each in (text("Hi"), finish())]
    server.script(stream(*lines, "data:[DONE]\r\n\r\n"))
    assert joined(ask(server)) == "Hi"


def test_bytes_may_be_split_anywhere(server: CompletionsServer) -> None:
    words = "你好 😀\u2028x\u0085"
    event = f"data: {json.dumps(text(words), ensure_ascii=False)}\n\n".encode()
    server.script(stream(*(event[i : i + 1] for i in range(len(event))), finish(), DONE))
    assert joined(ask(server)) == words


def test_an_answer_may_end_without_done_after_a_finish_reason(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), finish("length")))
    assert ask(server)[-1] == StepFinished("length", None)


def test_an_answer_may_end_with_done_and_no_finish_reason(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), DONE))
    assert ask(server)[-1] == StepFinished("stop", None)


def test_an_answer_with_neither_end_is_broken_off(server: CompletionsServer) -> None:
    server.script(stream(text("Hi")))
    assert failure(server).code == ErrorCode.PROVIDER_INTERRUPTED
    assert len(server.requests) == 1


def test_a_drop_after_the_finish_reason_does_no_harm(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), finish(), Pause(0.05), RESET))
    assert joined(ask(server)) == "Hi"


def test_a_whole_completion_instead_of_a_stream_is_taken(server: CompletionsServer) -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": None}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    server.script(plain({"choices": choices, "usage": usage(4, 1)["usage"]}))
    assert ask(server) == [TextDelta("Hi"), StepFinished("stop", Usage(4, 1))]


def test_an_error_with_status_200_is_an_error(server: CompletionsServer) -> None:
    server.script(plain({"error": {"message": "no such thing"}}))
    error = failure(server)
    assert error.code == ErrorCode.PROVIDER_REJECTED
    assert error.message.endswith("/v1/chat/completions: no such thing")


def test_an_error_inside_the_stream_ends_it(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), {"error": {"message": f"lost {KEY}", "code": 500}}, DONE))
    error = failure(server)
    assert error.code == ErrorCode.PROVIDER_INTERRUPTED
    assert error.message.endswith("/v1/chat/completions: lost ***")


@pytest.mark.parametrize(
    "rubbish",
    [
        "data: {nonsense\n\n",
        "data: []\n\n",
        'data: {"choices": 1}\n\n',
        'data: {"choices": ["x"]}\n\n',
        'data: {"choices": [{"delta": "x"}]}\n\n',
        'data: {"choices": [{"delta": {"content": 1}}]}\n\n',
        'data: {"choices": [{"delta": {"tool_calls": [1]}}]}\n\n',
        "data: " + "[" * 100_000 + "\n\n",
        'data: {"hello": "world"}\n\n' + DONE,
    ],
)
def test_rubbish_is_a_failure_of_the_provider(server: CompletionsServer, rubbish: str) -> None:
    server.script(stream(rubbish, finish(), DONE))
    if "world" in rubbish:
        server.script(stream(rubbish))
    assert failure(server).code == ErrorCode.PROVIDER_PROTOCOL
    assert len(server.requests) == 1


def test_a_line_without_end_is_a_failure_of_the_provider(server: CompletionsServer) -> None:
    server.script(stream("data: ", Drip("x" * 50_000, 0)))
    assert failure(server).code == ErrorCode.PROVIDER_PROTOCOL


def test_an_answer_without_end_is_too_long(server: CompletionsServer) -> None:
    server.script(stream(Drip(f": {'x' * 500_000}\n", 0)))
    assert failure(server).code == ErrorCode.ANSWER_TOO_LONG


def test_a_web_page_is_no_answer(server: CompletionsServer) -> None:
    server.script(stream("<html>Welcome</html>", content_type="text/html"))
    assert failure(server).code == ErrorCode.PROVIDER_PROTOCOL


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_busy_server_is_asked_again(server: CompletionsServer, status: int) -> None:
    server.script(plain({}, status), plain({}, status), answer("Hi"))
    assert joined(ask(server)) == "Hi"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "provider_busy"), (529, "provider_busy"), (503, "provider_unavailable")],
)
def test_a_server_that_stays_busy_is_given_up(
    server: CompletionsServer, status: int, code: str
) -> None:
    server.script(plain({"error": {"message": "slow down"}}, status))
    error = failure(server)
    assert (error.code, "slow down" in error.message) == (code, True)
    assert len(server.requests) == 4


def test_retry_after_in_seconds_is_kept_to(server: CompletionsServer) -> None:
    server.script(plain({}, 429, Retry_After="0.3"), answer("Hi"))
    began = time.monotonic()
    ask(server)
    assert 0.3 <= time.monotonic() - began < 10


def test_retry_after_may_be_a_date(server: CompletionsServer) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    server.script(plain({}, 503, Retry_After=date))
    error = failure(server)
    assert 90 < error.retry_after <= 100


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "1e999", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_senseless_retry_after_is_ignored(server: CompletionsServer, value: str) -> None:
    server.script(plain({}, 429, Retry_After=value), answer("Hi"))
    assert joined(ask(server)) == "Hi"


def test_nobody_waits_for_a_retry_after_beyond_the_deadline(server: CompletionsServer) -> None:
    server.script(plain({}, 429, Retry_After="60"))
    began = time.monotonic()
    error = failure(server)
    assert (error.code, error.retry_after) == (ErrorCode.PROVIDER_BUSY, 60)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refused_request_is_not_made_again(server: CompletionsServer, status: int) -> None:
    server.script(plain({"error": {"message": f"bad {KEY}\n" + "x" * 9999}}, status))
    error = failure(server)
    is_ours = status in (400, 422)
    rejected, misconfigured = ErrorCode.PROVIDER_REJECTED, ErrorCode.PROVIDER_MISCONFIGURED
    assert error.code == (rejected if is_ours else misconfigured)
    assert str(status) in error.message and len(error.message) < 450 and "\n" not in error.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_named_by_its_setting(
    server: CompletionsServer, status: int
) -> None:
    server.script(plain({"error": {"message": f"bad {KEY}"}}, status))
    message = failure(server).message
    assert f"the server answered {status}" in message and "key" in message.lower()


@pytest.mark.parametrize(
    "quoted",
    [
        f"{'x' * 248} {KEY}",
        f"{'x' * 250}{KEY}",
        f"{KEY[:6]}***",
        f"***{KEY[-6:]}!",
        f"{KEY[:4]}...{KEY[-4:]}",
        f"****{KEY[-4:]}",
        f"'**{KEY[-3:]}'",
        f"the key ending in {KEY[-4:]}.",
    ],
)
def test_no_piece_of_a_key_that_a_server_quotes_is_repeated(
    server: CompletionsServer, quoted: str
) -> None:
    server.script(plain({"error": {"message": f"no such model, {quoted}"}}, 400))
    message = failure(server).message
    assert "no such model" in message
    assert KEY[:4] not in message and KEY[-3:] not in message


def test_what_is_said_about_a_wrong_key_is_not_repeated(server: CompletionsServer) -> None:
    server.script(plain({"error": {"message": f"Incorrect API key: {KEY[:5]}***"}}, 401))
    assert KEY[:5] not in failure(server).message


@pytest.mark.parametrize(
    "words",
    [
        "unknown field stream_options",
        "1 validation error for Request\nstream_options\n  Extra inputs are not permitted",
        "不支持stream_options参数",
    ],
)
def test_a_server_without_stream_options_is_asked_without(
    server: CompletionsServer, words: str
) -> None:
    server.script(plain({"error": words}, 400), answer("Hi"))
    provider = provider_for(server)
    assert joined(list(open_stream(provider))) == "Hi"
    assert joined(list(open_stream(provider))) == "Hi"
    sent = ["stream_options" in request.body for request in server.requests]
    assert sent == [True, False, False]


def asked(server: CompletionsServer) -> list[dict[str, int]]:
    """What bounds the output in each request, by the name it has."""
    return [
        {n: v for n, v in each.body.items() if n.startswith("max_")} for each in server.requests
    ]


def test_output_is_bounded_only_when_somebody_asks_for_it(server: CompletionsServer) -> None:
    provider = provider_for(server)
    list(open_stream(provider))
    list(open_stream(provider, max_output_tokens=9))
    assert asked(server) == [{}, {"max_tokens": 9}]


@pytest.mark.parametrize(
    "refusal",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model."
        " Use 'max_completion_tokens' instead.",
        [{"type": "extra_forbidden", "loc": ["body", "max_tokens"]}],
        "Unrecognized request argument supplied: max_tokens",
        "max_tokens was renamed: use max_completion_tokens.",
    ],
)
def test_a_server_that_wants_the_newer_bound_gets_it(server: CompletionsServer, refusal) -> None:
    server.script(plain({"error": {"message": refusal}}, 400), answer("Hi"))
    provider = provider_for(server)
    list(open_stream(provider, max_output_tokens=9))
    list(open_stream(provider, max_output_tokens=8))
    assert asked(server) == [
        {"max_tokens": 9},
        {"max_completion_tokens": 9},
        {"max_completion_tokens": 8},
    ]


def test_a_bound_is_never_dropped(server: CompletionsServer) -> None:
    server.script(
        plain({"detail": "unknown field: stream_options"}, 422),
        plain({"detail": "unknown field: max_tokens"}, 422),
        plain({"detail": "unknown field: max_completion_tokens"}, 422),
        answer("Hi"),
    )
    with pytest.raises(ProviderError) as caught:
        list(open_stream(provider_for(server), max_output_tokens=9))
    assert caught.value.code == ErrorCode.PROVIDER_REJECTED
    assert asked(server) == [{"max_tokens": 9}, {"max_tokens": 9}, {"max_completion_tokens": 9}]


def has_stream_options(server: CompletionsServer) -> list[bool]:
    """Whether each request had them."""
    return ["stream_options" in request.body for request in server.requests]


def refusing(option: str, **refusal: Any) -> Callable[[Request], Reply]:
    """A server that does not know an option, and says so in these words."""
    return lambda request: plain(refusal, 400) if option in request.body else answer("Hi")


@pytest.mark.parametrize(
    "refusal",
    [
        {"error": {"message": "Unsupported parameter.", "param": "stream_options"}},
        {"error": {"message": "Unknown member.", "param": "stream_options.include_usage"}},
        {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
        {"message": {"detail": [{"loc": ["stream_options"], "type": "extra_forbidden"}]}},
        {"error": {"message": "Invalid JSON: Unknown name 'stream_options': Cannot find field."}},
        {"error": {"message": "stream_options: Extra inputs are not permitted"}},
        {"error": {"message": "`stream_options` isn't supported here."}},
        {"error": "This server does not support stream_options."},
        {"errors": ["json: unknown field 'stream_options'"]},
        {"error": {"message": '{"error": {"message": "no such option: stream_options"}}'}},
        {"error": {"message": "stream_options.include_usage is not available"}},
        {"error": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options')}]"},
        {"code": 20015, "message": "The parameter stream_options is invalid.", "data": None},
        {"message": "Additional properties are not allowed ('stream_options' was unexpected)"},
        {"error": {"message": "stream_options: unsupported", "param": "None", "code": "bad"}},
    ],
)
def test_an_option_that_is_named_as_the_culprit_is_left_out(
    server: CompletionsServer, refusal: dict
) -> None:
    server.script(refusing("stream_options", **refusal))
    provider = provider_for(server)
    for _ in range(2):
        assert joined(list(open_stream(provider))) == "Hi"
    assert has_stream_options(server) == [True, False, False]


@pytest.mark.parametrize(
    "message",
    [
        'images are not supported; asked: {"n": 1, "stream_options": {"include_usage": true}}',
        "images are not supported {'stream_options': {'include_usage': True}, 'max_tokens': 9}",
        "The tool 'x' has a type that is none: it must be 'object'. Offered beside stream_options.",
    ],
)
def test_an_option_that_is_only_quoted_is_no_culprit(
    server: CompletionsServer, message: str
) -> None:
    server.script(plain({"error": {"message": message}}, 400), answer("Hi"))
    with pytest.raises(ProviderError):
        ask(server, max_output_tokens=9)
    assert len(server.requests) == 1


def test_a_culprit_that_the_server_names_goes_before_its_words(server: CompletionsServer) -> None:
    error = {"message": "unsupported: stream_options", "param": "tools[0].function.parameters"}
    server.script(plain({"error": error}, 400), answer("Hi"))
    with pytest.raises(ProviderError):
        ask(server)
    assert len(server.requests) == 1


def test_a_refusal_teaches_nothing_unless_the_next_request_is_accepted(
    server: CompletionsServer,
) -> None:
    server.script(plain({"error": "unsupported: stream_options, you wrote"}, 400))
    provider = provider_for(server)
    with pytest.raises(ProviderError):
        list(open_stream(provider))
    server.script(answer("Hi"))
    list(open_stream(provider))
    assert has_stream_options(server) == [True, False, True]


def test_a_request_with_tools_of_somebody_else_teaches_nothing(server: CompletionsServer) -> None:
    server.script(refusing("stream_options", error="unknown field stream_options"))
    provider = provider_for(server)
    theirs = Tool("pick", "Pick.", {"type": "object", "properties": {}, "required": []})
    assert joined(list(open_stream(provider, tools=[calculate, theirs]))) == "Hi"
    assert joined(list(open_stream(provider, tools=[calculate]))) == "Hi"
    list(open_stream(provider, tools=[calculate]))
    assert has_stream_options(server) == [True, False, True, False, False]


@pytest.mark.parametrize(
    "message",
    [
        "unsupported: stream_options",
        "Tool use is not supported here",
        "The system role is not supported",
        "Streaming is not supported",
        "tool calls are forbidden. reasoning_effort must be 'none'",
        "Please use the Responses API, this is not supported",
        "maximum context length exceeded",
    ],
)
def test_words_that_a_server_may_have_quoted_teach_nothing(
    server: CompletionsServer, message: str
) -> None:
    provider = provider_for(server)
    quoted = plain({"error": {"message": f"I cannot read this: {message}"}}, 400)
    server.script(quoted, answer("Hi"))
    system, long = Message("system", "Be brief."), "x" * 900
    earlier = [Message("user", f"{message} {long}"), Message("assistant", "No.")]
    with suppress(ProviderError):
        list(open_stream(provider, [system, *earlier, *HELLO], tools=[calculate]))

    others = [Message("user", long), Message("assistant", long), *HELLO]
    list(open_stream(provider, [system, *others], tools=[calculate]))

    sent = server.requests[-1]
    assert sent.path == "/v1/chat/completions"
    assert sent.body.keys() == {"model", "messages", "stream", "stream_options", "tools"}
    assert sent.body["stream"] and len(sent.body["messages"]) == 4


def test_what_a_server_refuses_is_believed_for_a_while(
    server: CompletionsServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(refusing("stream_options", error="unknown field stream_options"))
    provider = OpenAIProvider(server.url, KEY, "m", believed_seconds=0)
    for _ in range(2):
        list(open_stream(provider))
    assert has_stream_options(server) == [True, False, True, False]
    lines = [each.getMessage() for each in caplog.records if "refuses" in each.getMessage()]
    assert lines == ["m on 127.0.0.1 refuses stream_options: asked otherwise for 0 s"] * 2


@pytest.mark.parametrize("by", ["words", "tools"])
def test_nobody_talks_a_bound_into_another_name(server: CompletionsServer, by: str) -> None:
    said = "unsupported: max_tokens, use max_completion_tokens"
    server.script(plain({"error": {"message": f"Not this: {said}"}}, 400), answer("Hi"))
    theirs = Tool("pick", said, {"type": "object", "properties": {}, "required": []})
    with pytest.raises(ProviderError):
        ask(
            server,
            [Message("user", said if by == "words" else "Hi")],
            tools=[theirs] if by == "tools" else [],
            max_output_tokens=9,
        )
    assert asked(server) == [{"max_tokens": 9}]


def test_a_tool_of_ones_own_that_a_server_refuses_takes_no_other_away(
    server: CompletionsServer,
) -> None:
    for words in ("tools[0].function: unsupported type 'x'", "tool 'calculate' is not valid"):
        server.script(plain({"error": {"message": words}}, 400), answer("Hi"))
        with pytest.raises(ProviderError):
            ask(server, tools=[calculate])


def test_what_one_model_refuses_is_asked_of_another(server: CompletionsServer) -> None:
    server.script(refusing("stream_options", error="unknown field stream_options"))
    list(open_stream(OpenAIProvider(server.url, KEY, "one")))
    list(open_stream(OpenAIProvider(server.url, KEY, "other")))
    assert has_stream_options(server) == [True, False, True, False]


def test_a_bound_that_a_server_finds_too_high_is_not_taken_away(server: CompletionsServer) -> None:
    refusal = "max_tokens is too large: 99999. This model supports at most 4096 tokens."
    server.script(plain({"error": {"message": refusal}}, 400))
    with pytest.raises(ProviderError) as caught:
        list(open_stream(provider_for(server), max_output_tokens=99999))
    assert caught.value.code == ErrorCode.PROVIDER_REJECTED
    assert len(server.requests) == 1


@pytest.mark.parametrize("count", [-1, 10**9, 10**30, True, 1.5, "7", None])
def test_a_count_of_tokens_that_cannot_be_is_none(server: CompletionsServer, count: Any) -> None:
    server.script(stream(text("Hi"), finish(), usage(count, 3), DONE))
    assert ask(server)[-1] == StepFinished("stop", Usage(None, 3))


def test_a_redirect_never_leads_the_key_elsewhere(server: CompletionsServer) -> None:
    with CompletionsServer() as elsewhere:
        location = {"Location": f"{elsewhere.url}/chat/completions"}
        server.script(Reply(status=307, headers=location))
        assert failure(server).code == ErrorCode.PROVIDER_MISCONFIGURED
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [408, 409, 425])
def test_a_status_of_a_moment_is_tried_again(server: CompletionsServer, status: int) -> None:
    server.script(plain({"error": "not now"}, status), answer("Hi"))
    assert joined(ask(server)) == "Hi"


def test_a_connection_refused_is_tried_again_and_given_up() -> None:
    with nobody_listening() as port:
        provider = OpenAIProvider(f"http://127.0.0.1:{port}/v1", KEY, "m", backoff_seconds=0.01)
        with pytest.raises(ProviderError) as caught:
            list(open_stream(provider))
    assert caught.value.code == ErrorCode.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize("cut", [CLOSE, RESET])
def test_a_drop_before_the_headers_is_tried_again(server: CompletionsServer, cut: Any) -> None:
    server.script(Reply((cut,), status=0), answer("Hi"))
    assert joined(ask(server)) == "Hi"


@pytest.mark.parametrize("cut", [CLOSE, RESET])
def test_a_drop_before_the_first_word_is_tried_again(server: CompletionsServer, cut: Any) -> None:
    server.script(stream(": hello\n\n", cut), answer("Hi"))
    assert joined(ask(server)) == "Hi"


@pytest.mark.parametrize("cut", [CLOSE, RESET])
def test_a_drop_after_the_first_word_is_a_failure(server: CompletionsServer, cut: Any) -> None:
    server.script(stream(text("Hi"), Pause(0.05), cut), answer("Hi"))
    assert failure(server).code == ErrorCode.PROVIDER_INTERRUPTED
    assert len(server.requests) == 1


def test_a_silent_server_is_given_up(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), HANG))
    began = time.monotonic()
    error = failure(server, silence_seconds=0.2)
    assert error.code == ErrorCode.PROVIDER_TIMEOUT
    assert "127.0.0.1 sends no more: nothing has come for too long" in error.message
    assert time.monotonic() - began < 4


def test_a_server_silent_before_its_headers_is_given_up(server: CompletionsServer) -> None:
    server.script(Reply((HANG,), status=0))
    assert failure(server, silence_seconds=0.2).code == ErrorCode.PROVIDER_TIMEOUT


@pytest.mark.parametrize("drop", [": heartbeat\n\n", "x"])
def test_a_server_that_drips_for_ever_is_ended_by_the_deadline(
    server: CompletionsServer, drop: str
) -> None:
    server.script(stream(text("Hi"), Drip(drop, 0.05)))
    began = time.monotonic()
    error = failure(server, seconds=0.4, silence_seconds=0.2)
    assert error.code == ErrorCode.OUT_OF_TIME
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "head", ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_headers_and_chunk_sizes_that_drip_are_ended_by_the_deadline(head: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(head.encode())
                for _ in range(100):
                    time.sleep(0.05)
                    try:
                        connection.sendall(b"0")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        began = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            list(open_stream(OpenAIProvider(url, KEY, "m"), seconds=0.4, silence_seconds=0.2))
    assert caught.value.code == ErrorCode.OUT_OF_TIME
    assert time.monotonic() - began < 4


def test_a_server_that_never_ends_its_answer_is_left_after_done(
    server: CompletionsServer,
) -> None:
    server.script(stream(text("Hi"), finish(), DONE, HANG))
    began = time.monotonic()
    assert joined(ask(server)) == "Hi"
    assert time.monotonic() - began < 4


def test_nobody_waits_long_for_what_may_follow_a_finish_reason(
    server: CompletionsServer,
) -> None:
    server.script(stream(text("Hi"), finish(), HANG))
    began = time.monotonic()
    assert joined(ask(server, seconds=30, silence_seconds=30)) == "Hi"
    assert time.monotonic() - began < 15


def test_a_delta_arrives_as_soon_as_its_line_is_complete(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), Pause(5), finish(), DONE))
    began = time.monotonic()
    chunks = open_stream(provider_for(server))
    assert next(chunks) == TextDelta("Hi")
    assert time.monotonic() - began < 4


def test_what_arrives_together_is_one_delta(server: CompletionsServer) -> None:
    calls = [call(0, "a", "where", "{"), call(0, arguments='"x"'), call(0, arguments=": 1}")]
    parts = [text("Hel"), text("lo"), *calls, finish("tool_calls")]
    server.script(stream("".join(f"data: {json.dumps(part)}\n\n" for part in parts), DONE))
    *chunks, _vendor, _end = ask(server)
    assert chunks == [
        TextDelta("Hello"),
        ToolCallDelta(0, "a", "where"),
        ToolCallDelta(0, arguments='{"x": 1}'),
    ]


def test_chunks_of_http_that_are_here_are_read_together(server: CompletionsServer) -> None:
    server.script(stream(*[text("x")] * 500, finish(), DONE))
    chunks = ask(server)
    assert joined(chunks) == "x" * 500
    assert len(chunks) < 250


def test_a_stream_is_stopped_from_another_thread(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), HANG))
    stop = Stop()
    chunks = open_stream(provider_for(server), stop=stop)
    assert next(chunks) == TextDelta("Hi")
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        next(chunks)
    assert time.monotonic() - began < 4
    assert server.left.wait(10)


@pytest.mark.parametrize(
    "reply",
    [Reply(parts=(HANG,), status=0), plain({}, 429, Retry_After="30")],
    ids=["before the headers", "while it waits to try again"],
)
def test_a_stream_is_stopped_before_it_begins(server: CompletionsServer, reply: Reply) -> None:
    server.script(reply)
    stop = Stop()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        list(open_stream(provider_for(server), seconds=60, silence_seconds=60, stop=stop))
    assert time.monotonic() - began < 30


def test_nothing_is_asked_after_a_stop(server: CompletionsServer) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        list(open_stream(provider_for(server), stop=stop))
    assert server.requests == []


def test_closing_the_stream_closes_the_connection_at_once(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), HANG))
    chunks = open_stream(provider_for(server))
    next(chunks)
    closed_at = time.monotonic()
    chunks.close()
    assert time.monotonic() - closed_at < 4
    assert server.left.wait(10)
    assert server.left_at - closed_at < 4


def test_a_connection_is_used_again(server: CompletionsServer) -> None:
    provider = provider_for(server)
    for _ in range(3):
        list(open_stream(provider))
    assert len({request.connection for request in server.requests}) == 1


def test_sixty_four_threads_share_one_provider(
    server: CompletionsServer, caplog: pytest.LogCaptureFixture
) -> None:
    provider = provider_for(server)
    answers: list[str] = []

    def work() -> None:
        answers.append(joined(list(open_stream(provider))))

    threads = [threading.Thread(target=work) for _ in range(64)]
    with caplog.at_level(logging.WARNING, "urllib3"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["Hello"] * 64
    assert not caplog.records


def test_proxies_of_the_environment_are_not_used(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert joined(ask(server)) == "Hello"


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http://", ""])
def test_a_senseless_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        OpenAIProvider(url, None, "m")


def test_a_key_no_header_can_carry_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as caught:
        OpenAIProvider("http://localhost/v1", f"{KEY}\n", "m")
    assert KEY not in str(caught.value)


def test_an_object_that_was_cut_off_ends_nothing(server: CompletionsServer) -> None:
    server.script(stream(text("half"), 'data: {"error": {"message": "boom"\n', DONE))
    assert failure(server).code is ErrorCode.PROVIDER_PROTOCOL

    cut = 'data: {"choices": [{"delta": {"content": "b"\n'
    lines = [f"data: {json.dumps(each)}\n" for each in (text("a"), text("c"), finish("length"))]
    server.script(stream(lines[0], cut, *lines[1:], DONE))
    assert failure(server).code is ErrorCode.PROVIDER_PROTOCOL


def test_a_text_beside_the_delta_is_not_said_twice(server: CompletionsServer) -> None:
    first = {"delta": {"content": "hi"}, "text": "hi"}
    for last in ({"delta": {}}, {"delta": None}):
        end = {**last, "text": "hi", "finish_reason": "stop"}
        server.script(stream({"choices": [first]}, {"choices": [end]}, DONE))
        assert joined(ask(server)) == "hi"


@pytest.mark.quiet("measures processor time")
def test_an_object_on_many_lines_costs_no_more_than_its_length(server: CompletionsServer) -> None:
    """Each line could have all before it read again: 16,000 lines cost 23 s of processor."""
    server.script(stream('data: {"choices": [\n', "data: 1,\n" * 16_000, DONE))
    began = time.process_time()
    assert failure(server).code is ErrorCode.PROVIDER_PROTOCOL
    many = time.process_time() - began

    server.script(stream('data: {"choices": [\n', "data: [1],{}\n" * 16_000, DONE))
    began = time.process_time()
    assert failure(server).code is ErrorCode.PROVIDER_PROTOCOL
    assert max(many, time.process_time() - began) < 3


def test_a_whole_answer_with_an_empty_delta_is_whole(server: CompletionsServer) -> None:
    choice = {"delta": None, "message": {"role": "assistant", "content": "Hello"}}
    server.script(plain({"choices": [choice]}))
    assert joined(ask(server)) == "Hello"


def test_of_a_list_of_errors_the_first_counts(server: CompletionsServer) -> None:
    server.script(plain([{"error": {"code": 429, "message": "slow down"}}, {"error": {}}]))
    assert failure(server).code is ErrorCode.PROVIDER_BUSY
