"""/admin: accounts and the service, as administrators see them."""

import marshmallow as ma

from runtime.api.schemas.account_fields import Email, Username
from runtime.api.schemas.base import AnswerSchema, PageSchema, Schema
from runtime.api.schemas.fields import (
    Boolean,
    Count,
    Cursor,
    Flag,
    Id,
    Instant,
    Objects,
    PlainText,
    Rows,
    String,
    Word,
)
from runtime.api.schemas.infra import InfraHealthSchema
from runtime.mail.addresses import tidy
from runtime.mail.letters import TEMPLATES
from runtime.mail.queued_mail import UNWRITTEN
from runtime.services.administration import Account


class Beginning(PlainText):
    """What an address or a username begins with, as people type it: see `addresses.tidy`."""

    def _deserialize(self, value, attr, data, **kwargs) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        return tidy(text) if len(text) <= 1000 else text


class FindAccountsSchema(PageSchema):
    query = Beginning(
        high=254,
        load_default="",
        example="ada",
        description="邮箱或用户名的开头，不区分大小写；省略则列出全部账号。",
    )


class ListedAccountSchema(AnswerSchema):
    published_as = "AccountSummary"

    id = Id(required=True, description="用户的 id。")
    username = Username(required=True, description="用户名。")
    email = Email(required=True, description="邮箱。")
    is_admin = Boolean(required=True, example=False, description="是否为管理员。")
    created_at = Instant(required=True, description="账号何时创建。")
    email_confirmed_at = Instant(
        required=True,
        allow_none=True,
        description="邮箱何时通过验证；null 表示没有，账号由运维人员创建。",
    )
    signed_in_at = Instant(
        required=True, allow_none=True, description="最近一次登录；null 表示从未登录。"
    )
    disabled_at = Instant(
        required=True, allow_none=True, description="何时被停用；null 表示没有停用。"
    )


class ListedAccountsSchema(AnswerSchema):
    published_as = "AccountPage"

    users = Rows(ListedAccountSchema)
    next_cursor = Cursor(required=True, allow_none=True)


class ShownAccountSchema(ListedAccountSchema):
    published_as = "AccountDetails"

    sessions = Count(2, description="尚未结束的会话数。")
    chats = Count(12, description="对话数。")

    def get_attribute(self, obj: Account, attr: str, default: object) -> object:
        """The counts are the account's own, all else is its user's."""
        own = obj if attr in ("sessions", "chats") else obj.user
        return super().get_attribute(own, attr, default)


class ChangeAccountSchema(Schema):
    disabled = Flag(example=True, description="true 停用账号，false 重新启用。")


class RunningSchema(AnswerSchema):
    published_as = "RunningRun"

    run_id = Id(required=True, attribute="id", description="运行的 id。")
    session_id = Id(required=True, attribute="chat_id", description="所在对话的 id。")
    user_id = Id(required=True, description="用户的 id。")
    username = Username(required=True, description="用户名。")
    created_at = Instant(required=True, description="何时开始。")
    stop_requested_at = Instant(
        required=True, allow_none=True, description="何时被要求停止；null 表示没有。"
    )


class RunningRunsSchema(AnswerSchema):
    published_as = "RunningRunPage"

    runs = Rows(RunningSchema)
    next_cursor = Cursor(required=True, allow_none=True)


KINDS = (*TEMPLATES, UNWRITTEN)


class WaitingMailSchema(AnswerSchema):
    kind = Word(*KINDS, required=True, description="哪一种邮件；unwritten 尚未写成。")
    to = String(required=True, example="a***@example.org", description="收件人，已遮盖。")
    queued_at = Instant(required=True, description="何时开始等待。")
    good_until = Instant(required=True, description="到何时仍未发出即被放弃。")
    tries = Count(0, description="已失败的次数。")


class MailKindSchema(AnswerSchema):
    kind = Word(*KINDS, required=True, description="哪一种邮件。")
    count = Count(1, low=1, description="有多少封。")


class Scope(Word):
    """Whose counts an answer has."""

    def __init__(self):
        super().__init__(
            "machine",
            "process",
            required=True,
            description="统计的范围：这台机器的所有进程；没有 `METRICS_TOKEN` 则只是作答的进程。",
        )


class WaitingMailsSchema(AnswerSchema):
    scope = Scope()
    queued = Count(1, description="该范围内等待或正在发送的邮件。")
    waiting = Count(1, description="作答的进程中等待的邮件。")
    failing = Count(0, description="其中失败过、等待重试的。")
    oldest_at = Instant(
        required=True, allow_none=True, description="其中最早的何时开始等待；null 表示没有。"
    )
    kinds = Objects(MailKindSchema, required=True, description="其中每种有多少，最多的在前。")
    oldest = Objects(WaitingMailSchema, required=True, description="其中等待最久的，至多 20 封。")


class ReachedLimitSchema(AnswerSchema):
    limit = String(required=True, example="sign-ins-pair", description="限制的名称，与指标相同。")
    refusals = Count(3, low=1, description="拒绝了多少次请求。")


class ReachedLimitsSchema(AnswerSchema):
    scope = Scope()
    limits = Objects(ReachedLimitSchema, required=True, description="拒绝最多的在前。")


class ServiceStateSchema(InfraHealthSchema):
    version = String(required=True, example="0.4.0", description="服务的版本。")
    uptime_seconds = Count(3600, description="服务在这台机器上已运行多少秒。")
    workers = Count(1, low=1, description="每台机器的进程数。")
    runs = Count(0, description="作答的进程中正在进行的运行。")
    scope = Scope()
    mails = Count(0, description="该范围内等待或正在发送的邮件。")
    mail = Word("smtp", "outbox", required=True, description="邮件经 SMTP 发送，或写成文件。")
    model = String(required=True, example="embedded", description="模型；embedded 为内置的。")
    pending_migrations = ma.fields.List(
        String(example="0025_add_by_administrator_to_security_events"),
        required=True,
        metadata={"description": "尚未执行的迁移。"},
    )
