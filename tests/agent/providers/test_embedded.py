"""The embedded model, in whole runs with the built-in tools."""

import json

import pytest

from runtime.agent.events import Event, RunFinished, TextMessageContent, ToolCallStart
from runtime.agent.loop import run
from runtime.agent.messages import Message, Usage
from runtime.agent.providers.embedded import EmbeddedProvider
from runtime.agent.providers.provider import Chunk, StepFinished, TextDelta
from runtime.agent.stop import Stop
from runtime.agent.tools.tool import load_tools
from runtime.agent.transcript import from_events
from tests.agent.order import check_order
from tests.agent.tools.test_builtin import AdaAtNoon


def ask(question: str, *history: Message, tools: bool = True) -> list[Event]:
    messages = [*history, Message("user", question)]
    offered = load_tools() if tools else []
    return check_order(run(messages, EmbeddedProvider(), offered, context=AdaAtNoon()))


def called(events: list[Event]) -> list[str]:
    return [event.tool_name for event in events if isinstance(event, ToolCallStart)]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What time is it?", "In UTC it is 2026-01-02 12:00:00+00:00 (Friday)."),
        ("the time in Tokyo please", "In Asia/Tokyo it is 2026-01-02 21:00:00+09:00 (Friday)."),
        ("What time is it in Asia/Kolkata?", "17:30:00+05:30"),
        ("东京现在几点？", "Asia/Tokyo 现在是 2026-01-02 21:00:00+09:00"),
        ("what is 12*(3+4)?", "12*(3+4) = 84."),
        ("12 plus 30", "12 + 30 = 42."),
        ("What is 3 times 4?", "3 * 4 = 12."),
        ("12 加 30 等于几？", "12 + 30 = 42。"),
        ("12乘以(3+4)", "12 * (3+4) = 84。"),
        ("1/0", "calculate failed: Division by zero."),
        ("Who am I?", "Your profile: username ada, bio first 程序员."),
        ("我是谁？", "您的资料：username ada"),
    ],
)
def test_a_question_is_answered_with_a_tool(question: str, answer: str) -> None:
    events = ask(question)
    assert answer in events[-1].output
    assert len(called(events)) == 1


def test_several_questions_are_several_calls_of_one_step() -> None:
    events = ask("What time is it in Tokyo and Paris, what is 2+2, and what is my name?")
    assert called(events) == ["calculate", "current_time", "current_time", "my_profile"]
    assert len({e.message_id for e in events if isinstance(e, ToolCallStart)}) == 1
    assert "2+2 = 4." in events[-1].output and "Europe/Paris" in events[-1].output


@pytest.mark.parametrize(
    ("question", "label"),
    [("Hello", "[embedded model] "), ("1+1", "[embedded model] "), ("你好", "[内置模型] ")],
)
def test_every_reply_says_what_it_is(question: str, label: str) -> None:
    for message in from_events(event.to_dict() for event in ask(question)):
        assert message.role == "tool" or message.content.startswith(label)


def test_anything_else_is_answered_with_what_it_can_do() -> None:
    output = ask("Write me a poem")[-1].output
    assert "OPENAI_BASE_URL" in output and "yours included: 1." in output


def test_the_history_shows() -> None:
    history = [Message("user", "Hello"), Message("assistant", "Hi")]
    assert "yours included: 3." in ask("Hello again", *history)[-1].output
    assert "有 3 条消息" in ask("你好", *history)[-1].output


def test_a_date_is_no_sum_and_how_many_times_no_clock() -> None:
    assert called(ask("I was born on 2001-02-03")) == []
    assert called(ask("How many times a day?")) == []


def test_only_tools_that_are_offered_are_called() -> None:
    assert "no language model" in ask("What time is it?", tools=False)[-1].output


def test_the_text_comes_in_several_deltas() -> None:
    for question in ("Hello", "你好"):
        assert sum(isinstance(e, TextMessageContent) for e in ask(question)) > 5


def test_the_same_question_gets_the_same_answer() -> None:
    assert ask("1+1 and my name")[-1].output == ask("1+1 and my name")[-1].output


def test_usage_is_counted_in_words() -> None:
    finished = ask("Hello you there")[-1]
    assert isinstance(finished, RunFinished)
    assert finished.usage.input_tokens == 3
    assert finished.usage.output_tokens == len(finished.output.split())


def test_it_says_no_more_words_than_it_may() -> None:
    def ask_for(words: int | None) -> list[Chunk]:
        how = {"deadline": 0, "silence_seconds": 0, "stop": Stop(), "max_output_tokens": words}
        return list(EmbeddedProvider().stream([Message("user", "1+1?")], load_tools(), **how))

    whole = ask_for(None)
    said = "".join(chunk.text for chunk in whole if isinstance(chunk, TextDelta))
    words = len(said.split())

    assert ask_for(words) == whole
    cut = TextDelta(said.rpartition(" ")[0])
    assert ask_for(words - 1) == [cut, StepFinished("length", Usage(1, words - 1))]


@pytest.mark.parametrize("content", ["[1]", "null", '"x"', "{}", "gone", json.dumps({"zone": 1})])
def test_a_strange_result_is_told_as_it_is(content: str) -> None:
    question = Message("user", "time")
    result = Message("tool", content, tool_call_id="c", tool_name="current_time")
    chunks = list(
        EmbeddedProvider().stream(
            [question, result], [], deadline=0, silence_seconds=0, stop=Stop()
        )
    )
    said = "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))
    assert said == f"[embedded model] current_time failed: {content}"
