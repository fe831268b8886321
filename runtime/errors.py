"""Everything that can go wrong on purpose, on one page: its status, its code, its sentences.

A failure is one class, and all that is said of it stands there, in the order of their statuses:
422, 401 and 403, 404 and 409, 429 and 503. Codes are part of the API: clients tell failures apart
by them, so that none is ever renamed. After a change run `flask routes-document`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

# The same in Chinese and in English, as `i18n.LANGUAGES` orders them.
Sentences = tuple[str, str]


class Failure(Exception):
    """What a person is told about: the HTTP status, the code for programs, the sentences."""

    status: int
    code: str
    sentences: Sentences


class StoreUnavailable(Exception):
    """Redis does not answer, or did not a moment ago. No answer tells it: others do its work."""


class EmailTaken(Exception):
    """An account has this address. Only operators are told."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one parameter.

    `where` is a JSON pointer into the body (RFC 6901, `#/email`) or a parameter's name, whatever
    that begins with; `message` is a sentence's code, followed by the numbers for its places:
    `too_long 30`.
    """

    where: str
    message: str
    is_in_body: bool = True

    @property
    def code(self) -> str:
        """The sentence's code alone, for programs."""
        return self.message.partition(" ")[0]


class InvalidParameters(Failure):
    """The request's parameters are wrong; `faults` says which and how.

    A failure that is about one parameter names it: `where`.
    """

    status = 422
    code = "invalid_parameters"
    sentences = ("请求参数无效", "The request's parameters are invalid.")
    where: str
    is_in_body = True

    def __init__(self, *faults: Fault):
        self.faults = faults or self.example_faults()
        super().__init__(*self.faults)

    @classmethod
    def example_faults(cls) -> tuple[Fault, ...]:
        """The faults of such a failure, for the document too."""
        return (Fault(cls.where, cls.code, cls.is_in_body),)


class UsernameTaken(InvalidParameters):
    """An account has this name; upper and lower case are the same."""

    code = "username_taken"
    sentences = ("用户名已被占用", "The username is taken.")
    where = "#/username"


class UsernameTakenMeanwhile(UsernameTaken):
    """The name was free at sign-up and is not at verification: the sign-up is over."""

    code = "username_taken_meanwhile"
    sentences = (
        "用户名已被他人占用，请换一个用户名重新注册",
        "The username was taken meanwhile. Please sign up again with another one.",
    )
    where = "#/email"


class WrongPassword(InvalidParameters):
    """A signed-in user gave another password than the account's."""

    code = "wrong_password"
    sentences = ("当前密码错误", "The current password is wrong.")
    where = "#/current_password"


class NoPassword(InvalidParameters):
    """The signed-in user's account has no password to give; a recovery sets one."""

    code = "no_password"
    sentences = (
        "该账号还没有密码，请先通过“忘记密码”设置",
        'Your account has no password yet. Please set one with "Forgot password" first.',
    )
    where = "#/current_password"


class CommonPassword(InvalidParameters):
    """The password is one of those that are tried first."""

    code = "common_password"
    sentences = (
        "密码太常见，请换一个更难猜的",
        "This password is among the first that are guessed. Please choose another one, such as a"
        " few words that have nothing to do with each other.",
    )
    where = "#/password"


class OwnNameAsPassword(InvalidParameters):
    """The password is the account's name or address, or little more."""

    code = "own_name_as_password"
    sentences = (
        "密码不能是自己的用户名或邮箱",
        "The password may not be your own username or email address, nor that with digits or"
        " signs added.",
    )
    where = "#/password"


class IdempotencyKeyReused(InvalidParameters):
    """The key was used before, with another body."""

    code = "idempotency_key_reused"
    sentences = (
        "该 Idempotency-Key 已用于另一个请求",
        "This Idempotency-Key was used with another request.",
    )
    where = "Idempotency-Key"
    is_in_body = False


class NothingNew(InvalidParameters):
    """The chat has all of the messages already, and nothing in it waits to be answered."""

    code = "nothing_new"
    sentences = ("没有新的消息", "There is no new message in it.")
    where = "#/messages"


class TooManyChats(InvalidParameters):
    """The user has as many chats as an account may have; to erase one makes room."""

    code = "too_many_chats"
    sentences = (
        "对话数量已达上限，请先删除不需要的对话",
        "You have as many chats as you may have. Please delete some first.",
    )

    @classmethod
    def example_faults(cls) -> tuple[Fault, ...]:
        """With the bound that is there unless an operator sets another."""
        return (Fault("#", "at_most_chats 10000"),)


