"""/auth: sign-up and recovery, sessions, accounts by address."""

import marshmallow as ma

from runtime.api.schemas.account_fields import (
    Email,
    MailedSecret,
    NewPassword,
    Password,
    Username,
)
from runtime.api.schemas.base import AnswerSchema, Schema
from runtime.api.schemas.fields import (
    Boolean,
    Choice,
    Count,
    Cursor,
    Device,
    Id,
    Instant,
    Network,
    Rows,
    String,
    Word,
)
from runtime.api.schemas.url_fields import RedirectTo


class CreateVerificationSchema(Schema):
    username = Username(required=True)
    email = Email(required=True)
    password = NewPassword(required=True)
    redirect_to = RedirectTo(example="https://app.example.org/verify")


class CodeMailedSchema(AnswerSchema):
    """Whether or not there was anybody to mail one to."""

    published_as = "CodeSent"

    email = Email(required=True)


class ResendVerificationSchema(Schema):
    email = Email(required=True)


class CodeSchema(Schema):
    """A code, and the address that it was mailed to."""

    published_as = "VerifyCode"

    email = Email(required=True)
    token = MailedSecret(
        required=True, pattern=r"[0-9]{6}", mismatch="not_a_code", example="493027"
    )


class CreateRecoverySchema(Schema):
    email = Email(required=True)
    redirect_to = RedirectTo(example="https://app.example.org/recover")


class VerifyRecoverySchema(CodeSchema):
    password = NewPassword(required=True)


class CreateEmailRestorationSchema(Schema):
    token = MailedSecret(required=True, example="7d0e6f0a6df54f4f9a7c6f7b0b6b0f7e.2o-peyO_…")


class CreateSessionSchema(Schema):
    email = Email(required=True)
    password = Password(required=True)
    refresh_token = String(
        high=512,
        allow_none=True,
        load_default=None,
        example="b74c1d0e….1.dNhltmw2…",
        description="此前在这个设备上得到的 refresh token，会话已结束的也可以。",
    )


class RefreshTokenSchema(Schema):
    refresh_token = String(required=True, example="b74c1d0e….1.dNhltmw2…")


class EndSessionsSchema(RefreshTokenSchema):
    scope = Choice(
        "this",
        "others",
        "all",
        load_default="this",
        description="结束哪些会话：该 token 的、该用户其他的，或全部。",
    )


def last_caller() -> tuple[Device, Network]:
    """The fields for the device and the network that a session was used from last."""
    sentence = "最近一次登录或刷新时的；与登录时不同，即换过设备或网络。"
    device = Device(attribute="last_caller.device", description=sentence)
    return device, Network(attribute="last_caller.network", description=sentence)


class ListedSessionSchema(AnswerSchema):
    published_as = "ActiveSession"

    id = Id(required=True)
    created_at = Instant(required=True)
    last_used_at = Instant(
        required=True,
        attribute="refreshed_at",
        description="最近一次登录或刷新；使用中的会话至少每小时刷新一次。",
    )
    device = Device()
    network = Network()
    last_device, last_network = last_caller()
    is_current = Boolean(required=True, example=True)


class SessionsSchema(AnswerSchema):
    published_as = "SessionPage"

    sessions = Rows(ListedSessionSchema)
    next_cursor = Cursor(required=True, allow_none=True)


class AccountSchema(AnswerSchema):
    published_as = "SessionUser"

    id = Id(required=True)
    email = Email(required=True)


class SessionSchema(AnswerSchema):
    access_token = String(required=True, example="b74c1d0e….1.1795382544.2o-peyO_…")
    refresh_token = String(required=True, example="b74c1d0e….1.dNhltmw2…")
    expires_in = Count(3600, low=1, description="秒")
    token_type = Word("bearer", required=True)
    user = ma.fields.Nested(AccountSchema, required=True)


class FindUserSchema(Schema):
    email = Email(required=True)


class FoundUserSchema(AnswerSchema):
    published_as = "UserAccount"

    id = Id(required=True)
    email = Email(required=True)
    created_at = Instant(required=True)
    email_confirmed_at = Instant(required=True, allow_none=True)
