"""/agent-chats: conversations with the agent."""

from ..errors import (
    ChatBusy,
    ChatNotFound,
    InvalidAccessToken,
    InvalidParameters,
    NotAuthenticated,
    TooManyRequests,
)
from ..services import runs
from ..services.runs import Answer
from . import http
from .blueprint import Blueprint
from .guards import current_user
from .schemas import CreateRunSchema, RunSchema

blp = Blueprint("Agent Chat", __name__, url_prefix="/api/v1", description="与 Agent 对话。")


@blp.route("/agent-chats", methods=["POST"])
@blp.arguments(CreateRunSchema)
@blp.response(200, RunSchema)
@blp.fails(
    NotAuthenticated,
    InvalidAccessToken,
    ChatNotFound,
    ChatBusy,
    InvalidParameters,
    TooManyRequests,
)
def create_run(body: dict) -> Answer:
    """运行 Agent 对话(需要认证)。

    事件的名称与顺序遵循 AG-UI；最后一个是 RUN_FINISHED，模型出错时是 RUN_ERROR，此时 `output`
    是已有的文字。`session_id` 省略或为新的 UUID 时开始新对话。同一对话同时只运行一条消息，
    否则为 409。
    """
    return runs.answer(current_user(), **body, language=http.language())
