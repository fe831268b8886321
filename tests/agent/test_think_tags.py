"""Thoughts: told from the answer, in tags and in chunks of their own, and never a part of it."""

from typing import Any

import pytest

from runtime.agent.events import ErrorCode, Event, RunError, RunFinished
from runtime.agent.loop import Bounds, run
from runtime.agent.messages import Message
from runtime.agent.providers.provider import ReasoningDelta, StepFinished, TextDelta, ToolCallDelta
from runtime.agent.think_tags import ThinkTags
from runtime.agent.tools.tool import tool
from runtime.agent.transcript import from_events, steps_of
from tests.agent.order import check_order
from tests.agent.test_loop import Steps

ASK = [Message("user", "Please")]


@tool
def echo(word: str) -> str:
    """Say it again."""
    return word


CALL = ToolCallDelta(0, "c1", "echo", '{"word": "a"}')


def events_of(*steps: list, **bounds: Any) -> list[Event]:
    return check_order(run(ASK, Steps(*steps), [echo], Bounds(**bounds)))


def shown(events: list[Event]) -> list[tuple[str, str]]:
    """What was thought and what was said, in order."""
    kinds = {"REASONING_MESSAGE_CONTENT": "thought", "TEXT_MESSAGE_CONTENT": "said"}
    return [(kinds[e.type], e.delta) for e in events if e.type in kinds]


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>hm</think>yes", "hm", "yes"),
        ("\n <think>\nhm\n</think>\n\nyes", "\nhm\n", "yes"),
        ("<think></think>yes", "", "yes"),
        ("<think>a < b </thin</think>yes", "a < b </thin", "yes"),
        ("<think>hm", "hm", ""),
        ("<think>hm</think>", "hm", ""),
        ("yes <think>hm</think>", "", "yes <think>hm</think>"),
        ("<thinking>hm</think></thinking>yes", "hm</think>", "yes"),
        ("<thought>hm</thought>yes", "hm", "yes"),
        (" <reasoning>hm</reasoning> yes", "hm", "yes"),
        ("<thinker>hm", "", "<thinker>hm"),
        ("<th", "", "<th"),
        ("  yes ", "", "  yes "),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("", "", ""),
    ],
)
def test_tags_at_the_beginning_are_thoughts_however_they_are_cut(
    text: str, thought: str, said: str
) -> None:
    for size in range(1, len(text) + 1):
        tags = ThinkTags()
        pieces = [p for n in range(0, len(text), size) for p in tags.split(text[n : n + size])]
        pieces += tags.finish()
        assert "".join(piece.text for piece in pieces if piece.is_thought) == thought
        assert "".join(piece.text for piece in pieces if not piece.is_thought) == said
        assert all(piece.text for piece in pieces)


def test_thoughts_come_as_they_come_and_are_not_the_answer() -> None:
    step = [ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("yes"), StepFinished("stop")]
    events = events_of(step)
    assert shown(events) == [("thought", "h"), ("thought", "m"), ("said", "yes")]
    assert events[-1].output == "yes"
    wire = [event.to_dict() for event in events]
    assert from_events(wire) == [Message("assistant", "yes")]
    assert [each.reasoning for each in steps_of(wire)] == ["hm"]


def test_tags_are_told_from_the_answer_in_a_run() -> None:
    pieces = [TextDelta(each) for each in ("<th", "ink>h", "m</thi", "nk>\n\nye", "s")]
    events = events_of([*pieces, StepFinished("stop")])
    assert "".join(text for kind, text in shown(events) if kind == "thought") == "hm"
    assert events[-1].output == "yes"


def test_a_text_that_only_looks_like_a_tag_is_said() -> None:
    events = events_of([TextDelta("<th"), StepFinished("stop")])
    assert events[-1].output == "<th"


def test_what_is_thought_behind_a_text_waits_for_the_step_to_end() -> None:
    first = [TextDelta("Now"), ReasoningDelta("hm"), CALL, StepFinished("tool_calls")]
    last = [TextDelta("yes"), ReasoningDelta("or no"), StepFinished("stop")]
    events = events_of(first, last)
    order = ["said", "thought", "said", "thought"]
    assert [kind for kind, _text in shown(events)] == order
    types = [event.type for event in events]
    assert types.index("TOOL_CALL_RESULT") < types.index("REASONING_START")
    assert types[-2:] == ["REASONING_END", "RUN_FINISHED"]
    wire = [event.to_dict() for event in events]
    assert [each.reasoning for each in steps_of(wire)] == [None, "hm\n\nor no"]


def test_thoughts_beyond_the_bound_are_not_kept_and_the_answer_is() -> None:
    thoughts = [ReasoningDelta("x" * 60)] * 5
    events = events_of([*thoughts, TextDelta("yes"), StepFinished("stop")], max_output_chars=100)
    assert sum(len(text) for kind, text in shown(events) if kind == "thought") == 100
    assert isinstance(events[-1], RunFinished)


@pytest.mark.parametrize("thought", [[], [ReasoningDelta("hm")], [TextDelta("<think>hm")]])
def test_a_bound_that_was_spent_on_thinking_says_so(thought: list) -> None:
    ending = events_of([*thought, StepFinished("length")])[-1]
    assert isinstance(ending, RunError)
    assert (ending.code, ending.output) == (ErrorCode.THOUGHT_TOO_LONG, None)


def test_a_bound_that_was_met_while_speaking_keeps_the_words() -> None:
    ending = events_of([ReasoningDelta("hm"), TextDelta("Half an"), StepFinished("length")])[-1]
    assert (ending.code, ending.output) == (ErrorCode.ANSWER_TOO_LONG, "Half an")


def test_a_run_that_only_thought_adds_nothing_to_what_a_model_reads() -> None:
    events = events_of([ReasoningDelta("hm"), StepFinished("stop")])
    assert events[-1].code == ErrorCode.NO_ANSWER
    wire = [event.to_dict() for event in events]
    assert from_events(wire) == []
    assert [each.reasoning for each in steps_of(wire)] == ["hm"]
