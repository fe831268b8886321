"""/agent-chats/ai-sdk: the same chats for front ends with `useChat` of the AI SDK."""

from datetime import timedelta
from uuid import UUID, uuid4

from flask import Response

from runtime import clock
from runtime.api import front_ends, http, new_messages, streams
from runtime.api.ai_sdk import messages, translation
from runtime.api.ai_sdk.translation import Translation
from runtime.api.application import MAX_CHAT_BYTES, body_up_to
from runtime.api.blueprint import Blueprint
from runtime.api.guards import current_user
from runtime.api.schemas.ai_sdk import SubmitMessageSchema, UiMessagesSchema
from runtime.api.schemas.base import PageSchema
from runtime.api.streams import EventStream
from runtime.database.pagination import Page
from runtime.errors import RUN_REFUSED, ChatNotFound, NothingNew, TooManyRequests
from runtime.models.chats import Run
from runtime.services.chats import chat_state, chats, records, replacing, runs
from runtime.services.chats.entries import Entry
from runtime.services.chats.ids import made_of
from runtime.services.chats.runs import Followed

# A page that reads the messages first, and then asks what goes on, has missed nothing in between.
JUST_ENDED = timedelta(seconds=15)
_PROTOCOL = {"X-Vercel-AI-UI-Message-Stream": "v1"}
_STREAM = {
    # The AI SDK has types of its own for the chunks.
    "schema": {"type": "string"},
    "content_type": streams.MEDIA_TYPE,
    "example": translation.EXAMPLE,
    "headers": {
        name: {"schema": {"type": "string", "enum": [value]}} for name, value in _PROTOCOL.items()
    },
}

blp = Blueprint("AI SDK", __name__, url_prefix="/api/v1", description="供 useChat 使用的对话。")


@blp.post("/agent-chats/ai-sdk")
@body_up_to(MAX_CHAT_BYTES)
@blp.arguments(SubmitMessageSchema)
@blp.response(200, **_STREAM)
@blp.fails(NothingNew, *RUN_REFUSED)
def submit_message(body: dict) -> Response:
    """运行 Agent 对话，以 AI SDK 的 UI message stream 回答(需要认证)。

    请求体即 `DefaultChatTransport` 所发送的，未列出的成员一律忽略。`id` 是 UUID 时即为对话的 id，
    其他字符串对应本人的一个对话。以服务器上的对话为准：`messages` 中只取末尾新的用户消息，只发送
    最后一条也可以；其余是副本。消息只能是文字，其他内容为 422。

    一次运行是一条助手消息，模型的每次作答是其中的一步；`metadata` 给出 `session_id`、`run_id` 与
    `status`。出错时以 `error` 结束，`errorText` 可以直接显示；被停止时以 `abort` 结束。

    连接断开不会停止运行。对话中还有正在进行的运行时，新的消息先停止它。重发同一条消息得到的是同一次
    运行。`regenerate-message` 重新回答最后的用户消息；id 已在对话中而文字变了的消息是修改。
    两种情况下，从被取代的消息开始的一切移出对话，但仍保留。
    """
    user = current_user()
    chat_id = front_ends.chat_id_of(user, body["id"])
    # Nothing else of them is looked at: it would mean something in another protocol.
    held = [{name: each[name] for name in ("id", "role", "parts")} for each in body["messages"]]
    is_again = body["trigger"] == "regenerate-message"
    if is_again:
        runs.stop_last(user, chat_id)
    run_id = _run_id(chat_id, held)
    run = Run.find(user, chat_id, run_id)
    if run and not (is_again or run.replaced_by):
        return _stream(runs.follow(user, run))
    state = chat_state.find(user, chat_id, new_messages.ids_at_end(held))
    new_id = uuid4() if run else run_id
    run = front_ends.run_on(held, state, new_id, chat_id, "parts", carries_on=False)
    return _stream(replacing.launch_instead(user, run))


def _run_id(chat_id: UUID, held: list[dict]) -> UUID:
    """The id of the run on the last message, so that the same one sent again is the same run.

    A message that was edited keeps its id, and has another text.
    """
    last = held[-1] if held else {"id": "", "role": "", "parts": []}
    return made_of(chat_id, f"message {last['id']} {new_messages.text_of(last, 'parts')}")


@blp.get("/agent-chats/ai-sdk/<path:chat_id>/stream")
@blp.response(200, **_STREAM)
@blp.alt_response(204)
@blp.fails(TooManyRequests)
def resume_stream(chat_id: str) -> Response:
    """续读一个对话正在进行的回答(需要认证)。

    从头给出该条助手消息，然后继续到结束。没有正在进行的运行时为 204；刚刚结束的运行在 15 秒内仍会
    给出，这样先读取消息、再续读，就不会有遗漏。
    """
    user = current_user()
    run = runs.last(user, front_ends.chat_id_of(user, chat_id))
    is_over = run is None or (run.finished_at and run.finished_at < clock.now() - JUST_ENDED)
    return Response(status=204) if is_over else _stream(runs.follow(user, run))


@blp.get("/agent-chats/ai-sdk/<path:chat_id>/messages")
@blp.arguments(PageSchema, location="query")
@blp.response(200, UiMessagesSchema)
def list_ui_messages(query: dict, chat_id: str) -> Page:
    """以 useChat 的形式读取一个对话的消息(需要认证)。

    `messages` 可直接交给 `useChat({ messages })`，分页同 `/agent-chats/{session_id}/messages`。
    还没有开始的对话没有消息。
    """
    user, language = current_user(), http.language()
    its_id = front_ends.chat_id_of(user, chat_id)
    try:
        chats.get(user, its_id)
    except ChatNotFound:
        return Page([], None)
    found = records.page_of(its_id, query["limit"], query["cursor"], language)
    return Page(messages.messages_of(reversed(found.rows), language), found.next_cursor)


def _stream(followed: Followed) -> Response:
    """A run from its first event, in the AI SDK's words."""
    this = Translation(followed.run, http.language())
    response = streams.respond(_UiMessageStream(followed, this))
    response.headers.update(_PROTOCOL)
    return response


class _UiMessageStream(EventStream):
    """A run's events in chunks; of what is there already, each text is one delta."""

    def __init__(self, followed: Followed, this: Translation) -> None:
        super().__init__(followed.log, followed.leave, 0, lambda entry: this.frames([entry]))
        self._translation = this

    def _written(self, entries: list[Entry]) -> str:
        return self._translation.frames(entries)
