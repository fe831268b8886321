"""/agent-chats/ag-ui: the same chats for front ends that speak AG-UI."""

import json
from uuid import UUID

from flask import Response

from runtime.agent.tools.foreign import foreign
from runtime.agent.tools.tool import Tool
from runtime.api import front_ends, http, new_messages, streams
from runtime.api.ag_ui import page, translation
from runtime.api.ag_ui.event_shapes import AgUiEventSchema
from runtime.api.ag_ui.translation import Translation
from runtime.api.application import MAX_CHAT_BYTES, body_up_to
from runtime.api.blueprint import Blueprint
from runtime.api.guards import current_user
from runtime.api.schemas.ag_ui import RunAgentInputSchema
from runtime.api.schemas.agent_chats import IfRunningSchema
from runtime.api.streams import EventStream
from runtime.errors import RUN_REFUSED, Fault, InvalidParameters, NothingNew
from runtime.models.chats import Run
from runtime.services.chats import chat_state, records, replacing, runs
from runtime.services.chats.ids import run_called
from runtime.services.chats.runs import Followed

# What a client's tools may take of the room that the model has.
MAX_TOOLS_CHARS = 60_000
# Clients take ten million in one event, and each of them that is slow has its own here.
MAX_SNAPSHOT_CHARS = 500_000
NO_PARAMETERS = {"type": "object", "properties": {}}

blp = Blueprint("AG-UI", __name__, url_prefix="/api/v1", description="供 AG-UI 前端使用的对话。")


@blp.post("/agent-chats/ag-ui")
@body_up_to(MAX_CHAT_BYTES)
@blp.arguments(RunAgentInputSchema)
@blp.arguments(IfRunningSchema, location="headers")
@blp.response(200, AgUiEventSchema, content_type=streams.MEDIA_TYPE, example=translation.EXAMPLE)
@blp.fails(*RUN_REFUSED)
def run_agent(body: dict, headers: dict) -> Response:
    """按 AG-UI 1.0 运行 Agent 对话(需要认证)。

    请求体为 `RunAgentInput`，未列出的成员一律忽略。`threadId` 是 UUID 时即为对话的 id，其他字符串
    对应本人的一个对话；RUN_STARTED 的 `metadata` 给出该次运行的 `session_id` 与 `run_id`。其他端点
    的路径两者都接受，例如用 `POST /agent-chats/{threadId}/cancel` 停止。连接断开不会停止运行。

    以服务器上的对话为准，`messages` 中只取新的：回答上一次运行所留工具调用的 `tool` 消息，无论在
    何处；以及从末尾往前，直到一条助手消息、一个无人等待的工具结果或一条 id 已在对话中的消息为止，
    其间的用户消息。其余是副本，缺少或改动都不影响对话。新的消息只能是文字：图片、文件等无法转交给模型的
    内容为 422。

    最后一条是对话中已有的用户消息、文字未变且其运行已结束时，重新回答它；文字变了，或者最后是新的
    用户消息、而对话中它所接续的用户消息之后另有用户消息时，是修改。两种情况下，从被取代的消息开始的
    一切移出对话，但仍保留。没有任何已知消息的列表总是接在对话之后。

    没有新的消息时不会开始运行，也不会新建对话：先是 RUN_STARTED 和 MESSAGES_SNAPSHOT，即整个对话，
    然后是正在进行的运行的其余事件，直到它结束；没有正在进行的运行时即为 RUN_FINISHED。`messages`
    可以为空，`runId` 任意：页面重新加载、重新连接都这样读取对话。上一次运行失败或被停止时，
    `forwardedProps` 中 `"continue": true` 接着运行。

    同一对话同时只有一次运行，否则为 409；带着请求头 `If-Running: replace`，或 `forwardedProps` 中
    `"ifRunning": "replace"` 时，先停止正在进行的运行。

    `context`、`state` 以及 `messages` 中的 `system` 与 `developer` 消息会转交给模型，并注明来自
    页面，而不是服务器的指令；合计至多 30000 个字符，超过为 422。它们只用于这一次运行，不会保存。

    `tools` 与服务器自己的工具一同提供给模型，重名时以服务器的为准。模型调用它们时运行随即结束，没有
    结果；请求声明了 `protocolVersion` 时，`outcome` 的 `pendingToolCallIds` 列出这些调用。

    重发同样的 `threadId` 与 `runId` 即为续读：先是 RUN_STARTED 和 MESSAGES_SNAPSHOT，再从头给出
    尚未结束的消息与工具调用，然后继续到结束。被停止的运行以 `cancelled` 结束；没有声明
    `protocolVersion` 的客户端得到 `code` 为 `stopped` 的 RUN_ERROR。
    """
    user = current_user()
    chat_id = front_ends.chat_id_of(user, body["thread_id"])
    run_id = run_called(chat_id, body["run_id"])
    messages = body["messages"]
    # In this order: nothing would be new of a run that another request began in between.
    state = chat_state.find(user, chat_id, new_messages.ids_at_end(messages))
    run = Run.find(user, chat_id, run_id)
    if run:
        return _resumed(run, body)
    try:
        carries_on = _carries_on(chat_id, body)
        run = front_ends.run_on(messages, state, run_id, chat_id, carries_on=carries_on)
    except NothingNew:
        return _shown(chat_id, body)
    replaces = headers["if_running"] or _forwarded(body, "ifRunning") == "replace"
    launch = replacing.launch_instead if replaces else runs.launch
    # Should it have been begun just now, it is heard from its beginning all the same.
    return _begun(launch(user, run, _tools(body["tools"] or []), page.told_by(body)), body)


