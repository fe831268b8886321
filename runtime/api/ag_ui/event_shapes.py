"""The events of AG-UI that are sent, for the OpenAPI document."""

from runtime.api.ag_ui.translation import CONSTANTS, COUNTS, FIELDS
from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.fields import MESSAGE_ID
from runtime.api.schemas.unions import COUNT, TEXT, Union

_IDS = {"threadId": TEXT, "runId": TEXT}
_USAGE = {
    "type": "array",
    "items": {"type": "object", "properties": dict.fromkeys(COUNTS.values(), COUNT)},
}
_OBJECT: dict = {"type": "object", "additionalProperties": True}


def _renamed(kind: str) -> dict[str, dict]:
    constants = {name: {**TEXT, "const": value} for name, value in CONSTANTS.get(kind, {}).items()}
    return {name: TEXT for name in FIELDS[kind].values()} | constants


class AgUiEventSchema(AnswerSchema):
    """One event, as `translation` makes it. Nothing is read or written with this."""

    union = Union(
        "AgUi{}Event",
        {
            "RUN_STARTED": {
                **_IDS,
                "protocolVersion": TEXT,
                "metadata": {
                    "type": "object",
                    "properties": {"session_id": TEXT, "run_id": TEXT},
                    "required": ["session_id"],
                },
            },
            "MESSAGES_SNAPSHOT": {"messages": {"type": "array", "items": _OBJECT}},
            **{kind: _renamed(kind) for kind in FIELDS},
            "TOOL_CALL_RESULT": {
                "messageId": TEXT,
                "role": {**TEXT, "const": "tool"},
                "toolCallId": TEXT,
                "content": TEXT,
            },
            "RUN_FINISHED": {
                **_IDS,
                "result?": TEXT,
                "outcome?": {
                    "type": "object",
                    "properties": {
                        "type": {**TEXT, "enum": ["success", "cancelled"]},
                        "pendingToolCallIds": {"type": "array", "items": TEXT},
                    },
                    "required": ["type"],
                },
                "usage?": _USAGE,
            },
            "RUN_ERROR": {"message": TEXT, "code": TEXT, "usage?": _USAGE},
        },
    )
    example = {
        "type": "TEXT_MESSAGE_CONTENT",
        "messageId": MESSAGE_ID,
        "delta": "现在是 10:15。",
    }
