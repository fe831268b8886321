"""/auth: sign-up and recovery by mailed code, sessions, accounts by address."""

from uuid import UUID

from runtime.api import http
from runtime.api.blueprint import Blueprint
from runtime.api.guards import current_session, current_user, public
from runtime.api.schemas.auth import (
    CodeMailedSchema,
    CodeSchema,
    CreateEmailRestorationSchema,
    CreateRecoverySchema,
    CreateSessionSchema,
    CreateVerificationSchema,
    EndSessionsSchema,
    FindUserSchema,
    FoundUserSchema,
    RefreshTokenSchema,
    ResendVerificationSchema,
    SessionSchema,
    SessionsSchema,
    VerifyRecoverySchema,
)
from runtime.api.schemas.base import PageSchema
from runtime.database.pagination import Page
from runtime.errors import (
    CODE_REFUSED,
    NEW_PASSWORD_REFUSED,
    Forbidden,
    InvalidCode,
    InvalidRefreshToken,
    NothingToResend,
    Overloaded,
    SessionNotFound,
    TooManyRequests,
    UsernameTaken,
    UsernameTakenMeanwhile,
    UserNotFound,
    WrongCredentials,
)
from runtime.models.users import User
from runtime.services.accounts import (
    email_changes,
    recoveries,
    refreshes,
    sessions,
    sign_ins,
    users,
    verifications,
)
from runtime.services.accounts.token_pairs import TokenPair

blp = Blueprint(
    "Auth",
    __name__,
    url_prefix="/api/v1/auth",
    description="用邮件验证码注册与重设密码、会话、按邮箱查询账号。",
)


@blp.post("/verifications")
@public
@blp.arguments(CreateVerificationSchema)
@blp.response(202, CodeMailedSchema)
@blp.fails(UsernameTaken, *NEW_PASSWORD_REFUSED, TooManyRequests, Overloaded)
def create_verification(body: dict) -> dict:
    """创建验证码(注册发起)。

    验证码发往该邮箱，10 分钟内有效。邮箱是否已有账号，响应都相同；已有账号时，邮箱主人收到的是一封
    说明邮件，而不是验证码。从同一网络以相同的邮箱、用户名和密码再次请求，是同一个注册的新验证码。
    `redirect_to` 是邮件中链接的去处，须在 `REDIRECT_ALLOWLIST` 中，链接的查询参数会加上 `email` 和
    `token`。
    """
    verifications.begin(**body, caller=http.caller())
    return body


@blp.post("/verifications/resend")
@public
@blp.arguments(ResendVerificationSchema)
@blp.response(204)
@blp.fails(NothingToResend, TooManyRequests)
def resend_verification(body: dict) -> None:
    """重发验证码。

    为从该网络发起、等待验证的注册发送新的验证码；从其他网络请求时，为最近几个网络各自最新的注册发送。
    旧的验证码随即失效，可试的次数不会增加。邮箱是否有注册在等待，响应都相同；从该网络发起的注册都已
    试错五次时为 422，请重新注册。每个邮箱每分钟一次。
    """
    verifications.resend(**body, caller=http.caller())


@blp.post("/verifications/verify")
@public
@blp.arguments(CodeSchema)
@blp.response(200, SessionSchema)
@blp.fails(*CODE_REFUSED, UsernameTakenMeanwhile, TooManyRequests)
def verify_verification(body: dict) -> TokenPair:
    """验证码校验。

    创建该验证码所对应的账号，并登录。验证码只能用一次，每个注册最多试五次，之后请重新注册。

    同一邮箱若还有以相同用户名、从其他网络或用其他密码发起的注册在等待，新账号没有密码：会话照常有效，
    邮件会说明原因，密码请通过密码重设来设置。
    """
    return verifications.verify(email=body["email"], code=body["token"], caller=http.caller())


@blp.post("/recoveries")
@public
@blp.arguments(CreateRecoverySchema)
@blp.response(202, CodeMailedSchema)
@blp.fails(TooManyRequests)
def create_recovery(body: dict) -> dict:
    """创建密码重设(忘记密码)。

    验证码发往该邮箱，10 分钟内有效；没有账号的邮箱不会收到邮件，但响应都相同。需要新的验证码时再次
    创建即可。`redirect_to` 是邮件中链接的去处，须在 `REDIRECT_ALLOWLIST` 中，链接的查询参数会加上
    `email` 和 `token`。
    """
    recoveries.begin(**body, caller=http.caller())
    return body


