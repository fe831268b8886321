"""/agent-chats: conversations with the agent."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from flask import Response

from runtime import json_text
from runtime.api import front_ends, http, streams
from runtime.api.application import MAX_CHAT_BYTES, body_up_to
from runtime.api.blueprint import Blueprint
from runtime.api.guards import current_user
from runtime.api.schemas.agent_chats import (
    BudgetSchema,
    ChangeChatSchema,
    ChatSchema,
    ChatsSchema,
    CreateRunHeadersSchema,
    CreateRunSchema,
    MessagesSchema,
    ResumeSchema,
    RunStateSchema,
)
from runtime.api.schemas.base import PageSchema
from runtime.api.schemas.events import EventSchema, RunSchema
from runtime.api.streams import EventStream
from runtime.database.pagination import Page
from runtime.errors import (
    RUN_REFUSED,
    ChatBusy,
    ChatNotFound,
    IdempotencyKeyReused,
    RunNotFound,
    TooManyRequests,
)
from runtime.services.chats import budgets, chats, records, replacing, runs
from runtime.services.chats.budgets import Today
from runtime.services.chats.chats import ShownChat
from runtime.services.chats.entries import Entry
from runtime.services.chats.ids import run_of_key
from runtime.services.chats.replacing import Begun
from runtime.services.chats.runs import Answer, Followed, ShownRun

_STREAM = {
    "schema": EventSchema,
    "content_type": streams.MEDIA_TYPE,
    "example": streams.frame(3, json_text.encode(EventSchema.example)),
    "headers": {
        "Content-Location": {
            "description": "流可以从这里续读，带上 `Last-Event-ID`。",
            "schema": {"type": "string"},
        }
    },
}

# A front end calls its chats and runs by names of its own, which may have any character.
blp = Blueprint(
    "Agent Chat",
    __name__,
    url_prefix="/api/v1",
    description="与 Agent 对话。路径中的 `session_id` 与 `run_id` 也可以是前端自己的名称，即它作为"
    " AG-UI 的 `threadId` 与 `runId` 发送的，经百分号编码。",
)


@blp.post("/agent-chats")
@body_up_to(MAX_CHAT_BYTES)
@blp.arguments(CreateRunSchema)
@blp.arguments(CreateRunHeadersSchema, location="headers")
@blp.response(200, RunSchema)
@blp.alt_response(200, **_STREAM)
@blp.fails(IdempotencyKeyReused, RunNotFound, *RUN_REFUSED)
def create_run(body: dict, headers: dict) -> Answer | Response:
    """运行 Agent 对话(需要认证)。

    事件的名称与顺序遵循 AG-UI；最后一个是 RUN_FINISHED，模型出错或被停止时是 RUN_ERROR，此时
    `output` 是已有的文字。`session_id` 省略或为新的 UUID 时开始新对话。同一对话同时只运行一条消息，
    否则为 409；带着 `If-Running: replace` 时，先停止正在进行的运行，它以 RUN_ERROR 结束，已写出的
    文字保留在对话中。

    `Accept: text/event-stream` 时事件边发生边发送，每个事件的 `id` 是它的编号，响应头
    `Content-Location` 是断开后续读的地址。无论以哪种方式，连接断开都不会停止运行。带着同一个
    `Idempotency-Key` 重发同样的请求，得到的是同一次运行，流从 `Last-Event-ID` 之后开始；
    请求内容不同则为 422。

    `replaces` 是对话中一次运行的 id(也是其用户消息的 id)：从它开始的一切移出对话，由新的运行取代。
    带有 `message` 即修改消息，省略则重新回答原来的消息。移出的内容不再发送给模型，也不在消息列表
    中，但仍保留，并包含在导出的数据中。对话中没有这次运行为 404；它已被取代，或对话中有运行正在
    进行而没有 `If-Running: replace`，为 409。
    """
    message, chat_id, key = body["message"], body["session_id"], headers["key"]
    user, language, replaces = current_user(), http.language(), body["replaces"]
    if not streams.is_wanted():
        answer = partial(runs.answer, user, message, chat_id, key, language, replaces)
        return _begun(answer, body, headers)
    start = partial(runs.start, user, message, chat_id, key, replaces)
    followed = _begun(start, body, headers)
    return _stream(followed, after=int(headers["after"]) if key else 0)


def _begun(begin: Callable[[], Begun], body: dict, headers: dict) -> Begun:
    """What `begin` returns; what goes on in the chat is stopped before, if the headers say so."""
    user, chat_id, key = current_user(), body["session_id"], headers["key"]
    if not (headers["if_running"] and chat_id):
        return begin()
    run_id = run_of_key(user.id, key) if key else None
    return replacing.begin_instead(user, chat_id, begin, run_id)


@blp.get("/agent-chats")
@blp.arguments(PageSchema, location="query")
@blp.response(200, ChatsSchema)
def list_chats(query: dict) -> Page:
    """列出自己的对话(需要认证)。

    最近活动的在前。`next_cursor` 作为下一页的 `cursor`；最后一页为 null。
    """
    return chats.page_of(current_user(), query["limit"], query["cursor"])


@blp.get("/agent-chats/budget")
@blp.response(200, BudgetSchema)
def get_budget() -> Today:
    """查询今天还能用多少 token(需要认证)。

    输入与输出合计，每天 UTC 零点重新开始；没有设置上限时为 null。正在进行的运行先按可能用到的最多
    数量扣除，模型报告用量之后退还多余的部分；中断的调用不退还。用完之后，新的消息为 429，进行中的
    运行以 RUN_ERROR 结束。
    """
    return budgets.today(current_user())


@blp.get("/agent-chats/<path:session_id>")
@blp.response(200, ChatSchema)
@blp.fails(ChatNotFound)
def get_chat(session_id: str) -> ShownChat:
    """查询一个对话(需要认证)。"""
    return chats.get(current_user(), _chat_id(session_id))


@blp.patch("/agent-chats/<path:session_id>")
@blp.arguments(ChangeChatSchema)
@blp.response(200, ChatSchema)
@blp.fails(ChatNotFound)
def change_chat(body: dict, session_id: str) -> ShownChat:
    """重命名一个对话(需要认证)。

    对话最初以第一条消息的第一行为标题；null 恢复它。
    """
    return chats.rename(current_user(), _chat_id(session_id), body["title"])


@blp.delete("/agent-chats/<path:session_id>")
@blp.response(204)
@blp.fails(ChatNotFound, ChatBusy, TooManyRequests)
def delete_chat(session_id: str) -> None:
    """删除一个对话(需要认证)。

    其中的一切都被抹去。正在进行的运行先被停止，无论在哪个进程，正在读取它的人会收到最后一个事件。
    """
    runs.delete_chat(current_user(), _chat_id(session_id))


@blp.get("/agent-chats/<path:session_id>/messages")
@blp.arguments(PageSchema, location="query")
@blp.response(200, MessagesSchema)
@blp.fails(ChatNotFound)
def list_messages(query: dict, session_id: str) -> Page:
    """读取一个对话的消息(需要认证)。

    第一页是最近的 `limit` 轮，内容很长时更少，`next_cursor` 指向更早的；每一页内按先后顺序，可以
    直接接在屏幕上已有的消息之前。一轮是用户的一条消息和随后的回答，不会被分到两页。没有完成的回答也在
    其中，`status` 说明其运行的状态，`error` 说明为何没有完成。
    """
    limit, cursor = query["limit"], query["cursor"]
    chat_id = _chat_id(session_id)
    return records.messages(current_user(), chat_id, limit, cursor, http.language())


@blp.get("/agent-chats/<path:session_id>/runs/<path:run_id>/events")
@blp.arguments(ResumeSchema, location="headers")
@blp.response(200, **_STREAM)
@blp.fails(RunNotFound, TooManyRequests)
def get_run_events(headers: dict, session_id: str, run_id: str) -> Response:
    """续读一次运行的事件(需要认证)。

    发送 `Last-Event-ID` 之后的所有事件，没有该请求头时从第一个开始；运行中的则继续到结束。
    同一条消息相邻的 delta 可能合并为一个事件，其编号是最后一个的编号。
    """
    user = current_user()
    followed = runs.follow(user, front_ends.run_of(user, session_id, run_id))
    return _stream(followed, after=int(headers["after"]))


@blp.get("/agent-chats/<path:session_id>/runs/<path:run_id>")
@blp.response(200, RunStateSchema)
@blp.fails(RunNotFound)
def get_run(session_id: str, run_id: str) -> ShownRun:
    """查询一次运行的状态与用量(需要认证)。

    `input_tokens` 与 `output_tokens` 是模型报告的用量；没有报告时为 null。
    `error` 说明回答为何没有完成。
    """
    return runs.shown(front_ends.run_of(current_user(), session_id, run_id), http.language())


@blp.post("/agent-chats/<path:session_id>/runs/<path:run_id>/cancel")
@blp.response(200, RunStateSchema)
@blp.fails(RunNotFound, TooManyRequests)
def cancel_run(session_id: str, run_id: str) -> ShownRun:
    """停止一次运行(需要认证)。

    与模型的连接关闭之后才返回，无论运行在哪个进程。已写出的文字保留在对话中，最后一个事件是
    RUN_ERROR，状态为 `stopped`。已经结束的运行保持原样。
    """
    user = current_user()
    run = front_ends.run_of(user, session_id, run_id)
    return runs.shown(runs.stop(user, run.chat_id, run.id), http.language())


@blp.post("/agent-chats/<path:session_id>/cancel")
@blp.response(204)
@blp.fails(ChatNotFound, TooManyRequests)
def stop_chat(session_id: str) -> None:
    """停止一个对话中正在进行的运行(需要认证)。

    与模型的连接关闭之后才返回，无论运行在哪个进程。已写出的文字保留在对话中。没有正在进行的运行时
    同样为 204。
    """
    user = current_user()
    runs.stop_last(user, chats.get(user, _chat_id(session_id)).id)


def _chat_id(session_id: str) -> UUID:
    """The chat that is meant: a front end may have a name of its own for it."""
    return front_ends.chat_id_of(current_user(), session_id)


def _stream(followed: Followed, after: int) -> Response:
    run, language = followed.run, http.language()

    def frame(entry: Entry) -> str:
        return streams.frame(entry.number, entry.shown_text(language))

    location = f"{blp.url_prefix}/agent-chats/{run.chat_id}/runs/{run.id}/events"
    return streams.respond(EventStream(followed.log, followed.leave, after, frame), location)
