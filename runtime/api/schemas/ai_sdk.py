"""/agent-chats/ai-sdk: what `useChat` posts, and messages as it holds them."""

import marshmallow as ma

from runtime.api.schemas.base import AnswerSchema, OpenSchema
from runtime.api.schemas.fields import ID, Choice, Cursor, Objects, Rows, String, Word
from runtime.api.schemas.held_messages import HeldMessages, is_named

TRIGGERS = ("submit-message", "regenerate-message")
_TEXT = {"type": "text", "text": "现在几点？"}


class _Parts(ma.fields.List):
    """A message's parts. What they are is asked of the new ones alone: there may be many."""

    default_error_messages = {"required": "required", "null": "not_null", "invalid": "not_a_list"}

    def __init__(self, **kwargs):
        super().__init__(ma.fields.Dict(), **kwargs)

    def _deserialize(self, value, *args, **kwargs):
        if not isinstance(value, list):
            raise self.make_error("invalid")
        return value


class UiMessageSchema(OpenSchema):
    """One message as a client of the AI SDK holds it, with all that it has."""

    published_as = "UiInputMessage"

    example = {"id": "gKx2bqzv1sVn8Jd4", "role": "user", "parts": [_TEXT]}

    id = String(required=True, low=1, high=255)
    role = String(required=True)
    parts = _Parts(required=True)

    class Meta:
        unknown = ma.INCLUDE


def _is_message(value: object) -> bool:
    return is_named(value) and isinstance(value.get("parts"), list)


class SubmitMessageSchema(OpenSchema):
    example = {
        "id": "wJ5cR0mAq3TzYb7u",
        "messages": [UiMessageSchema.example],
        "trigger": "submit-message",
    }

    id = String(required=True, low=1, high=255)
    messages = HeldMessages(UiMessageSchema, _is_message, required=True)
    trigger = Choice(*TRIGGERS, load_default="submit-message")
    message_id = String(data_key="messageId", high=255, allow_none=True, load_default=None)


class UiMetadataSchema(AnswerSchema):
    """What is known of the run that wrote a message; a user's message has none."""

    session_id = String(example=ID)
    run_id = String(example="9b2f6f5e-2f0b-4d0c-8f57-6a4f1f6f1f0a")
    status = Word("running", "finished", "failed", "stopped")
    error = String(example="模型暂时无法连接，请稍后再试")
    input_tokens = ma.fields.Integer(metadata={"examples": [128]})
    output_tokens = ma.fields.Integer(metadata={"examples": [42]})


class UiPartSchema(AnswerSchema):
    """A part of a message. A tool's call has the type `tool-` with the tool's name."""

    example = {"type": "text", "text": "现在是 10:15。", "state": "done"}

    type = String(required=True)
    text = String()
    state = Word(
        *("streaming", "done"),
        *("input-streaming", "input-available", "output-available", "output-error"),
    )
    toolCallId = String()
    providerExecuted = ma.fields.Boolean(metadata={"examples": [True]})
    input = ma.fields.Raw(metadata={"examples": [{"zone": "Asia/Tokyo"}]})
    output = ma.fields.Raw(metadata={"examples": ['{"time": "19:15"}']})
    errorText = String()


class ShownUiMessageSchema(AnswerSchema):
    published_as = "UiMessage"

    id = String(required=True, example="gKx2bqzv1sVn8Jd4")
    role = Word("user", "assistant", required=True)
    metadata = ma.fields.Nested(UiMetadataSchema)
    parts = Objects(UiPartSchema, required=True)


class _Written(Rows):
    """Messages that are on the wire's own shape already."""

    def _serialize(self, value: list[dict], attr, obj, **kwargs):
        return value


class UiMessagesSchema(AnswerSchema):
    published_as = "UiMessagePage"

    messages = _Written(ShownUiMessageSchema)
    next_cursor = Cursor(required=True, allow_none=True)
