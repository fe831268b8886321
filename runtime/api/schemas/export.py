"""/users/me/export: everything that is kept of one user, table by table."""

import marshmallow as ma

from runtime.api.schemas.account_fields import Email, Username
from runtime.api.schemas.agent_chats import RUN_STATUSES, ToolCallSchema
from runtime.api.schemas.auth import last_caller
from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.events import EventSchema
from runtime.api.schemas.fields import (
    MESSAGE_ID,
    Boolean,
    Count,
    Device,
    Id,
    Instant,
    Lazy,
    Network,
    Objects,
    String,
    Word,
)
from runtime.api.schemas.url_fields import WebURL
from runtime.api.schemas.users import SecurityEventSchema, UserSchema


class ExportedUserSchema(UserSchema):
    email = Email(required=True)
    is_admin = Boolean(required=True, example=False)
    created_at = Instant(required=True)
    email_confirmed_at = Instant(required=True, allow_none=True)
    signed_in_at = Instant(required=True, allow_none=True)
    language = String(
        required=True,
        allow_none=True,
        example="zh",
        description="邮件所用的语言，即上次登录或刷新时的语言；null 表示未知。",
    )


class ExportedCodedSchema(AnswerSchema):
    published_as = "ExportedRecovery"

    id = Id(required=True)
    created_at = Instant(required=True)
    email = Email(required=True)
    network = Network()
    redirect_to = WebURL(required=True, allow_none=True, example="https://app.example.org/verify")
    code_expires_at = Instant(required=True)


class ExportedSignUpSchema(ExportedCodedSchema):
    username = Username(required=True)
    device = Device()


class ExportedEmailChangeSchema(ExportedCodedSchema):
    # Before it was proven it may be another's; one who left has a keyed hash there, others not.
    email = Email(required=True, allow_none=True, attribute="proven_email")
    old_email = Email(required=True)
    changed_at = Instant(required=True, allow_none=True)


class ExportedSessionSchema(AnswerSchema):
    id = Id(required=True)
    created_at = Instant(required=True)
    last_used_at = Instant(required=True, attribute="refreshed_at")
    ended_at = Instant(required=True, allow_none=True)
    device = Device()
    network = Network()
    last_device, last_network = last_caller()


class InputMessageSchema(AnswerSchema):
    published_as = "ExportedInput"

    id = String(required=True, example=MESSAGE_ID)
    text = String(required=True, example="现在几点？")
    tool_call_id = String(required=True, allow_none=True, example="call_1")


class ShownMessageSchema(AnswerSchema):
    published_as = "ExportedMessage"

    id = String(required=True, example=MESSAGE_ID)
    role = Word("user", "assistant", required=True)
    content = String(required=True, example="现在是 19:15。")
    tool_calls = Objects(ToolCallSchema, required=True)


class ExportedEventSchema(EventSchema):
    example = {"id": 3, **EventSchema.example}

    id = Count(1, low=1)


class ExportedRunSchema(AnswerSchema):
    id = Id(required=True, attribute="run.id")
    created_at = Instant(required=True, attribute="run.created_at")
    finished_at = Instant(required=True, allow_none=True, attribute="run.finished_at")
    stop_requested_at = Instant(required=True, allow_none=True, attribute="run.stop_requested_at")
    status = Word(*RUN_STATUSES, required=True, attribute="run.status")
    error = String(
        required=True, allow_none=True, attribute="run.error", example="provider_timeout"
    )
    replaced_by = Id(
        required=True,
        allow_none=True,
        attribute="run.replaced_by",
        description="取代它的运行；null 表示它仍在对话中。",
    )
    input_tokens = Count(128, allow_none=True, attribute="run.input_tokens")
    output_tokens = Count(128, allow_none=True, attribute="run.output_tokens")
    brought = Objects(
        InputMessageSchema,
        required=True,
        attribute="run.input_messages",
        description="这次运行收到的消息与工具结果。",
    )
    messages = Objects(ShownMessageSchema, required=True)
    events = Objects(ExportedEventSchema, required=True)


class ExportedChatSchema(AnswerSchema):
    session_id = Id(required=True, attribute="chat.id")
    title = String(
        required=True,
        allow_none=True,
        attribute="chat.title",
        example="东京的天气",
        description="null 表示以第一条消息为标题。",
    )
    created_at = Instant(required=True, attribute="chat.created_at")
    active_at = Instant(required=True, attribute="chat.last_active_at")
    runs = Lazy(ExportedRunSchema)


class SpendingSchema(AnswerSchema):
    published_as = "ExportedUsage"

    day = ma.fields.Date(required=True, metadata={"examples": ["2026-11-22"]})
    tokens = Count(48_800)
    chars = Count(12_000, allow_none=True)
    chats = Count(12, allow_none=True)


class ExportSchema(AnswerSchema):
    exported_at = Instant(required=True)
    user = ma.fields.Nested(ExportedUserSchema, required=True)
    sign_ups = Lazy(ExportedSignUpSchema)
    recoveries = Lazy(ExportedCodedSchema)
    email_changes = Lazy(ExportedEmailChangeSchema)
    sessions = Lazy(ExportedSessionSchema)
    events = Lazy(SecurityEventSchema)
    spendings = Lazy(SpendingSchema)
    chats = Lazy(ExportedChatSchema)
