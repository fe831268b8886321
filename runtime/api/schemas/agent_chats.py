"""/agent-chats: chats, their messages and runs, the tokens of the day."""

import marshmallow as ma

from runtime.api.schemas.base import AnswerSchema, Schema
from runtime.api.schemas.fields import (
    MESSAGE_ID,
    Choice,
    Count,
    Cursor,
    Id,
    Instant,
    Objects,
    PlainText,
    Rows,
    String,
    Word,
)

RUN_STATUSES = ("running", "finished", "failed", "stopped")
MAX_MESSAGE_CHARS = 8000


class CreateRunSchema(Schema):
    message = PlainText(
        load_default=None,
        allow_none=False,
        low=1,
        high=MAX_MESSAGE_CHARS,
        example="现在几点？",
        description="必填；带有 `replaces` 时可以省略，即重新回答原来的消息。",
    )
    session_id = Id(
        allow_none=True,
        load_default=None,
        description="新的 UUID 成为新对话的 id；自己的对话则继续。",
    )
    replaces = Id(
        allow_none=True,
        load_default=None,
        description="该对话中的一次运行：从它开始的一切都移出对话，由新的运行取代。",
    )

    @ma.validates_schema(pass_original=True, skip_on_field_errors=False)
    def _has_what_it_runs_on(self, _data: dict, given: dict, **_kwargs) -> None:
        name, is_there = "message", "message" in given
        if given.get("replaces") is not None:
            name, is_there = "session_id", given.get("session_id") is not None
        if not is_there:
            raise ma.ValidationError({name: ["required"]})


class ResumeSchema(Schema):
    after = String(
        data_key="Last-Event-ID",
        pattern=r"[0-9]{1,9}",
        mismatch="not_an_event_id",
        load_default="0",
        example="17",
    )


class IfRunningSchema(Schema):
    """A header of our own, after the pattern of HTTP's conditions."""

    if_running = Choice(
        "replace",
        data_key="If-Running",
        load_default=None,
        description="`replace`：先停止对话中正在进行的运行，而不是 409。",
    )


class CreateRunHeadersSchema(ResumeSchema, IfRunningSchema):
    key = String(
        data_key="Idempotency-Key",
        low=1,
        high=255,
        pattern=r"[!-~]+",
        mismatch="not_an_idempotency_key",
        load_default=None,
        example="8e03978e-40d5-43dd-bc93-6894a57f9324",
    )


class ChangeChatSchema(Schema):
    title = PlainText(
        required=True,
        low=1,
        high=100,
        allow_none=True,
        example="东京的天气",
        description="null 恢复由第一条消息而来的标题。",
    )


class ChatSchema(AnswerSchema):
    session_id = Id(required=True, attribute="id")
    title = String(required=True, example="东京的天气")
    created_at = Instant(required=True)
    active_at = Instant(
        required=True,
        description="最近一条消息的时间",
    )


class ChatsSchema(AnswerSchema):
    published_as = "ChatPage"

    chats = Rows(ChatSchema)
    next_cursor = Cursor(required=True, allow_none=True)


class ToolCallSchema(AnswerSchema):
    tool_call_id = String(required=True, attribute="id", example="call_1")
    tool_name = String(required=True, attribute="name", example="current_time")
    arguments = String(required=True, example='{"zone": "Asia/Tokyo"}')
    result = String(
        required=True,
        allow_none=True,
        example='{"time": "19:15"}',
        description="还没有结果时为 null",
    )


_RUN_ERROR = "模型暂时无法连接，请稍后再试"


class MessageSchema(AnswerSchema):
    id = String(required=True, example=MESSAGE_ID)
    run_id = Id(required=True, attribute="run.id")
    status = Word(*RUN_STATUSES, required=True, attribute="run.status")
    created_at = Instant(required=True, attribute="run.created_at")
    role = Word("user", "assistant", required=True)
    content = String(required=True, example="现在是 19:15。")
    reasoning = String(
        required=True,
        allow_none=True,
        example="用户想知道现在的时间。",
        description="模型作答之前的思考；null 表示没有。",
    )
    tool_calls = Objects(ToolCallSchema, required=True)
    error = String(required=True, allow_none=True, example=_RUN_ERROR)


class MessagesSchema(AnswerSchema):
    published_as = "MessagePage"

    messages = Rows(MessageSchema)
    next_cursor = Cursor(required=True, allow_none=True)


class RunStateSchema(AnswerSchema):
    published_as = "Run"

    id = Id(required=True, attribute="run.id")
    session_id = Id(required=True, attribute="run.chat_id")
    status = Word(*RUN_STATUSES, required=True, attribute="run.status")
    error = String(required=True, allow_none=True, example=_RUN_ERROR)
    input_tokens = Count(128, allow_none=True, attribute="run.input_tokens")
    output_tokens = Count(42, allow_none=True, attribute="run.output_tokens")
    created_at = Instant(required=True, attribute="run.created_at")
    finished_at = Instant(required=True, allow_none=True, attribute="run.finished_at")


class BudgetSchema(AnswerSchema):
    limit = Count(200_000, low=1, allow_none=True)
    left = Count(151_200, allow_none=True)
    resets_at = Instant(required=True)
