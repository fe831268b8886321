"""/users: profiles, and what their owners change about their accounts."""

from flask import Response, request

from runtime.api import downloads, http
from runtime.api.blueprint import Blueprint
from runtime.api.downloads import Download
from runtime.api.guards import current_session, current_user, user_in_path
from runtime.api.schemas.auth import (
    CodeMailedSchema,
    CodeSchema,
    SessionSchema,
)
from runtime.api.schemas.base import PageSchema
from runtime.api.schemas.export import (
    ExportSchema,
)
from runtime.api.schemas.users import (
    ChangeEmailSchema,
    ChangePasswordSchema,
    ChangeUserSchema,
    CurrentPasswordSchema,
    SecurityEventsSchema,
    UsernamePathSchema,
    UserSchema,
)
from runtime.database.pagination import Page, page
from runtime.errors import (
    CURRENT_PASSWORD_REFUSED,
    NEW_PASSWORD_REFUSED,
    EmailCodeUsedUp,
    InvalidEmailCode,
    TooManyRequests,
    UsernameTaken,
    UserNotFound,
)
from runtime.models.security_events import SecurityEvent
from runtime.models.users import User
from runtime.services import closures, exports
from runtime.services.accounts import email_changes, password_changes, users
from runtime.services.accounts.token_pairs import TokenPair

blp = Blueprint("Users", __name__, url_prefix="/api/v1/users", description="用户资料。")


@blp.get("/me")
@blp.response(200, UserSchema)
def get_me() -> User:
    """获取当前用户信息(需要认证)。"""
    return current_user()


@blp.patch("/me")
@blp.arguments(ChangeUserSchema)
@blp.response(200, UserSchema)
@blp.fails(UsernameTaken)
def change_me(body: dict) -> User:
    """更新当前用户信息(需要认证)。

    只修改出现的字段；null 清除 `avatar_url` 或 `bio`。用户名已被占用时为 422。
    """
    return users.change_profile(current_user(), body)


@blp.delete("/me")
@blp.arguments(CurrentPasswordSchema)
@blp.response(204)
@blp.fails(*CURRENT_PASSWORD_REFUSED)
def delete_me(body: dict) -> None:
    """删除自己的账号(需要认证)。

    账号与属于它的一切都被抹去：会话、对话与安全事件；等待该邮箱验证的一切随之作废。无法撤销，可先导出。
    所有 token 从下一个请求起即被拒绝；正在进行的运行随即停止，正在读取它的人会收到最后一个事件。
    账号的邮箱会收到一封通知。
    """
    closures.erase_own(current_session(), body["current_password"], http.caller())


@blp.put("/me/password")
@blp.arguments(ChangePasswordSchema)
@blp.response(200, SessionSchema)
@blp.fails(*NEW_PASSWORD_REFUSED, *CURRENT_PASSWORD_REFUSED)
def change_password(body: dict) -> TokenPair:
    """修改密码(需要认证)。

    此前的所有 token 随即失效，发出请求的会话也不例外；响应是一对新的 token，请改用它们。已发出的
    验证码随即失效，邮箱主人会收到一封通知。当前密码错误时为 422。
    """
    return password_changes.change(current_session(), **body, caller=http.caller())


@blp.post("/me/email")
@blp.arguments(ChangeEmailSchema)
@blp.response(202, CodeMailedSchema)
@blp.fails(*CURRENT_PASSWORD_REFUSED)
def create_email_change(body: dict) -> dict:
    """更换邮箱(需要认证)。

    验证码发往新邮箱，10 分钟内有效；新邮箱是否已有账号，响应都相同。原邮箱会收到一封通知，其中的
    撤销码 7 天内可以恢复原来的邮箱，见 `POST /auth/email-restorations`。`redirect_to` 是给新邮箱的
    邮件中链接的去处，须在 `REDIRECT_ALLOWLIST` 中，链接的查询参数会加上 `email` 和 `token`。给原邮
    箱的链接通向 `APP_URL`，加上 `email` 和 `restoration`；没有设置则没有链接。当前密码错误，或账号
    还没有密码时为 422。
    """
    email_changes.begin(current_session(), **body, caller=http.caller())
    return body


@blp.post("/me/email/verify")
@blp.arguments(CodeSchema)
@blp.response(200, SessionSchema)
@blp.fails(InvalidEmailCode, EmailCodeUsedUp, TooManyRequests)
def verify_email_change(body: dict) -> TokenPair:
    """校验新邮箱的验证码，更换邮箱(需要认证)。

    此前的所有 token 随即失效，发出请求的会话也不例外；响应是一对新的 token，请改用它们。其他验证码
    随即失效。验证码错误为 `#/token` 上的 422，最多试五次；新邮箱已有账号时与验证码错误相同。
    """
    return email_changes.verify(
        current_session(),
        email=body["email"],
        code=body["token"],
        caller=http.caller(),
    )


@blp.get("/me/events")
@blp.arguments(PageSchema, location="query")
@blp.response(200, SecurityEventsSchema)
def list_events(query: dict) -> Page:
    """列出自己账号的安全事件(需要认证)。

    登录、登出、被拒绝的密码与验证码、被盗用的 refresh token 等，最新的在前，保留 `EVENTS_DAYS` 天。
    被拒绝的尝试在一两秒后出现，每种每天最多记录 100 次。会话换了设备或网络是 `session_moved`，响应
    丢失后从别处再次刷新是 `refresh_token_repeated`：每个会话的每处 24 小时内各记一次，最多 20 次。
    `type` 将来可能有新的取值。
    """
    return page(current_user().events, SecurityEvent.created_at, **query)


@blp.get("/me/export")
@blp.response(200, ExportSchema, headers=downloads.HEADERS)
@blp.fails(TooManyRequests)
def export_me() -> Response:
    """导出自己的全部数据(需要认证)。

    服务所保存的关于自己的一切：资料、等待验证的注册、会话、安全事件、用量，以及对话连同每次运行的
    消息与事件，各部分最新的在前。没有秘密：不含密码、验证码与 token，它们的散列也不含。

    边读取边发送，多大都可以。中途出错，或会话在此期间结束，连接即断开，收到的部分不是完整的 JSON。
    每天最多 5 次，每次都记入安全事件。
    """
    if request.method == "HEAD":  # which makes no file, and costs none
        return downloads.respond(iter(()), "export.json")
    export = exports.begin(current_session(), http.caller())
    return downloads.respond(Download(ExportSchema().dump(export)), "export.json")


@blp.get("/<username>")
@blp.arguments(UsernamePathSchema, location="path", is_read=False)
@blp.response(200, UserSchema)
@blp.fails(UserNotFound)
def get_user(username: str) -> User:
    """按用户名查询用户(需要认证)。

    不区分大小写。
    """
    user = user_in_path()
    if user is None:  # A name that a user has needs no other check, which takes an eighth longer.
        blp.check_path(UsernamePathSchema())
        raise UserNotFound
    return user
