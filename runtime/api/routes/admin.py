"""/admin: what operators' commands do, for administrators over HTTP."""

from uuid import UUID

from runtime.api.blueprint import Blueprint
from runtime.api.guards import current_session, current_user
from runtime.api.schemas.admin import (
    ChangeAccountSchema,
    FindAccountsSchema,
    ListedAccountsSchema,
    ReachedLimitsSchema,
    RunningRunsSchema,
    ServiceStateSchema,
    ShownAccountSchema,
    WaitingMailsSchema,
)
from runtime.api.schemas.base import PageSchema
from runtime.database.pagination import Page
from runtime.errors import ADMINISTRATOR_REFUSED, AdministratorProtected, UserNotFound
from runtime.services import administration, overview
from runtime.services.accounts import users
from runtime.services.accounts.administrators import demand_administrator

blp = Blueprint(
    "Admin",
    __name__,
    url_prefix="/api/v1/admin",
    description="供管理员使用：账号与服务的状况。须为管理员，且在 15 分钟内登录过。",
)


@blp.before_request
def _demand_administrator() -> None:
    """After the guard of every blueprint, which knows whose session it is."""
    demand_administrator(current_session())


@blp.get("/users")
@blp.arguments(FindAccountsSchema, location="query")
@blp.response(200, ListedAccountsSchema)
@blp.fails(*ADMINISTRATOR_REFUSED)
def list_accounts(query: dict) -> Page:
    """列出或搜索账号(需要管理员)。

    最新的在前。`query` 是邮箱或用户名的开头，不区分大小写。
    """
    return users.page_of(query["query"], cursor=query["cursor"], limit=query["limit"])


@blp.get("/users/<uuid:user_id>")
@blp.response(200, ShownAccountSchema)
@blp.fails(*ADMINISTRATOR_REFUSED, UserNotFound)
def get_account(user_id: UUID) -> administration.Account:
    """查询账号(需要管理员)。

    不含密码的散列与 token，也不含对话的内容。
    """
    return administration.show(current_user(), user_id)


@blp.patch("/users/<uuid:user_id>")
@blp.arguments(ChangeAccountSchema)
@blp.response(200, ShownAccountSchema)
@blp.fails(*ADMINISTRATOR_REFUSED, AdministratorProtected, UserNotFound)
def change_account(body: dict, user_id: UUID) -> administration.Account:
    """停用或重新启用账号(需要管理员)。

    停用的账号从下一个请求起即被登出，正在进行的运行随即停止，已发出的验证码失效，登录时如同密码错误；
    重新启用后会话不会恢复。只修改出现的字段；已是所求的状态则不变。账号的主人会在安全事件中看到。

    管理员的账号不能通过 HTTP 停用或启用，自己的也不例外，此时为 403。
    """
    return administration.change(current_user(), user_id, body)


@blp.delete("/users/<uuid:user_id>/sessions")
@blp.response(204)
@blp.fails(*ADMINISTRATOR_REFUSED, UserNotFound)
def end_account_sessions(user_id: UUID) -> None:
    """结束账号的全部会话(需要管理员)。

    它的 access token 从下一个请求起即被拒绝。账号的主人会在安全事件中看到。
    """
    administration.end_sessions(current_user(), user_id)


@blp.delete("/users/<uuid:user_id>")
@blp.response(204)
@blp.fails(*ADMINISTRATOR_REFUSED, AdministratorProtected, UserNotFound)
def delete_account(user_id: UUID) -> None:
    """删除账号(需要管理员)。

    与账号的主人自己删除相同：属于它的一切都被抹去，无法撤销。邮箱主人会收到一封通知。

    管理员的账号不能通过 HTTP 删除，自己的也不例外，此时为 403。
    """
    administration.erase(current_user(), user_id)


@blp.get("/runs")
@blp.arguments(PageSchema, location="query")
@blp.response(200, RunningRunsSchema)
@blp.fails(*ADMINISTRATOR_REFUSED)
def list_running(query: dict) -> Page:
    """列出正在进行的运行(需要管理员)。

    所有机器上的，最近开始的在前；不含对话的内容。
    """
    return overview.running(**query)


@blp.get("/mails")
@blp.response(200, WaitingMailsSchema)
@blp.fails(*ADMINISTRATOR_REFUSED)
def get_waiting_mails() -> dict:
    """查询等待发送的邮件(需要管理员)。

    邮件在各进程的内存中等待：`queued` 是 `scope` 内的总数，其余为作答的进程所有。不含邮件的内容与
    验证码，收件人与日志中一样已遮盖。
    """
    return overview.mails()


@blp.get("/limits")
@blp.response(200, ReachedLimitsSchema)
@blp.fails(*ADMINISTRATOR_REFUSED)
def get_reached_limits() -> dict:
    """查询达到过的限制(需要管理员)。

    自服务启动以来，`scope` 内每项限制拒绝了多少次请求；不记录拒绝了谁。
    """
    return overview.limits()


@blp.get("/health")
@blp.response(200, ServiceStateSchema)
@blp.fails(*ADMINISTRATOR_REFUSED)
def get_service_state() -> dict:
    """查询服务的状况(需要管理员)。

    与 `GET /infra/health` 相同，另有作答的进程与这台机器的状况。
    """
    return overview.check_health()
