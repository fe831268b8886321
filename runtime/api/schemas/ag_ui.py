"""/agent-chats/ag-ui: `RunAgentInput` of AG-UI 1.0, of which other members are left alone."""

import marshmallow as ma

from runtime.api.schemas.base import MAX_FAULTS, OpenSchema
from runtime.api.schemas.fields import ID, Objects, PlainText, String

# As many as OpenAI takes.
MAX_TOOLS = 128


class AgUiMessageSchema(OpenSchema):
    """One message as an AG-UI client holds it, with all that it has, under AG-UI's names."""

    example = {"id": "b1f6c1e4", "role": "user", "content": "现在几点？"}

    id = String(required=True, low=1, high=255)
    role = String(required=True)
    content = ma.fields.Raw(allow_none=True)
    toolCallId = String(allow_none=True)

    class Meta:
        unknown = ma.INCLUDE


class AgUiMessages(Objects):
    """All that a client holds, every time; marshmallow would need 50 microseconds for each."""

    def __init__(self, **kwargs):
        super().__init__(AgUiMessageSchema, **kwargs)

    def _deserialize(self, value, *args, **kwargs):
        if not isinstance(value, list):
            return super()._deserialize(value, *args, **kwargs)
        faults = {}
        for number, each in enumerate(value):
            if _is_message(each):
                continue
            try:
                self.inner.deserialize(each, **kwargs)
            except ma.ValidationError as error:
                faults[number] = error.messages
            if len(faults) == MAX_FAULTS:
                break
        if faults:
            raise ma.ValidationError(faults)
        return value


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and 0 < len(value["id"]) <= 255
        and isinstance(value.get("role"), str)
        and isinstance(value.get("toolCallId"), str | None)
    )


class AgUiToolSchema(OpenSchema):
    example = {
        "name": "confirm",
        "description": "Ask the user to confirm something.",
        "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
    }

    name = String(
        required=True,
        low=1,
        high=64,
        pattern=r"[A-Za-z0-9_-]+",
        mismatch="not_a_tool_name",
    )
    description = PlainText(allow_none=True, load_default=None)
    parameters = ma.fields.Dict(
        allow_none=True, load_default=None, error_messages={"invalid": "not_an_object"}
    )


class RunAgentInputSchema(OpenSchema):
    example = {
        "threadId": ID,
        "runId": "9b2f6f5e-2f0b-4d0c-8f57-6a4f1f6f1f0a",
        "protocolVersion": "1.0",
        "messages": [AgUiMessageSchema.example],
        "tools": [AgUiToolSchema.example],
    }

    thread_id = String(data_key="threadId", required=True, low=1, high=255)
    run_id = String(data_key="runId", required=True, low=1, high=255)
    protocol_version = String(data_key="protocolVersion", allow_none=True, load_default=None)
    messages = AgUiMessages(required=True)
    tools = Objects(AgUiToolSchema, high=MAX_TOOLS, allow_none=True, load_default=None)
