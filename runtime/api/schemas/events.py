"""The events of a run, and a run that is answered whole."""

from dataclasses import MISSING, fields

import marshmallow as ma

from runtime.agent import events
from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.fields import ID, MESSAGE_ID, Id, String, Word
from runtime.api.schemas.unions import TEXT, Union

_EVENTS = events.Event.__subclasses__()
_RUN_ID = "9b2f6f5e-2f0b-4d0c-8f57-6a4f1f6f1f0a"


def _event(kind: type[events.Event], **fields: str) -> dict:
    return kind(_RUN_ID, **fields).to_dict()


def _members(kind: type[events.Event]) -> dict[str, dict]:
    """What an event of this type has on the wire."""
    found = [each for each in fields(kind) if each.metadata.get("wire", True)]
    members = {f"{each.name}{'' if each.default is MISSING else '?'}": TEXT for each in found}
    return members | ({"error": TEXT} if kind is events.RunError else {})


class EventSchema(AnswerSchema):
    """One event of AG-UI; fields that an event has not are left out."""

    published_as = "RunEvent"
    union = Union("{}Event", {kind.type: _members(kind) for kind in _EVENTS})

    example = _event(events.TextMessageContent, message_id=MESSAGE_ID, delta="现在是 10:15。")

    type = Word(*(event.type for event in _EVENTS), required=True)
    run_id = String(required=True)
    message_id = String()
    delta = String(low=1)
    tool_call_id = String()
    tool_name = String()
    result = String()
    output = String()
    error = String()


class Events(ma.fields.List):
    """Events as the journal has them: on the wire's own shape already."""

    def __init__(self, **kwargs):
        super().__init__(ma.fields.Nested(EventSchema), **kwargs)

    def _serialize(self, value: list[dict], attr, obj, **kwargs):
        return value


class RunSchema(AnswerSchema):
    published_as = "RunResult"

    example = {
        "session_id": ID,
        "output": "现在是 10:15。",
        "events": [
            _event(events.RunStarted),
            _event(events.TextMessageStart, message_id=MESSAGE_ID),
            EventSchema.example,
            _event(events.TextMessageEnd, message_id=MESSAGE_ID),
            _event(events.RunFinished, output="现在是 10:15。"),
        ],
    }

    session_id = Id(required=True)
    output = String(required=True)
    events = Events(required=True)
