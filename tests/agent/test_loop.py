"""The loop: what a run does with a model that behaves, and with one that does not."""

import contextvars
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from runtime.agent.events import (
    ErrorCode,
    Event,
    RunError,
    RunFinished,
    RunStarted,
    TextMessageContent,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallResult,
    ToolCallStart,
    compact,
)
from runtime.agent.loop import Bounds, run
from runtime.agent.messages import Message, ToolCall, Usage
from runtime.agent.providers.openai import OpenAIProvider
from runtime.agent.providers.provider import Chunk, StepFinished, TextDelta, ToolCallDelta
from runtime.agent.step import MAX_CALLS_OF_A_STEP, MAX_ID_CHARS
from runtime.agent.stop import Stop
from runtime.agent.tools.tool import Tool, ToolError, tool
from runtime.agent.transcript import from_events, unanswered
from tests.agent.completions_server import (
    CLOSE,
    DONE,
    HANG,
    CompletionsServer,
    Pause,
    Reply,
    answer,
    call,
    finish,
    plain,
    stream,
    text,
    tool_answer,
)
from tests.agent.order import check_order

ASK = [Message("user", "Please")]
place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


@tool
def echo(word: str) -> str:
    """Say it again."""
    return word


@tool
def burn() -> None:
    """Fail."""
    raise RuntimeError("the oven is on fire")


@tool
def leave() -> None:
    """Try to end the process."""
    raise SystemExit(1)


@tool
def decline() -> None:
    """Say no, in words for the model."""
    raise ToolError("not on a Sunday")


@tool
def hang() -> None:
    """Take for ever."""
    threading.Event().wait(60)


@tool
def where() -> str:
    """Tell the caller's context variable."""
    return place.get()


TOOLS = [echo, burn, leave, decline, hang, where]
# One that whoever runs the agent answers.
PICK = Tool("pick", "Let the user pick a colour.", {"type": "object", "properties": {}})


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    """A server that says Hello until it is given another script."""
    with CompletionsServer() as server:
        yield server


class Steps:
    """A provider whose steps are given as chunks; an exception among them is raised."""

    def __init__(self, *steps: Sequence[Any]) -> None:
        self.steps = list(steps)
        self.asked: list[list[Message]] = []
        self.closed = False

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], **_: Any
    ) -> Iterator[Chunk]:
        self.asked.append(list(messages))
        try:
            for chunk in self.steps.pop(0):
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
        finally:
            self.closed = True


END = StepFinished("stop", Usage(1, 1))
HI = [TextDelta("Hi"), END]


def events_of(provider: Any, **bounds: float) -> list[Event]:
    if isinstance(provider, CompletionsServer):
        provider = OpenAIProvider(provider.url, None, "m", backoff_seconds=0.01)
    return check_order(run(ASK, provider, TOOLS, Bounds(**bounds)))


def results(events: list[Event]) -> list[tuple[str, bool]]:
    found = [event for event in events if isinstance(event, ToolCallResult)]
    return [(event.result, event.is_error) for event in found]


def calling(*calls: tuple[str, str]) -> list[Chunk]:
    chunks = [ToolCallDelta(i, f"c{i}", name, text) for i, (name, text) in enumerate(calls)]
    return [*chunks, END]


