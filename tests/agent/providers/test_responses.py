"""OpenAI's Responses against a real server that speaks them."""

import pytest

from runtime.agent.events import ErrorCode, RunError
from runtime.agent.messages import Usage
from tests.agent.completions_server import CompletionsServer, Pause, Reply, plain, stream
from tests.agent.dialects_server import HELLO, error, flat_error
from tests.agent.providers.test_dialects import Chat, results
from tests.agent.responses_server import (
    NOT_FOUND,
    at,
    begun,
    called,
    completed,
    event,
    function_call,
    hello,
    message,
    said,
    thinking,
)


def asked(reply, message: str = "Hi", **how) -> tuple[Chat, list]:
    """A chat with a server that answers so, and the events of its first run."""
    with CompletionsServer(reply) as server:
        chat = Chat(server, **{"dialect": "responses", **how})
        return chat, chat.say(message)


WHOLE = completed(message("hello there"))["response"]


@pytest.mark.parametrize(
    "reply",
    [
        hello(),
        plain(WHOLE),
        stream(completed(message("hello there"))),
        stream(event("output_item.done", 0, item=message("hello there")), completed()),
        stream(event("output_text.delta", delta="hello there"), completed()),
        stream(event("refusal.delta", delta="hello there"), completed()),
        stream(*begun(), {"type": "keepalive"}, *said("hello there"), completed()),
    ],
)
def test_an_answer_is_understood_in_every_form(reply: Reply) -> None:
    chat, events = asked(reply)
    assert (events[-1].output, events[-1].usage) == ("hello there", Usage(7, 3))
    assert len(chat.server.requests) == 1


def test_a_request_stores_nothing_and_asks_for_encrypted_reasoning() -> None:
    chat, _ = asked(hello())
    (request,) = chat.server.requests
    assert request.path == "/v1/responses"
    assert request.body["store"] is False
    assert request.body["include"] == ["reasoning.encrypted_content"]
    assert request.body["instructions"] == "Be brief."
    assert request.body["input"] == [{"type": "message", "role": "user", "content": "Hi"}]
    assert {tool["type"] for tool in request.body["tools"]} == {"function"}
    assert request.body["tools"][0]["name"] == "now"
    assert "messages" not in request.body and "stream_options" not in request.body


def test_options_stand_where_this_dialect_has_them() -> None:
    chat, _ = asked(hello(), options={"reasoning_effort": "low", "max_tokens": 9})
    sent = chat.server.requests[0].body
    assert (sent["reasoning"], sent["max_output_tokens"]) == ({"effort": "low"}, 9)
    assert not {"reasoning_effort", "max_tokens"} & sent.keys()


def test_calls_run_and_their_results_come_back() -> None:
    calls = [*called("now", "{}", 0, "a"), *called("add", '{"expression": "2+3"}', 1, "b")]
    with CompletionsServer(stream(*begun(), *calls, completed()), hello()) as server:
        chat = Chat(server, dialect="responses")
        assert results(chat.say("Hi")) == [("now", "noon"), ("add", "5")]
        items = [(each["type"], each.get("call_id")) for each in server.requests[1].body["input"]]
    assert items == [
        ("message", None),
        ("function_call", "a"),
        ("function_call", "b"),
        ("function_call_output", "a"),
        ("function_call_output", "b"),
    ]


def test_a_whole_response_may_call() -> None:
    whole = completed(function_call("add", '{"expression": "2+3"}'))["response"]
    with CompletionsServer(plain(whole), hello()) as server:
        assert results(Chat(server, dialect="responses").say("Hi")) == [("add", "5")]


def test_what_a_model_thought_comes_back_before_its_call() -> None:
    with CompletionsServer(thinking) as server:
        chat = Chat(server, dialect="responses")
        assert [chat.answered() for _ in range(2)] == ["hello there"] * 2
        chat.restart()
        assert chat.answered() == "hello there"