class NotAuthenticated(Failure):
    """The request has no access token."""

    status = 401
    code = "not_authenticated"
    sentences = ("未认证", "You are not signed in.")


class InvalidAccessToken(Failure):
    """The access token means nothing, has run out, or its session is over."""

    status = 401
    code = "invalid_access_token"
    sentences = ("未认证", "Your sign-in has expired. Please sign in again.")


class InvalidRefreshToken(Failure):
    """The refresh token means nothing or its session is over."""

    status = 401
    code = "invalid_refresh_token"
    sentences = ("无效的 refresh token", "The refresh token is invalid.")


class WrongCredentials(Failure):
    """No account has this address and password together."""

    status = 401
    code = "wrong_credentials"
    sentences = ("邮箱或密码错误", "The email or the password is wrong.")


class InvalidCode(Failure):
    """The code is not the one that was mailed, or no longer good."""

    status = 401
    code = "invalid_code"
    sentences = ("验证码无效或已过期", "The code is invalid or has expired.")


class CodeUsedUp(InvalidCode):
    """All tries at the code are spent: its user must begin again."""

    code = "code_used_up"
    sentences = (
        "验证码已输错太多次，不再有效，请重新开始",
        "The code was mistyped too many times and is no longer valid. Please start again.",
    )


class InvalidEmailCode(InvalidParameters):
    """The code that a signed-in user gave is not the one mailed to the address, or has run out."""

    code, sentences = InvalidCode.code, InvalidCode.sentences
    where = "#/token"


class EmailCodeUsedUp(InvalidEmailCode):
    """All tries at the code for an address are spent: its user must begin again."""

    code, sentences = CodeUsedUp.code, CodeUsedUp.sentences


class NothingToResend(InvalidParameters):
    """What the asker began cannot be completed any more: they must begin again."""

    code, sentences = CodeUsedUp.code, CodeUsedUp.sentences
    where = "#/email"


class Forbidden(Failure):
    """The user is known, and may not."""

    status = 403
    code = "forbidden"
    sentences = ("无权限访问", "You have no access to this.")


class RecentSignInNeeded(Failure):
    """The user may, but has signed in too long ago: a stolen token alone does not do it."""

    status = 403
    code = "recent_sign_in_needed"
    sentences = (
        "距上次登录已超过 15 分钟，请重新登录后再试",
        "You signed in more than 15 minutes ago. Please sign in again to do this.",
    )


class AdministratorProtected(Forbidden):
    """The account is an administrator's: no other one may do this to it over HTTP."""

    code = "administrator_protected"
    sentences = (
        "不能停用、启用或删除管理员的账号，请联系运维人员",
        "An administrator's account can only be disabled, enabled or deleted by an operator.",
    )


class SessionNotFound(Failure):
    """There is no such session of this user's, or it is over."""

    status = 404
    code = "session_not_found"
    sentences = ("会话不存在或已结束", "There is no such session, or it has ended.")


class UserNotFound(Failure):
    """No account has this name or address."""

    status = 404
    code = "user_not_found"
    sentences = ("用户不存在", "There is no such user.")


class ChatNotFound(Failure):
    """There is no such chat of this user's."""

    status = 404
    code = "chat_not_found"
    sentences = ("对话不存在", "There is no such chat.")


class RunNotFound(Failure):
    """There is no such run in this chat of this user's."""

    status = 404
    code = "run_not_found"
    sentences = ("该次回答不存在", "There is no such run in this chat.")


class ChatBusy(Failure):
    """Another run in this chat has not ended."""

    status = 409
    code = "chat_busy"
    sentences = (
        "上一条消息仍在处理中，请稍候",
        "The previous message is still being answered. Please wait.",
    )


class RunReplaced(Failure):
    """The run that is to be replaced has been replaced by another meanwhile."""

    status = 409
    code = "run_replaced"
    sentences = (
        "这条消息已被修改或重新回答，请刷新对话",
        "This message has been edited or answered anew meanwhile. Please reload the chat.",
    )