def test_a_run_calls_a_tool_and_answers(server: CompletionsServer) -> None:
    server.script(tool_answer("echo", '{"word": "hey"}'), answer("You said ", "hey."))
    events = compact(events_of(server))
    assert [event.type for event in events] == [
        "RUN_STARTED",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert events[-1] == RunFinished(events[0].run_id, "You said hey.", Usage(12, 5))
    assert server.requests[1].body["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "hey",
    }


def test_a_call_of_a_tool_without_a_function_ends_the_run() -> None:
    provider = Steps(calling(("pick", "{}")))
    events = check_order(run(ASK, provider, [*TOOLS, PICK], Bounds(max_steps=1)))
    assert [event.type for event in events] == [
        "RUN_STARTED",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "RUN_FINISHED",
    ]
    assert unanswered([event.to_dict() for event in events]) == [events[1].tool_call_id]


def test_calls_beside_one_that_is_left_open_are_answered_first() -> None:
    calls = (("echo", '{"word": "a"}'), ("pick", "{}"), ("burn", "{}"))
    events = check_order(run(ASK, Steps(calling(*calls)), [*TOOLS, PICK]))
    assert results(events) == [("a", False), ("Error: the tool failed", True)]
    picked = [e for e in events if isinstance(e, ToolCallStart) and e.tool_name == "pick"]
    assert unanswered([event.to_dict() for event in events]) == [picked[0].tool_call_id]


def test_an_answer_from_outside_is_told_to_the_model_in_the_next_run() -> None:
    calls = (("echo", '{"word": "a"}'), ("pick", "{}"))
    first = [e.to_dict() for e in run(ASK, Steps(calling(*calls)), [*TOOLS, PICK])]
    [call_id] = unanswered(first)
    provider = Steps([TextDelta("Red it is."), StepFinished("stop")])
    list(run([*ASK, *from_events(first, {call_id: "red"})], provider, TOOLS))
    told = [(m.tool_name, m.content) for m in provider.asked[0] if m.role == "tool"]
    assert told == [("echo", "a"), ("pick", "red")]


def test_a_run_keeps_the_id_it_is_given() -> None:
    assert next(run(ASK, Steps(HI), [], run_id="r")) == RunStarted("r")


def test_text_and_several_calls_share_a_step() -> None:
    step = [TextDelta("Let me "), *calling(("echo", '{"word": "a"}'), ("echo", '{"word": "b"}'))]
    step.insert(2, TextDelta("see."))
    events = events_of(Steps(step, HI))
    assert results(events) == [("a", False), ("b", False)]
    first = {event.message_id for event in events[:5] if hasattr(event, "message_id")}
    assert len(first) == 1


def test_the_journal_gives_back_what_the_provider_was_told() -> None:
    first = [TextDelta("Now"), *calling(("echo", '{"word": "a"}'), ("burn", ""), ("no-such", "{"))]
    second = calling(("echo", '{"word": "b"}'))
    provider = Steps(first, second, HI)
    events = events_of(provider)
    told = [*provider.asked[2], Message("assistant", "Hi")]
    assert [*ASK, *from_events(event.to_dict() for event in events)] == told
    assert [*ASK, *from_events(event.to_dict() for event in compact(events))] == told


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("burn", "{}", "Error: the tool failed"),
        ("leave", "{}", "Error: the tool failed"),
        ("decline", "{}", "Error: not on a Sunday"),
        ("fly", "{}", "Error: there is no such tool, only echo, burn, leave, decline, hang, where"),
        ("echo", '{"word', "Error: The arguments are not valid JSON"),
        ("echo", '{"word": 1}', "Error: arguments.word must be of type string"),
        ("hang", "{}", "Error: the tool gave no result within 0.2 seconds"),
    ],
)
def test_what_goes_wrong_in_a_tool_is_told_to_the_model(
    name: str, arguments: str, reason: str
) -> None:
    provider = Steps(calling((name, arguments)), HI)
    events = events_of(provider, tool_seconds=0.2)
    ((result, is_error),) = results(events)
    assert result.startswith(reason) and is_error
    assert provider.asked[1][-1].content == result
    assert isinstance(events[-1], RunFinished)


def test_a_tool_sees_the_callers_context_variables() -> None:
    token = place.set("here")
    try:
        assert results(events_of(Steps(calling(("where", "")), HI))) == [("here", False)]
    finally:
        place.reset(token)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    events = events_of(Steps(calling(("where", "")), HI))
    assert [event.delta for event in events if isinstance(event, ToolCallArgs)] == ["{}"]


def test_a_name_may_come_late_and_an_id_never() -> None:
    late = [
        ToolCallDelta(0, arguments='{"word"'),
        ToolCallDelta(0, name="echo", arguments=': "a"}'),
        END,
    ]
    assert results(events_of(Steps(late, HI))) == [("a", False)]


def test_a_call_that_never_gets_a_name_is_unknown() -> None:
    events = events_of(Steps([ToolCallDelta(0, "c", None, "{}"), END], HI))
    assert [e.tool_name for e in events if isinstance(e, ToolCallStart)] == ["unknown"]
    assert results(events)[0][1]


def test_a_name_no_server_would_take_back_is_made_one() -> None:
    events = events_of(Steps(calling(("a b.东" + "x" * 99, "{}")), HI))
    name = next(e.tool_name for e in events if isinstance(e, ToolCallStart))
    assert name == "a_b__" + "x" * 59


