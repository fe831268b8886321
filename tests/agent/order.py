"""The rules of order every run keeps, in one place."""

from collections.abc import Iterable, Sequence

from runtime.agent.events import (
    ErrorCode,
    Event,
    ReasoningEnd,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    ReasoningMessageStart,
    ReasoningStart,
    RunError,
    RunFinished,
    RunStarted,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallResult,
    ToolCallStart,
)


def check_order(events: Iterable[Event]) -> list[Event]:
    """Assert that a whole run's events are in order and well formed; give them back."""
    events = list(events)
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished | RunError)
    assert {event.run_id for event in events} == {events[0].run_id}
    _check_nesting(events[1:-1])
    _check_wire(events)
    if isinstance(events[-1], RunFinished):
        assert events[-1].output == last_text(events)
    else:
        assert (events[-1].output or "") == last_text(events)
    return events


def from_wire(wire: Iterable[dict]) -> list[Event]:
    """The events of an answer or a journal; an error's sentence stands in for its code."""
    kinds = {kind.type: kind for kind in Event.__subclasses__()}
    events = []
    for fields in wire:
        fields = dict(fields)
        kind = kinds[fields.pop("type")]
        if kind is RunError:
            assert fields.pop("error")
            fields["code"] = ErrorCode.INTERNAL
        events.append(kind(**fields))
    return events


def last_text(events: Sequence[Event]) -> str:
    """The deltas of the last message joined."""
    started = [event.message_id for event in events if isinstance(event, TextMessageStart)]
    if not started:
        return ""
    deltas = [event for event in events if isinstance(event, TextMessageContent)]
    return "".join(event.delta for event in deltas if event.message_id == started[-1])


def _check_nesting(events: Sequence[Event]) -> None:
    open_ids: set[str] = set()
    seen_ids: set[str] = set()
    thinking: str | None = None
    ended_calls: dict[str, str] = {}
    names: dict[str, str] = {}
    for event in events:
        match event:
            case ReasoningStart(message_id=new_id):
                assert thinking is None and new_id not in seen_ids, event
                thinking = new_id
            case ReasoningEnd(message_id=its_id):
                assert thinking == its_id and its_id not in open_ids, event
                thinking = None
            case ReasoningMessageStart(message_id=new_id):
                assert thinking == new_id and new_id not in seen_ids, event
                seen_ids.add(new_id)
                open_ids.add(new_id)
            case ReasoningMessageContent(message_id=its_id):
                assert its_id in open_ids and event.delta, event
            case ReasoningMessageEnd(message_id=its_id):
                open_ids.remove(its_id)
            case TextMessageStart(message_id=new_id) | ToolCallStart(tool_call_id=new_id):
                assert new_id and new_id not in seen_ids, event
                seen_ids.add(new_id)
                open_ids.add(new_id)
                if isinstance(event, ToolCallStart):
                    assert event.tool_name, event
                    names[new_id] = event.tool_name
            case TextMessageContent(message_id=its_id) | ToolCallArgs(tool_call_id=its_id):
                assert its_id in open_ids and event.delta, event
            case TextMessageEnd(message_id=its_id) | ToolCallEnd(tool_call_id=its_id):
                open_ids.remove(its_id)
                if isinstance(event, ToolCallEnd):
                    ended_calls[its_id] = names[its_id]
            case ToolCallResult():
                assert ended_calls.pop(event.tool_call_id) == event.tool_name, event
            case _:
                raise AssertionError(f"{event} in the middle of a run")
    assert not open_ids and thinking is None


def _check_wire(events: Sequence[Event]) -> None:
    for event in events:
        wire = event.to_dict()
        assert None not in wire.values(), wire
        assert wire["type"] == event.type and wire["run_id"] == event.run_id
        for name, value in wire.items():
            assert isinstance(value, str), wire
            # A run that left all it had to say to a tool of somebody else's has no output.
            assert "\0" not in value and (value.encode() or name in ("output", "result")), wire
