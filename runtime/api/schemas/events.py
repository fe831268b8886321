"""The events of a run, and a run that is answered whole."""

import marshmallow as ma

from runtime.agent import events
from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.fields import ID, MESSAGE_ID, Id, String, Word

_EVENT_TYPES = [event.type for event in events.Event.__subclasses__()]
_RUN_ID = "9b2f6f5e-2f0b-4d0c-8f57-6a4f1f6f1f0a"


def _event(kind: type[events.Event], **fields: str) -> dict:
    return kind(_RUN_ID, **fields).to_dict()


class EventSchema(AnswerSchema):
    """One event of AG-UI; fields that an event has not are left out."""

    example = _event(events.TextMessageContent, message_id=MESSAGE_ID, delta="现在是 10:15。")

    type = Word(*_EVENT_TYPES, required=True)
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
