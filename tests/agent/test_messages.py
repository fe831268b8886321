"""The history: cut where it is too long, and folded back out of a run's events."""

from runtime.agent.events import (
    ErrorCode,
    Event,
    RunError,
    RunFinished,
    RunStarted,
    TextMessageContent,
    TextMessageStart,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallResult,
    ToolCallStart,
)
from runtime.agent.messages import (
    INTERRUPTED_RESULT,
    Message,
    ToolCall,
    Usage,
    cut_history,
    from_events,
    unanswered,
)

SYSTEM = Message("system", "s" * 10)
FIRST = [Message("user", "a" * 10), Message("assistant", "b" * 10)]
CALLED = (ToolCall("c", "name", "x" * 6),)
SECOND = [
    Message("user", "c" * 10),
    Message("assistant", "", CALLED),
    Message("tool", "d" * 10, tool_call_id="c", tool_name="name"),
    Message("assistant", "e" * 10),
]
THIRD = [Message("user", "f" * 10)]


def test_a_history_that_fits_stays_whole() -> None:
    assert cut_history([*FIRST, *SECOND, *THIRD], 70) == [*FIRST, *SECOND, *THIRD]


def test_the_oldest_whole_turns_go_first() -> None:
    assert cut_history([*FIRST, *SECOND, *THIRD], 69) == [*SECOND, *THIRD]


def test_a_result_never_stands_without_its_call() -> None:
    for max_chars in range(80):
        kept = cut_history([*FIRST, *SECOND, *THIRD], max_chars)
        assert kept[0].role == "user"


def test_the_last_turn_is_always_kept() -> None:
    assert cut_history([*FIRST, *SECOND], 1) == SECOND
    assert cut_history([], 1) == []


def test_an_old_turn_never_comes_back_behind_a_gap() -> None:
    assert cut_history([*THIRD, *SECOND, *FIRST], 40) == FIRST


def test_the_system_message_stays_and_counts() -> None:
    assert cut_history([SYSTEM, *FIRST, *THIRD], 40) == [SYSTEM, *FIRST, *THIRD]
    assert cut_history([SYSTEM, *FIRST, *THIRD], 39) == [SYSTEM, *THIRD]


def test_usage_adds_up_and_unknown_is_not_zero() -> None:
    assert Usage(1, 2) + Usage(3, 4) == Usage(4, 6)
    assert Usage() + Usage(3, None) == Usage(3, None)


def test_a_step_becomes_one_message_and_its_results() -> None:
    events = [
        RunStarted("r"),
        TextMessageStart("r", "m"),
        TextMessageContent("r", "m", "Let me "),
        TextMessageContent("r", "m", "see."),
        ToolCallStart("r", "c1", "one", "m"),
        ToolCallArgs("r", "c1", "{"),
        ToolCallStart("r", "c2", "two", "m"),
        ToolCallArgs("r", "c2", "{}"),
        ToolCallArgs("r", "c1", "}"),
        ToolCallEnd("r", "c1"),
        ToolCallEnd("r", "c2"),
        ToolCallResult("r", "c1", "one", "1"),
        ToolCallResult("r", "c2", "two", "2"),
        TextMessageContent("r", "n", "Done."),
    ]
    assert from_events(event.to_dict() for event in events) == [
        Message(
            "assistant", "Let me see.", (ToolCall("c1", "one", "{}"), ToolCall("c2", "two", "{}"))
        ),
        Message("tool", "1", tool_call_id="c1", tool_name="one"),
        Message("tool", "2", tool_call_id="c2", tool_name="two"),
        Message("assistant", "Done."),
    ]


def test_a_call_without_a_result_was_interrupted() -> None:
    events = [ToolCallStart("r", "c1", "one", "m"), ToolCallArgs("r", "c1", '{"x')]
    assert from_events(event.to_dict() for event in events) == [
        Message("assistant", "", (ToolCall("c1", "one", '{"x'),)),
        Message("tool", INTERRUPTED_RESULT, tool_call_id="c1", tool_name="one"),
    ]


def test_partial_text_is_kept_and_no_message_is_empty() -> None:
    events = [TextMessageStart("r", "m"), TextMessageContent("r", "m", "Hel")]
    assert from_events(event.to_dict() for event in events) == [Message("assistant", "Hel")]
    assert from_events([RunStarted("r").to_dict(), events[0].to_dict()]) == []


def test_a_result_given_after_the_run_is_its_calls_result() -> None:
    events = [ToolCallStart("r", "c1", "one", "m"), ToolCallArgs("r", "c1", "{}")]
    given = {"c1": "1", "of another run": "2"}
    assert from_events((event.to_dict() for event in events), given)[1:] == [
        Message("tool", "1", tool_call_id="c1", tool_name="one"),
    ]


def test_only_a_run_that_finished_has_left_calls_to_others() -> None:
    called = [ToolCallStart("r", "c1", "one", "m"), ToolCallEnd("r", "c1")]
    finished, failed = RunFinished("r", ""), RunError("r", ErrorCode.STOPPED)
    answered = ToolCallResult("r", "c1", "one", "1")

    def left(*events: Event) -> list[str]:
        return unanswered([event.to_dict() for event in events])

    assert left(*called, finished) == ["c1"]
    assert left(*called, failed) == left(*called) == left(*called, answered, finished) == []
