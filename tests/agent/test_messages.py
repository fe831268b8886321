"""The history: cut where it is too long, and folded back out of a run's events."""

from itertools import pairwise

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
from runtime.agent.messages import Message, ToolCall, Usage, cut_history
from runtime.agent.transcript import INTERRUPTED_RESULT, from_events, unanswered

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


def test_it_is_cut_in_the_middle_of_a_turn_too() -> None:
    said, *_, answered = SECOND
    assert cut_history([*FIRST, *SECOND, *THIRD], 50) == [*SECOND, *THIRD]
    assert cut_history([*FIRST, *SECOND, *THIRD], 49) == [said, answered, *THIRD]
    assert cut_history([*FIRST, *SECOND, *THIRD], 30) == [said, answered, *THIRD]
    assert cut_history([*FIRST, *SECOND, *THIRD], 29) == THIRD


def test_an_old_turn_never_comes_back_behind_a_gap() -> None:
    assert cut_history([*THIRD, *SECOND, *FIRST], 59) == [SECOND[0], SECOND[3], *FIRST]
    assert cut_history([*THIRD, *SECOND, *FIRST], 39) == FIRST


def test_of_the_last_turn_the_question_and_the_newest_step_always_stay() -> None:
    said, called, result, answered = SECOND
    assert cut_history(SECOND, 0) == [said, answered]
    assert cut_history(SECOND[:3], 0) == [said, called, result]
    assert cut_history([*FIRST, *THIRD], 0) == THIRD
    assert cut_history([], 0) == []


def step(number: int) -> list[Message]:
    """Two calls and what they gave, in 30 characters."""
    calls = (ToolCall(f"c{number}", "name", "{}"), ToolCall(f"d{number}", "n", "{}"))
    results = [Message("tool", "r" * 10, tool_call_id=call.id) for call in calls]
    return [Message("assistant", "x", calls), *results]


STEPS = [*step(0), *step(1), *step(2)]


def test_a_run_that_outgrows_it_forgets_its_oldest_steps() -> None:
    turn = [SYSTEM, *THIRD, *STEPS]
    assert cut_history(turn, 110) == turn
    assert cut_history(turn, 109) == [SYSTEM, *THIRD, *step(1), *step(2)]
    assert cut_history(turn, 79) == [SYSTEM, *THIRD, *step(2)]
    assert cut_history(turn, 0) == [SYSTEM, *THIRD, *step(2)]


def test_whatever_the_size_the_end_is_kept_and_no_result_without_its_call() -> None:
    talk = [SYSTEM, *FIRST, *SECOND, *THIRD, *STEPS]
    least = [SYSTEM, *THIRD, *STEPS[6:]]
    before = 0
    for max_chars in range(sum(message.chars for message in talk) + 1):
        kept = cut_history(talk, max_chars)

        assert len(kept) >= before
        before = len(kept)
        assert kept == least or sum(message.chars for message in kept) <= max_chars
        assert [message for message in kept if message in least] == least
        assert kept[1].role == "user"
        for message, following in pairwise(kept):
            if following.role == "tool":
                assert talk[talk.index(following) - 1] == message
    assert kept == talk


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