def _forwarded(body: dict, name: str) -> object:
    """What the page passes on by this name; the rest of it is other people's."""
    props = body["forwarded_props"]
    return props.get(name) if isinstance(props, dict) else None


def _tools(given: list[dict]) -> list[Tool]:
    """The client's tools. Raises InvalidParameters when they are too long."""
    chars = sum(
        len(each["description"] or "") + len(json.dumps(each["parameters"])) for each in given
    )
    if chars > MAX_TOOLS_CHARS:
        raise InvalidParameters(Fault("#/tools", f"too_long {MAX_TOOLS_CHARS}"))
    return [
        foreign(each["name"], each["description"] or "", each["parameters"] or NO_PARAMETERS)
        for each in given
    ]


def _begun(followed: Followed, body: dict) -> Response:
    """The run's events from its first one."""
    this = _translation(followed.run, body)
    stream = _HeadedStream(followed.log, followed.leave, 0, this.frame, head=this.begin())
    return streams.respond(stream)


def _carries_on(chat_id: UUID, body: dict) -> bool:
    """Whether a run that ended before its answer was complete is to be carried on."""
    if _forwarded(body, "continue") is not True:
        return False
    last = runs.last(current_user(), chat_id)
    return last is not None and last.finished_at is not None


def _shown(chat_id: UUID, body: dict) -> Response:
    """What is there, and then what goes on. Nothing begins."""
    run = runs.last(current_user(), chat_id)
    if run:
        return _resumed(run, body, is_own=False)
    frames = translation.empty_chat(chat_id, body["thread_id"], body["run_id"], _held(body))
    return streams.whole(frames)


def _held(body: dict) -> dict[str, dict]:
    """The client's messages by their ids."""
    return {message["id"]: message for message in body["messages"]}


def _resumed(run: Run, body: dict, *, is_own: bool = True) -> Response:
    """What is settled by now, and then the rest."""
    this = _translation(run, body)
    followed = runs.follow(current_user(), run)
    try:
        recorded = records.journals(run.chat_id, MAX_SNAPSHOT_CHARS)
        entries = list(followed.log.entries)
        head = this.resume(entries, recorded, _held(body), is_own=is_own)
    except Exception:
        followed.leave()
        raise
    seen = entries[-1].number if entries else 0
    stream = _HeadedStream(followed.log, followed.leave, seen, this.frame, head=head)
    return streams.respond(stream)


def _translation(run: Run, body: dict) -> Translation:
    return Translation(
        run,
        body["thread_id"],
        body["run_id"],
        declares_1_0=body["protocol_version"] is not None,
        language=http.language(),
    )


class _HeadedStream(EventStream):
    """A stream that has something to say before the first entry."""

    def __init__(self, *arguments, head: str) -> None:
        super().__init__(*arguments)
        self._head = head

    @property
    def has_more(self) -> bool:
        return bool(self._head) or super().has_more

    def read(self) -> bytes:
        head, self._head = self._head, ""
        return head.encode() + super().read()