@pytest.mark.parametrize("call_id", ["call_0", "", None, "x" * 99, "\ud800\0"])
def test_ids_are_unique_in_a_run_whatever_the_provider_gives(call_id: str | None) -> None:
    step = [ToolCallDelta(0, call_id, "where"), ToolCallDelta(1, call_id, "where"), END]
    events = events_of(Steps(step, step, HI))
    ids = {e.tool_call_id for e in events if isinstance(e, ToolCallEnd)}
    assert len(ids) == 4 and max(map(len, ids)) <= MAX_ID_CHARS


def test_an_id_of_an_earlier_run_is_not_used_again() -> None:
    old = Message("assistant", "", (ToolCall("c0", "where", "{}"),))
    done = Message("tool", "here", tool_call_id="c0", tool_name="where")
    provider = Steps(calling(("where", "{}")), HI)
    events = check_order(run([*ASK, old, done, *ASK], provider, TOOLS))
    assert all(e.tool_call_id != "c0" for e in events if isinstance(e, ToolCallStart))


def test_empty_deltas_are_not_passed_on() -> None:
    step = [
        TextDelta(""),
        TextDelta("Hi"),
        TextDelta("\0"),
        ToolCallDelta(0, "c", "where", ""),
        END,
    ]
    events = events_of(Steps(step, HI))
    assert [e.delta for e in events if isinstance(e, TextMessageContent)] == ["Hi", "Hi"]


def test_a_surrogate_pair_split_over_two_deltas_survives() -> None:
    step = [TextDelta("a\ud83d"), TextDelta("\ude00"), TextDelta("\ud83d"), TextDelta("z"), END]
    assert events_of(Steps(step))[-1].output == "a😀\ufffdz"


def error_of(events: list[Event]) -> tuple[ErrorCode, str | None]:
    assert isinstance(events[-1], RunError)
    return events[-1].code, events[-1].output


def test_an_answer_cut_in_the_middle_keeps_its_text(server: CompletionsServer) -> None:
    server.script(stream(text("Hel"), Pause(0.05), CLOSE))
    events = events_of(server)
    assert error_of(events) == (ErrorCode.PROVIDER_INTERRUPTED, "Hel")
    assert from_events(event.to_dict() for event in events) == [Message("assistant", "Hel")]


def test_a_call_cut_in_the_middle_is_ended(server: CompletionsServer) -> None:
    server.script(stream(text("Hm"), call(0, "a", "echo", '{"wo'), Pause(0.05), CLOSE))
    events = events_of(server)
    assert [event.type for event in events[-3:]] == [
        "TEXT_MESSAGE_END",
        "TOOL_CALL_END",
        "RUN_ERROR",
    ]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (plain({}, 500), "provider_unavailable"),
        (plain({}, 429), "provider_busy"),
        (plain({}, 401), "provider_misconfigured"),
        (plain({}, 400), "provider_rejected"),
        (stream("data: {\n\n"), "provider_protocol"),
        (stream(HANG), "provider_timeout"),
        (stream(text(""), finish(), DONE), "no_answer"),
    ],
)
def test_a_provider_that_fails_ends_the_run(
    server: CompletionsServer, reply: Reply, code: str
) -> None:
    server.script(reply)
    assert error_of(events_of(server, silence_seconds=0.2)) == (code, None)


def test_a_later_failure_keeps_the_text_so_far(server: CompletionsServer) -> None:
    first = stream(text("One moment"), call(0, "a", "where", "{}"), finish("tool_calls"), DONE)
    server.script(first, plain({}, 400))
    events = events_of(server)
    assert error_of(events) == (ErrorCode.PROVIDER_REJECTED, "One moment")


def test_an_unexpected_exception_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    events = events_of(Steps([TextDelta("Hi"), KeyError("oops")]))
    assert error_of(events) == (ErrorCode.INTERNAL, "Hi")
    assert "oops" in caplog.text and "oops" not in str(events[-1].to_dict())


def test_a_model_that_never_stops_calling_tools_is_stopped() -> None:
    provider = Steps(*[calling(("where", "{}"))] * 9)
    events = events_of(provider, max_steps=3)
    assert error_of(events) == (ErrorCode.TOO_MANY_STEPS, None)
    assert (len(provider.asked), len(results(events))) == (3, 2)


def test_an_answer_that_is_too_long_is_cut() -> None:
    events = events_of(Steps([TextDelta("x" * 60), TextDelta("y" * 60), END]), max_output_chars=100)
    assert error_of(events) == (ErrorCode.ANSWER_TOO_LONG, "x" * 60 + "y" * 40)


