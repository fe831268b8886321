"""/users: profiles, what their owners change, security events."""

from runtime.api.schemas.account_fields import Email, NewPassword, Password, Username
from runtime.api.schemas.base import AnswerSchema, Schema
from runtime.api.schemas.fields import (
    Boolean,
    Cursor,
    Device,
    Id,
    Instant,
    Network,
    PlainText,
    Rows,
    Word,
)
from runtime.api.schemas.url_fields import AvatarURL, RedirectTo
from runtime.services.accounts.security_log import Kind


class UserSchema(AnswerSchema):
    id = Id(required=True)
    username = Username(required=True)
    avatar_url = AvatarURL(required=True)
    bio = PlainText(required=True, high=200, allow_none=True, example="分析机的第一位程序员")


class ChangeUserSchema(Schema):
    username = Username()
    avatar_url = AvatarURL()
    bio = PlainText(high=200, allow_none=True, example="分析机的第一位程序员")


class CurrentPasswordSchema(Schema):
    current_password = Password(required=True)


class ChangePasswordSchema(Schema):
    current_password = Password(required=True)
    password = NewPassword(required=True)


class ChangeEmailSchema(Schema):
    email = Email(required=True)
    current_password = Password(required=True)
    redirect_to = RedirectTo(example="https://app.example.org/email")


class UsernamePathSchema(Schema):
    username = Username(required=True)


class SecurityEventSchema(AnswerSchema):
    id = Id(required=True)
    type = Word(*Kind, required=True, attribute="kind")
    created_at = Instant(required=True)
    network = Network(
        allow_none=True, description="来自哪个网络；null 表示由运维人员或管理员操作。"
    )
    device = Device()
    session_id = Id(required=True, allow_none=True)
    by_administrator = Boolean(required=True, example=False, description="是否由管理员操作。")


class SecurityEventsSchema(AnswerSchema):
    published_as = "SecurityEventPage"

    events = Rows(SecurityEventSchema)
    next_cursor = Cursor(required=True, allow_none=True)