def test_what_a_model_thought_goes_to_no_other_dialect() -> None:
    with CompletionsServer(thinking) as server:
        chat = Chat(server, dialect="responses")
        chat.answered()
        other = Chat(server, dialect="completions")
        other._kept = chat._kept
        server.script(HELLO)
        other.answered()
        assert "gAAA" not in str(server.requests[-1].body)


def test_a_phase_comes_back_with_its_text() -> None:
    told = message("hello there", phase="final_answer")
    with CompletionsServer(stream(completed(told))) as server:
        chat = Chat(server, dialect="responses")
        chat.answered()
        chat.answered()
        assert server.requests[1].body["input"][1]["phase"] == "final_answer"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (
            completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            ErrorCode.ANSWER_TOO_LONG,
        ),
        (
            completed(status="incomplete", incomplete_details={"reason": "content_filter"}),
            ErrorCode.ANSWER_FILTERED,
        ),
        (completed(status="incomplete"), ErrorCode.ANSWER_UNFINISHED),
        (
            completed(status="failed", error={"code": "server_error", "message": "died"}),
            ErrorCode.PROVIDER_INTERRUPTED,
        ),
        ({"type": "error", "code": "x", "message": "died"}, ErrorCode.PROVIDER_INTERRUPTED),
        (Pause(0), ErrorCode.PROVIDER_INTERRUPTED),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(ending, code: ErrorCode) -> None:
    _, events = asked(stream(*begun(), event("output_text.delta", 0, delta="Half an "), ending))
    assert isinstance(events[-1], RunError)
    assert (events[-1].code, events[-1].output) == (code, "Half an ")


def test_a_failure_before_the_first_word_is_retried_like_its_status() -> None:
    busy = completed(status="failed", error={"code": "rate_limit_exceeded", "message": "later"})
    with CompletionsServer(stream(*begun(), busy), hello()) as server:
        assert Chat(server, dialect="responses").answered() == "hello there"


def test_encrypted_reasoning_that_a_model_does_not_know_is_not_asked_for() -> None:
    def script(request):
        refusal = error("Encrypted content is not supported with this model.", param="include")
        return refusal if "include" in request.body else hello()

    with CompletionsServer(script) as server:
        chat = Chat(server, dialect="responses")
        assert [chat.answered(), chat.answered()] == ["hello there"] * 2
        assert len(server.requests) == 3


def test_reasoning_that_cannot_be_read_any_more_is_left_out() -> None:
    with CompletionsServer(thinking) as server:
        chat = Chat(server, dialect="responses")
        chat.answered()
        refusal = error("The encrypted content could not be verified.", code="invalid_item")
        server.script(lambda request: refusal if "gAAA" in str(request.body) else hello())
        assert chat.answered() == "hello there"


@pytest.mark.parametrize(
    "refusal",
    [
        error("This model is only supported in v1/responses and not in v1/chat/completions.", 404),
        flat_error("Please use the Responses API with this model", 400),
    ],
)
def test_a_server_that_asks_for_responses_gets_them(refusal: Reply) -> None:
    with CompletionsServer(at("/responses", hello(), refusal)) as server:
        chat = Chat(server)
        assert [chat.answered(), chat.answered()] == ["hello there"] * 2
        paths = [request.path.removeprefix("/v1") for request in server.requests]
        assert paths == ["/chat/completions", "/responses", "/responses"]


def test_tools_without_reasoning_are_tried_before_responses() -> None:
    said_so = (
        "Function tools with reasoning_effort are not supported in /v1/chat/completions. Use"
        " /v1/responses or set reasoning_effort to 'none'."
    )

    def script(request):
        return HELLO if request.body.get("reasoning_effort") == "none" else error(said_so)

    with CompletionsServer(at("/completions", script, NOT_FOUND)) as server:
        assert Chat(server).answered() == "hello there"


def test_a_server_whose_dialect_is_set_is_asked_in_no_other() -> None:
    refusal = error("Use v1/responses", 404)
    with CompletionsServer(at("/responses", hello(), refusal)) as server:
        assert isinstance(Chat(server, dialect="completions").say("Hi")[-1], RunError)
        assert len(server.requests) == 1
