"""/admin: accounts, as administrators see them."""

from runtime.api.schemas.account_fields import Email, Username
from runtime.api.schemas.base import AnswerSchema, PageSchema, Schema
from runtime.api.schemas.fields import Boolean, Count, Cursor, Flag, Id, Instant, PlainText, Rows
from runtime.mail.addresses import tidy
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
    users = Rows(ListedAccountSchema)
    next_cursor = Cursor(required=True, allow_none=True)


class ShownAccountSchema(ListedAccountSchema):
    sessions = Count(2, description="尚未结束的会话数。")
    chats = Count(12, description="对话数。")

    def get_attribute(self, obj: Account, attr: str, default: object) -> object:
        """The counts are the account's own, all else is its user's."""
        own = obj if attr in ("sessions", "chats") else obj.user
        return super().get_attribute(own, attr, default)


class ChangeAccountSchema(Schema):
    disabled = Flag(example=True, description="true 停用账号，false 重新启用。")
