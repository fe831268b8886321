"""The events' wire form, and deltas joined."""

from runtime.agent.events import (
    ErrorCode,
    RunError,
    RunFinished,
    RunStarted,
    TextMessageContent,
    ToolCallArgs,
    ToolCallResult,
    ToolCallStart,
    compact,
)
from runtime.agent.messages import Usage


def test_an_event_goes_out_with_its_fields_in_snake_case() -> None:
    assert ToolCallStart("r", "c", "calculate", "m").to_dict() == {
        "type": "TOOL_CALL_START",
        "run_id": "r",
        "tool_call_id": "c",
        "tool_name": "calculate",
        "message_id": "m",
    }


def test_what_an_event_has_not_is_left_out() -> None:
    assert RunStarted("r").to_dict() == {"type": "RUN_STARTED", "run_id": "r"}
    assert "output" not in RunError("r", ErrorCode.INTERNAL).to_dict()


def test_usage_code_and_is_error_stay_with_us() -> None:
    result = ToolCallResult("r", "c", "calculate", "Error: no", is_error=True)
    assert set(result.to_dict()) == {"type", "run_id", "tool_call_id", "tool_name", "result"}
    assert set(RunFinished("r", "Hi", Usage(1, 2)).to_dict()) == {"type", "run_id", "output"}
    error = RunError("r", ErrorCode.OUT_OF_TIME, "Hi", Usage(1, 2))
    assert error.to_dict() == {
        "type": "RUN_ERROR",
        "run_id": "r",
        "output": "Hi",
        "error": "The run took too long.",
    }


def test_every_code_has_a_sentence() -> None:
    assert all(code.sentence for code in ErrorCode)


def test_consecutive_deltas_of_one_owner_are_joined() -> None:
    events = [
        RunStarted("r"),
        RunStarted("r"),
        TextMessageContent("r", "m", "Hel"),
        TextMessageContent("r", "m", "lo"),
        TextMessageContent("r", "n", "!"),
        ToolCallArgs("r", "c", "{"),
        ToolCallArgs("r", "c", "}"),
        ToolCallArgs("r", "d", "{"),
        ToolCallArgs("r", "c", " "),
    ]
    assert compact(events) == [
        RunStarted("r"),
        RunStarted("r"),
        TextMessageContent("r", "m", "Hello"),
        TextMessageContent("r", "n", "!"),
        ToolCallArgs("r", "c", "{}"),
        ToolCallArgs("r", "d", "{"),
        ToolCallArgs("r", "c", " "),
    ]