class TooManyRequests(Failure):
    """A limit is reached; asking again makes sense after `retry_after` seconds.

    `sentences_with_wait` are the same sentences, with a place for how long that is.
    """

    status = 429
    code = "too_many_requests"
    sentences = ("请求过于频繁", "Too many requests. Please try again later.")
    sentences_with_wait = (
        "请求过于频繁，请 {}后再试",
        "Too many requests. Please try again in {}.",
    )

    def __init__(self, retry_after: float):
        super().__init__(retry_after)
        self.retry_after = retry_after

    @property
    def seconds_to_wait(self) -> int:
        """`retry_after` in whole seconds, at least one."""
        return max(1, math.ceil(self.retry_after))


class OutOfTokens(TooManyRequests):
    """The user's tokens of the day are used up."""

    code = "out_of_tokens"
    sentences = (
        "今天的用量已用完，请明天再试",
        "Today's allowance is used up. Please try again tomorrow.",
    )
    sentences_with_wait = (
        "今天的用量已用完，请 {}后再试",
        "Today's allowance is used up. Please try again in {}.",
    )


class DayFull(TooManyRequests):
    """The user has written as much as they may in a day."""

    code = "day_full"
    sentences = (
        "今天发送的内容已达上限，请明天再试",
        "You have written as much as you may in a day. Please go on tomorrow.",
    )
    sentences_with_wait = (
        "今天发送的内容已达上限，请 {}后再试",
        "You have written as much as you may in a day. Please try again in {}.",
    )


class Overloaded(TooManyRequests):
    """More hashes are asked for than the cores can do soon."""

    code = "overloaded"
    sentences = ("请求过于频繁", "The server is busy. Please try again in a moment.")
    sentences_with_wait = (
        "请求过于频繁，请 {}后再试",
        "The server is busy. Please try again in {}.",
    )


class Unavailable(Failure):
    """A server that this service needs is away."""

    status = 503
    code = "unavailable"
    sentences = (
        "服务暂时不可用，请稍后再试",
        "The service is unavailable for the moment. Please try again.",
    )
    seconds_to_wait = 1


# What several routes refuse for.
CODE_REFUSED = (InvalidCode, CodeUsedUp)
NEW_PASSWORD_REFUSED = (CommonPassword, OwnNameAsPassword)
CURRENT_PASSWORD_REFUSED = (WrongPassword, NoPassword, TooManyRequests, Overloaded)
ADMINISTRATOR_REFUSED = (Forbidden, RecentSignInNeeded, TooManyRequests)
RUN_REFUSED = (
    ChatNotFound,
    ChatBusy,
    RunReplaced,
    TooManyRequests,
    OutOfTokens,
    DayFull,
    TooManyChats,
)


def _kinds_of(kind: type[Failure]) -> list[type[Failure]]:
    return [each for child in kind.__subclasses__() for each in (child, *_kinds_of(child))]


FAILURES = tuple(_kinds_of(Failure))


@dataclass(frozen=True)
class Refusal:
    """What the framework or the server refuses for its status alone. It is never raised here."""

    status: int
    code: str
    sentences: Sentences


BAD_REQUEST = Refusal(400, "bad_request", ("请求格式错误", "The request is malformed."))
CONTENT_TOO_LARGE = Refusal(413, "content_too_large", ("请求内容过大", "The request is too large."))
SERVER_ERROR = Refusal(
    500, "server_error", ("服务器内部错误，请稍后再试", "Something went wrong on our side.")
)

_OTHERS: Mapping[int, tuple[str, Sentences]] = {
    404: ("not_found", ("请求的地址不存在", "There is nothing at this address.")),
    405: ("method_not_allowed", ("不支持该请求方法", "This method is not allowed here.")),
    406: ("not_acceptable", ("无法提供所要求的格式", "The requested format is not available.")),
    408: ("request_timeout", ("请求超时", "The request took too long to arrive.")),
    414: ("uri_too_long", ("请求地址过长", "The address is too long.")),
    417: (
        "expectation_failed",
        ("无法满足请求头 Expect 的要求", "What the Expect header asks for is not offered."),
    ),
    431: ("header_fields_too_large", ("请求头过大", "The request's headers are too large.")),
    501: ("not_implemented", ("不支持的传输编码", "This transfer coding is not supported.")),
}

REFUSALS: Mapping[int, Refusal] = {
    **{status: Refusal(status, *said) for status, said in _OTHERS.items()},
    **{refusal.status: refusal for refusal in (BAD_REQUEST, CONTENT_TOO_LARGE, SERVER_ERROR)},
}