def test_arguments_count_as_output() -> None:
    step = [TextDelta("x" * 60), *calling(("echo", "y" * 60))]
    assert error_of(events_of(Steps(step), max_output_chars=100))[0] == ErrorCode.ANSWER_TOO_LONG


def test_a_step_with_too_many_calls_is_ended() -> None:
    step = calling(*[("where", "{}")] * (MAX_CALLS_OF_A_STEP + 1))
    assert error_of(events_of(Steps(step)))[0] == ErrorCode.ANSWER_TOO_LONG


def test_a_run_ends_when_its_time_is_over(server: CompletionsServer) -> None:
    server.script(stream(*[part for _ in range(99) for part in (text("x"), Pause(0.05))]))
    began = time.monotonic()
    assert error_of(events_of(server, max_seconds=0.3))[0] == ErrorCode.OUT_OF_TIME
    assert time.monotonic() - began < 4


def test_a_hanging_tool_ends_with_the_runs_time() -> None:
    began = time.monotonic()
    events = events_of(Steps(calling(("hang", "{}"), ("echo", "{}")), HI), max_seconds=0.3)
    assert error_of(events)[0] == ErrorCode.OUT_OF_TIME
    assert time.monotonic() - began < 4


def test_a_provider_that_babbles_without_events_ends_with_the_runs_time() -> None:
    def babble() -> Iterator[Chunk]:
        while True:
            yield TextDelta("")

    provider = Steps(babble())
    assert error_of(events_of(provider, max_seconds=0.2))[0] == ErrorCode.OUT_OF_TIME


def test_closing_a_run_closes_the_connection_at_once(server: CompletionsServer) -> None:
    server.script(stream(text("Hi"), HANG))
    events = run(ASK, OpenAIProvider(server.url, None, "m"), [])
    while not isinstance(next(events), TextMessageContent):
        pass
    closed_at = time.monotonic()
    events.close()
    assert server.left.wait(10) and server.left_at - closed_at < 4
    assert list(events) == []


def stopped_after(seconds: float, code: ErrorCode = ErrorCode.STOPPED) -> Stop:
    """A Stop that is said in so many seconds."""
    stop = Stop()
    threading.Timer(seconds, stop.set, [code]).start()
    return stop


def test_a_stopped_run_keeps_its_text_and_closes_the_connection(server: CompletionsServer) -> None:
    server.script(stream(text("Hel"), HANG))
    provider = OpenAIProvider(server.url, None, "m")
    began = time.monotonic()
    events = check_order(run(ASK, provider, TOOLS, stop=stopped_after(0.2)))
    assert error_of(events) == (ErrorCode.STOPPED, "Hel")
    assert time.monotonic() - began < 4
    assert server.left.wait(10)


def test_a_run_is_stopped_while_a_tool_works() -> None:
    began = time.monotonic()
    provider = Steps(calling(("hang", "{}")), HI)
    events = check_order(run(ASK, provider, TOOLS, stop=stopped_after(0.2)))
    assert error_of(events)[0] == ErrorCode.STOPPED
    assert time.monotonic() - began < 4


def test_the_first_reason_to_stop_is_the_one_that_counts() -> None:
    stop = Stop()
    stop.set(ErrorCode.INTERRUPTED)
    stop.set(ErrorCode.STOPPED)
    events = check_order(run(ASK, Steps(HI), TOOLS, stop=stop))
    assert error_of(events) == (ErrorCode.INTERRUPTED, None)


def test_a_run_lets_go_of_a_provider_that_failed_it() -> None:
    provider = Steps([TextDelta("x" * 9), END])
    events_of(provider, max_output_chars=5)
    assert provider.closed


def test_a_run_that_outgrows_the_history_sends_its_newest_steps() -> None:
    calls = [
        [ToolCallDelta(0, f"c{n}", "echo", '{"word": "%s"}' % (f"{n}" * 100)), END]
        for n in range(4)
    ]
    provider = Steps(*calls, HI)

    assert events_of(provider, max_history_chars=500)[-1].output == "Hi"

    sent = [[m.content[:1] for m in messages if m.role == "tool"] for messages in provider.asked]
    assert sent == [[], ["0"], ["0", "1"], ["1", "2"], ["2", "3"]]
    assert all(messages[0] == ASK[0] for messages in provider.asked)
