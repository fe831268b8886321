"""/agent-chats/ag-ui: `RunAgentInput` of AG-UI 1.0, of which other members are left alone."""

import marshmallow as ma

from runtime.api.schemas.base import OpenSchema
from runtime.api.schemas.fields import ID, Objects, PlainText, String
from runtime.api.schemas.held_messages import HeldMessages, is_named

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


def _is_message(value: object) -> bool:
    return is_named(value) and isinstance(value.get("toolCallId"), str | None)


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
    messages = HeldMessages(AgUiMessageSchema, _is_message, required=True)
    context = ma.fields.Raw(allow_none=True, load_default=None)
    state = ma.fields.Raw(allow_none=True, load_default=None)
    forwarded_props = ma.fields.Raw(data_key="forwardedProps", allow_none=True, load_default=None)
    tools = Objects(AgUiToolSchema, high=MAX_TOOLS, allow_none=True, load_default=None)