@blp.post("/recoveries/verify")
@public
@blp.arguments(VerifyRecoverySchema)
@blp.response(200, SessionSchema)
@blp.fails(*CODE_REFUSED, *NEW_PASSWORD_REFUSED, TooManyRequests, Overloaded)
def verify_recovery(body: dict) -> TokenPair:
    """校验密码重设的验证码，设置新密码并登录。

    该账号的所有其他会话随即结束，其他验证码随即失效，邮箱主人会收到一封通知。验证码只能用一次，
    每个最多试五次，之后请重新创建。
    """
    return recoveries.verify(
        email=body["email"],
        code=body["token"],
        password=body["password"],
        caller=http.caller(),
    )


@blp.post("/email-restorations")
@public
@blp.arguments(CreateEmailRestorationSchema)
@blp.response(204)
@blp.fails(InvalidCode)
def create_email_restoration(body: dict) -> None:
    """撤销更换邮箱，恢复原来的邮箱。

    `token` 在发往原邮箱的邮件中，7 天内有效，只能用一次。该账号的所有会话随即结束，验证码随即失效，
    密码作废：之后请通过密码重设设置新密码。
    """
    email_changes.undo(body["token"], caller=http.caller())


@blp.post("/sessions")
@public
@blp.arguments(CreateSessionSchema)
@blp.response(200, SessionSchema)
@blp.fails(WrongCredentials, TooManyRequests, Overloaded)
def create_session(body: dict) -> TokenPair:
    """登录(创建会话)。

    该账号此前没有在这个设备和网络上登录过时，邮箱主人会收到一封邮件；账号的首次登录除外。

    他人不断尝试密码时，`refresh_token` 使登录过的设备仍能登录：15 分钟内 10 次，不计入其他限制。
    它不代替密码，也不会因此被使用或失效。
    """
    return sign_ins.sign_in(**body, caller=http.caller())


@blp.post("/sessions/refresh")
@public
@blp.arguments(RefreshTokenSchema)
@blp.response(200, SessionSchema)
@blp.fails(InvalidRefreshToken)
def refresh_session(body: dict) -> TokenPair:
    """刷新 Token。

    refresh token 只能用一次。10 秒内重复，或新的两个 token 都还没有用过时，再次得到同一个新的
    refresh token；除此之外再用旧 token 会立即结束整个会话 (RFC 9700 §4.14.2)。换了设备或网络的刷新
    记入安全事件。
    """
    return refreshes.refresh(body["refresh_token"], http.caller())


@blp.delete("/sessions")
@public
@blp.arguments(EndSessionsSchema)
@blp.response(204)
def delete_session(body: dict) -> None:
    """登出(删除会话)。

    该会话的 access token 从下一个请求起即被拒绝。无效的 token 也返回 204。

    `scope` 为 `others` 时改为结束该用户的其他会话，为 `all` 时结束全部会话。这需要尚可用于刷新的
    token，用其他 token 只会结束它自己的会话。
    """
    sessions.end(**body, caller=http.caller())


@blp.get("/sessions")
@blp.arguments(PageSchema, location="query")
@blp.response(200, SessionsSchema)
def list_sessions(query: dict) -> Page:
    """列出自己的会话(需要认证)。

    尚未结束的会话，最新的在前；`is_current` 是发出请求的这一个。`device` 得自登录时的 User-Agent，
    `network` 是登录时的网络；`last_device` 与 `last_network` 是最近一次刷新时的。
    """
    return sessions.list_live(current_session(), **query)


@blp.delete("/sessions/<uuid:session_id>")
@blp.response(204)
@blp.fails(SessionNotFound)
def end_session(session_id: UUID) -> None:
    """结束自己的一个会话(需要认证)。

    它的 access token 从下一个请求起即被拒绝。
    """
    sessions.end_one(current_user(), session_id, http.caller())


@blp.get("/users")
@blp.arguments(FindUserSchema, location="query")
@blp.response(200, FoundUserSchema)
@blp.fails(Forbidden, UserNotFound)
def find_user(query: dict) -> User:
    """按邮箱查询用户(需要认证)。

    只能查询自己的邮箱，管理员可以查询任何邮箱；查询他人的邮箱，无论是否有账号都是 403。
    """
    return users.get_by_email(query["email"], asker=current_user())
