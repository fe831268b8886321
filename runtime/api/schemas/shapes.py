"""Every shape on the wire, in the route document's words.

A field's messages are codes of `runtime.i18n`, with the numbers for their places behind them.
"""

import ipaddress
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime

import marshmallow as ma
from marshmallow import validate

from runtime.agent import events
from runtime.api.schemas import avatar_urls
from runtime.database.pagination import CURSOR
from runtime.mail.addresses import tidy
from runtime.security.passwords import normalized
from runtime.services.accounts.security_log import Kind

ID = "3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11"
_MESSAGE_ID = "7d0e6f0a-6df5-4f4f-9a7c-6f7b0b6b0f7e"
RUN_STATUSES = ("running", "finished", "failed", "stopped")
MAX_MESSAGE_CHARS = 8000
# As many as OpenAI takes.
MAX_TOOLS = 128
# So many faults are told of one request.
MAX_FAULTS = 20


class String(ma.fields.String):
    """Text of bounded length that matches `pattern`, for Python and ECMA-262 alike, as a whole."""

    default_error_messages = {
        "required": "required",
        "null": "not_null",
        "invalid": "not_a_string",
    }

    def __init__(self, *, low=None, high=None, pattern=None, mismatch=None, example=None, **kwargs):
        metadata = kwargs.pop("metadata", {})
        if pattern:
            metadata = {"pattern": f"^{pattern}$", **metadata}
        if example is not None:
            metadata = {"examples": [example], **metadata}
        super().__init__(metadata=metadata, validate=_length(low, high), **kwargs)
        # Compiled at its first use, and kept by `re`: a URL's takes 5 ms of every start.
        self._pattern = pattern
        self.mismatch = mismatch

    def _validate(self, value):
        super()._validate(value)
        if self._pattern and not re.fullmatch(self._pattern, value):
            raise ma.ValidationError(self.mismatch)


def _length(low: int | None, high: int | None) -> list:
    checks = []
    if low is not None:
        checks.append(validate.Length(min=low, error=f"too_short {low}"))
    if high is not None:
        checks.append(validate.Length(max=high, error=f"too_long {high}"))
    return checks


class Word(String):
    """One of a few words."""

    def __init__(self, *words: str, **kwargs):
        metadata = {"enum": [str(word) for word in words], **kwargs.pop("metadata", {})}
        super().__init__(metadata=metadata, **kwargs)


class Choice(Word):
    """One of a few words, in a request."""

    def __init__(self, *words: str, **kwargs):
        super().__init__(*words, **kwargs)
        self.validators = [validate.OneOf(words, error=f"not_one_of {'/'.join(words)}")]


class Whole(ma.fields.Integer):
    """A whole number in a query or a path, in ASCII digits: int() would take `3_0` and `٣` too."""

    def __init__(self, low: int, high: int, **kwargs):
        self._error = f"not_between {low} {high}"
        super().__init__(validate=validate.Range(low, high, error=self._error), **kwargs)

    def _validated(self, value):
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise ma.ValidationError(self._error)
        return int(value)


class Cursor(String):
    """Where a page begins; an earlier page of the same list names it."""

    def __init__(self, **kwargs):
        super().__init__(
            pattern=CURSOR,
            mismatch="not_a_cursor",
            example="0654b5c1a2f80b74c1d0e8f3a4e5b9c6d7e8f90a1b2c3d",
            **kwargs,
        )


class Email(String):
    """An address of ASCII letters, in the form that mail servers really take.

    In a request it may be as people type it: see `addresses.tidy`.
    """

    _ATOM = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+"
    _LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

    def __init__(self, **kwargs):
        super().__init__(
            high=254,
            pattern=rf"(?=.{{1,64}}@){self._ATOM}(?:\.{self._ATOM})*@(?:{self._LABEL}\.)+[A-Za-z]"
            r"(?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])",
            mismatch="not_an_email",
            example="ada@example.org",
            metadata={"format": "email"},
            **kwargs,
        )

    def _deserialize(self, value, attr, data, **kwargs):
        text = super()._deserialize(value, attr, data, **kwargs)
        # To look at each character of what a body may hold takes long, and it is refused anyway.
        return tidy(text) if len(text) <= 1000 else text


class MailedSecret(String):
    """A code or a key out of a mail; ASCII spaces around it are taken away, as for an address."""

    def _deserialize(self, value, attr, data, **kwargs):
        return super()._deserialize(value, attr, data, **kwargs).strip(" ")


class Username(String):
    """3 to 30 ASCII letters, digits and underscores."""

    def __init__(self, **kwargs):
        super().__init__(
            low=3,
            high=30,
            pattern=r"[A-Za-z0-9_]+",
            mismatch="not_a_username",
            example="ada",
            **kwargs,
        )


class Password(String):
    """6 to 128 characters, whichever, as they were typed."""

    _HIGH = 128
    # What any one character comes apart into, at most (Unicode's NFD).
    _PARTS = 4

    def __init__(self, **kwargs):
        metadata = {"format": "password"}
        super().__init__(
            low=6, high=self._HIGH, example="correct horse", metadata=metadata, **kwargs
        )

    def _validate(self, value):
        # As it is hashed: the same password for every keyboard is as long for every keyboard. Only
        # what may be short enough: a long row of accents takes the square of its length to order,
        # half a minute for what a body may hold, and no other thread runs meanwhile.
        may_fit = len(value) <= self._HIGH * self._PARTS
        super()._validate(normalized(value) if may_fit else value)


class NewPassword(Password):
    """One that an account is to have from now on; `credentials.demand_strong` says which may be."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.metadata["description"] = (
            "不能是最常见的密码（不分大小写）；也不能是自己的用户名或邮箱，前后加上数字或符号也不行；"
            "`PASSWORD_MIN_LENGTH` 可要求更长。"
        )


class PlainText(String):
    """Text that Postgres can keep: all but NUL."""

    def __init__(self, **kwargs):
        super().__init__(pattern=r"[^\u0000]*", mismatch="invalid_character", **kwargs)


class WebURL(String):
    """An absolute http or https URL (RFC 3986, RFC 3987), without user information."""

    _HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    _PORT = (
        r"(?::(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}))?"
    )
    _CHARACTER = (
        r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef-]"
        r"|%[0-9A-Fa-f]{2})"
    )
    _REST = rf"(?:/{_CHARACTER}*)?(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?"

    def __init__(self, *, metadata=None, **kwargs):
        super().__init__(
            high=2048,
            pattern=rf"[Hh][Tt][Tt][Pp][Ss]?://{self._HOST}{self._PORT}{self._REST}",
            mismatch="not_a_url",
            metadata={"format": "iri", **(metadata or {})},
            **kwargs,
        )

    def _validate(self, value):
        super()._validate(value)
        literal = re.match(r"(?i:https?)://\[(.*?)\]", value)
        if literal and not _is_ipv6(literal[1]):
            raise ma.ValidationError(self.mismatch)


class AvatarURL(String):
    """An absolute http or https URL, as browsers take it, without user information."""

    def __init__(self, **kwargs):
        super().__init__(
            high=2048,
            allow_none=True,
            example="https://example.org/ada.png",
            metadata={
                "pattern": f"^{avatar_urls.PATTERN}$",
                "description": "http 或 https 的完整网址，原样保存；服务器不会访问它。",
            },
            **kwargs,
        )

    def _validate(self, value):
        super()._validate(value)
        if fault := avatar_urls.fault_of(value):
            raise ma.ValidationError(fault)


class RedirectTo(WebURL):
    """Where the link in a mail leads: in ASCII, so that no text of the asker's is in the mail."""

    def __init__(self, **kwargs):
        super().__init__(
            allow_none=True,
            load_default=None,
            metadata={
                "description": "邮件中链接的去处，须在 REDIRECT_ALLOWLIST 中；只能有 ASCII 字符，"
                "查询与片段中不能有名为 `email`、`token` 或 `restoration` 的参数。"
            },
            **kwargs,
        )

    def _validate(self, value):
        super()._validate(value)
        if not value.isascii():
            raise ma.ValidationError(self.mismatch)


def _is_ipv6(text: str) -> bool:
    """More than a pattern can say; urlsplit() raises on one that is no address."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class Id(ma.fields.UUID):
    """A UUID in its usual form (RFC 9562 §4)."""

    def __init__(self, *, metadata=None, **kwargs):
        super().__init__(metadata={"examples": [ID], **(metadata or {})}, **kwargs)

    default_error_messages = {"null": "not_null", "invalid_uuid": "not_a_uuid"}

    def _validated(self, value):
        # uuid.UUID() would take braces, a URN prefix and misplaced hyphens too.
        if isinstance(value, uuid.UUID):
            return value
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise self.make_error("invalid_uuid")
        return uuid.UUID(value)


_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Instant(ma.fields.Field):
    """An instant in UTC, ISO 8601 with `Z`."""

    def __init__(self, *, metadata=None, **kwargs):
        shape = {"type": "string", "format": "date-time", "examples": ["2026-11-22T10:15:00.000Z"]}
        super().__init__(metadata={**shape, **(metadata or {})}, **kwargs)

    def _serialize(self, value: datetime | None, attr, obj, **kwargs):
        return value and value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Schema(ma.Schema):
    """A request. What is not named in it is refused."""

    error_messages = {"unknown": "unknown_field", "type": "not_an_object"}


class PageSchema(Schema):
    """What every list takes."""

    cursor = Cursor(
        load_default=None, metadata={"description": "上一页的 next_cursor；省略则从最新的开始。"}
    )
    limit = Whole(1, 100, load_default=20)


class AnswerSchema(ma.Schema):
    """An answer. More fields may come one day, so that a reader must not refuse them."""

    class Meta:
        unknown = ma.EXCLUDE


# Accounts


class CreateVerificationSchema(Schema):
    username = Username(required=True)
    email = Email(required=True)
    password = NewPassword(required=True)
    redirect_to = RedirectTo(example="https://app.example.org/verify")


class CodeMailedSchema(AnswerSchema):
    """Whether or not there was anybody to mail one to."""

    email = Email(required=True)


class ResendVerificationSchema(Schema):
    email = Email(required=True)


class CodeSchema(Schema):
    """A code, and the address that it was mailed to."""

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
        metadata={"description": "此前在这个设备上得到的 refresh token，会话已结束的也可以。"},
    )


class RefreshTokenSchema(Schema):
    refresh_token = String(required=True, example="b74c1d0e….1.dNhltmw2…")


class EndSessionsSchema(RefreshTokenSchema):
    scope = Choice(
        "this",
        "others",
        "all",
        load_default="this",
        metadata={"description": "结束哪些会话：该 token 的、该用户其他的，或全部。"},
    )


def _last_caller() -> tuple[ma.fields.Field, ma.fields.Field]:
    """The fields for the device and the network that a session was used from last."""
    sentence = {"description": "最近一次登录或刷新时的；与登录时不同，即换过设备或网络。"}
    device = String(
        required=True,
        allow_none=True,
        attribute="last_caller.device",
        example="Chrome · Windows",
        metadata=sentence,
    )
    network = String(
        required=True, attribute="last_caller.network", example="198.51.100.7", metadata=sentence
    )
    return device, network


class ListedSessionSchema(AnswerSchema):
    id = Id(required=True)
    created_at = Instant(required=True)
    last_used_at = Instant(
        required=True,
        attribute="refreshed_at",
        metadata={"description": "最近一次登录或刷新；使用中的会话至少每小时刷新一次。"},
    )
    device = String(required=True, allow_none=True, example="Chrome · Windows")
    network = String(required=True, example="198.51.100.7")
    last_device, last_network = _last_caller()
    is_current = ma.fields.Boolean(required=True, metadata={"examples": [True]})


class SessionsSchema(AnswerSchema):
    sessions = ma.fields.List(
        ma.fields.Nested(ListedSessionSchema), required=True, attribute="rows"
    )
    next_cursor = Cursor(required=True, allow_none=True)


class AccountSchema(AnswerSchema):
    id = Id(required=True)
    email = Email(required=True)


class SessionSchema(AnswerSchema):
    access_token = String(required=True, example="b74c1d0e….1.1795382544.2o-peyO_…")
    refresh_token = String(required=True, example="b74c1d0e….1.dNhltmw2…")
    expires_in = ma.fields.Integer(
        required=True, metadata={"minimum": 1, "examples": [3600], "description": "秒"}
    )
    token_type = Word("bearer", required=True)
    user = ma.fields.Nested(AccountSchema, required=True)


class FindUserSchema(Schema):
    email = Email(required=True)


class FoundUserSchema(AnswerSchema):
    id = Id(required=True)
    email = Email(required=True)
    created_at = Instant(required=True)
    email_confirmed_at = Instant(required=True, allow_none=True)


# Users


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
    network = String(
        required=True,
        allow_none=True,
        example="198.51.100.7",
        metadata={"description": "来自哪个网络；null 表示由运维人员操作。"},
    )
    device = String(required=True, allow_none=True, example="Chrome · Windows")
    session_id = Id(required=True, allow_none=True)


class SecurityEventsSchema(AnswerSchema):
    events = ma.fields.List(ma.fields.Nested(SecurityEventSchema), required=True, attribute="rows")
    next_cursor = Cursor(required=True, allow_none=True)


# Agent chats


class CreateRunSchema(Schema):
    message = PlainText(required=True, low=1, high=MAX_MESSAGE_CHARS, example="现在几点？")
    session_id = Id(
        allow_none=True,
        load_default=None,
        metadata={
            "description": "新的 UUID 成为新对话的 id；自己的对话则继续。",
        },
    )


class OpenSchema(ma.Schema):
    """A request in somebody else's protocol. What is not named in it is left alone."""

    error_messages = {"type": "not_an_object"}

    class Meta:
        unknown = ma.EXCLUDE


class Many(ma.fields.List):
    """Objects of one shape."""

    default_error_messages = {
        "required": "required",
        "null": "not_null",
        "invalid": "not_a_list",
    }

    def __init__(self, schema: type[ma.Schema], *, high: int | None = None, **kwargs):
        super().__init__(
            ma.fields.Nested(schema, error_messages={"null": "not_an_object"}),
            validate=validate.Length(max=high) if high else None,
            **kwargs,
        )
        self._high = high

    def _deserialize(self, value, *args, **kwargs):
        # Before they are read, which takes marshmallow 50 microseconds for each.
        if self._high and isinstance(value, list) and len(value) > self._high:
            raise ma.ValidationError(f"too_many {self._high}")
        return super()._deserialize(value, *args, **kwargs)


class AgUiMessageSchema(OpenSchema):
    """One message as an AG-UI client holds it, with all that it has, under AG-UI's names."""

    example = {"id": "b1f6c1e4", "role": "user", "content": "现在几点？"}

    id = String(required=True, low=1, high=255)
    role = String(required=True)
    content = ma.fields.Raw(allow_none=True)
    toolCallId = String(allow_none=True)

    class Meta:
        unknown = ma.INCLUDE


class AgUiMessages(Many):
    """All that a client holds, every time; marshmallow would need 50 microseconds for each."""

    def __init__(self, **kwargs):
        super().__init__(AgUiMessageSchema, **kwargs)

    def _deserialize(self, value, *args, **kwargs):
        if not isinstance(value, list):
            return super()._deserialize(value, *args, **kwargs)
        faults = {}
        for number, each in enumerate(value):
            if _is_message(each):
                continue
            try:
                self.inner.deserialize(each, **kwargs)
            except ma.ValidationError as error:
                faults[number] = error.messages
            if len(faults) == MAX_FAULTS:
                break
        if faults:
            raise ma.ValidationError(faults)
        return value


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and 0 < len(value["id"]) <= 255
        and isinstance(value.get("role"), str)
        and isinstance(value.get("toolCallId"), str | None)
    )


class AgUiToolSchema(OpenSchema):
    example = {
        "name": "confirm",
        "description": "Ask the user to confirm something.",
        "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
    }

    name = String(
        required=True,
        low=1,
        high=64,
        pattern=r"[A-Za-z0-9_-]+",
        mismatch="not_a_tool_name",
    )
    description = PlainText(allow_none=True, load_default=None)
    parameters = ma.fields.Dict(
        allow_none=True, load_default=None, error_messages={"invalid": "not_an_object"}
    )


class RunAgentInputSchema(OpenSchema):
    example = {
        "threadId": ID,
        "runId": "9b2f6f5e-2f0b-4d0c-8f57-6a4f1f6f1f0a",
        "protocolVersion": "1.0",
        "messages": [AgUiMessageSchema.example],
        "tools": [AgUiToolSchema.example],
    }

    thread_id = String(data_key="threadId", required=True, low=1, high=255)
    run_id = String(data_key="runId", required=True, low=1, high=255)
    protocol_version = String(data_key="protocolVersion", allow_none=True, load_default=None)
    messages = AgUiMessages(required=True)
    tools = Many(AgUiToolSchema, high=MAX_TOOLS, allow_none=True, load_default=None)


class ResumeSchema(Schema):
    after = String(
        data_key="Last-Event-ID",
        pattern=r"[0-9]{1,9}",
        mismatch="not_an_event_id",
        load_default="0",
        example="17",
    )


class CreateRunHeadersSchema(ResumeSchema):
    key = String(
        data_key="Idempotency-Key",
        low=1,
        high=255,
        pattern=r"[!-~]+",
        mismatch="not_an_idempotency_key",
        load_default=None,
        example="8e03978e-40d5-43dd-bc93-6894a57f9324",
    )


class ChangeChatSchema(Schema):
    title = PlainText(
        required=True,
        low=1,
        high=100,
        allow_none=True,
        example="东京的天气",
        metadata={"description": "null 恢复由第一条消息而来的标题。"},
    )


class ChatSchema(AnswerSchema):
    session_id = Id(required=True, attribute="id")
    title = String(required=True, attribute="name", example="东京的天气")
    created_at = Instant(required=True)
    active_at = Instant(
        required=True,
        attribute="last_active_at",
        metadata={"description": "最近一条消息的时间"},
    )


class ChatsSchema(AnswerSchema):
    chats = ma.fields.List(ma.fields.Nested(ChatSchema), required=True, attribute="rows")
    next_cursor = Cursor(required=True, allow_none=True)


class ToolCallSchema(AnswerSchema):
    tool_call_id = String(required=True, attribute="id", example="call_1")
    tool_name = String(required=True, attribute="name", example="current_time")
    arguments = String(required=True, example='{"zone": "Asia/Tokyo"}')
    result = String(
        required=True,
        allow_none=True,
        example='{"time": "19:15"}',
        metadata={"description": "还没有结果时为 null"},
    )


_RUN_ERROR = "模型暂时无法连接，请稍后再试"


class MessageSchema(AnswerSchema):
    id = String(required=True, example=_MESSAGE_ID)
    run_id = Id(required=True, attribute="run.id")
    status = Word(*RUN_STATUSES, required=True, attribute="run.status")
    created_at = Instant(required=True, attribute="run.created_at")
    role = Word("user", "assistant", required=True)
    content = String(required=True, example="现在是 19:15。")
    reasoning = String(
        required=True,
        allow_none=True,
        example="用户想知道现在的时间。",
        metadata={"description": "模型作答之前的思考；null 表示没有。"},
    )
    tool_calls = ma.fields.List(ma.fields.Nested(ToolCallSchema), required=True)
    error = String(required=True, allow_none=True, attribute="run.reason", example=_RUN_ERROR)


class MessagesSchema(AnswerSchema):
    messages = ma.fields.List(ma.fields.Nested(MessageSchema), required=True, attribute="rows")
    next_cursor = Cursor(required=True, allow_none=True)


class RunStateSchema(AnswerSchema):
    id = Id(required=True)
    session_id = Id(required=True, attribute="chat_id")
    status = Word(*RUN_STATUSES, required=True)
    error = String(required=True, allow_none=True, attribute="reason", example=_RUN_ERROR)
    input_tokens = ma.fields.Integer(
        required=True, allow_none=True, metadata={"minimum": 0, "examples": [128]}
    )
    output_tokens = ma.fields.Integer(
        required=True, allow_none=True, metadata={"minimum": 0, "examples": [42]}
    )
    created_at = Instant(required=True)
    finished_at = Instant(required=True, allow_none=True)


class BudgetSchema(AnswerSchema):
    limit = ma.fields.Integer(
        required=True, allow_none=True, metadata={"minimum": 1, "examples": [200_000]}
    )
    left = ma.fields.Integer(
        required=True, allow_none=True, metadata={"minimum": 0, "examples": [151_200]}
    )
    resets_at = Instant(required=True)


_EVENT_TYPES = [event.type for event in events.Event.__subclasses__()]
_RUN_ID = "9b2f6f5e-2f0b-4d0c-8f57-6a4f1f6f1f0a"


def _event(kind: type[events.Event], **fields: str) -> dict:
    return kind(_RUN_ID, **fields).to_dict()


class EventSchema(AnswerSchema):
    """One event of AG-UI; fields that an event has not are left out."""

    example = _event(events.TextMessageContent, message_id=_MESSAGE_ID, delta="现在是 10:15。")

    type = Word(*_EVENT_TYPES, required=True)
    run_id = String(required=True)
    message_id = String()
    delta = String(low=1)
    tool_call_id = String()
    tool_name = String()
    result = String()
    output = String()
    error = String()


class Events(ma.fields.List):
    """Events as the journal has them: on the wire's own shape already."""

    def __init__(self, **kwargs):
        super().__init__(ma.fields.Nested(EventSchema), **kwargs)

    def _serialize(self, value: list[dict], attr, obj, **kwargs):
        return value


class RunSchema(AnswerSchema):
    example = {
        "session_id": ID,
        "output": "现在是 10:15。",
        "events": [
            _event(events.RunStarted),
            _event(events.TextMessageStart, message_id=_MESSAGE_ID),
            EventSchema.example,
            _event(events.TextMessageEnd, message_id=_MESSAGE_ID),
            _event(events.RunFinished, output="现在是 10:15。"),
        ],
    }

    session_id = Id(required=True)
    output = String(required=True)
    events = Events(required=True)


# Export


class Lazy(ma.fields.List):
    """A list of any length: what is made of its members comes one by one, when it is asked for."""

    def __init__(self, schema: type[ma.Schema], **kwargs):
        super().__init__(ma.fields.Nested(schema), required=True, **kwargs)

    def _serialize(self, value: Iterable, attr, obj, **kwargs) -> Iterator[dict]:
        return (self.inner._serialize(each, attr, obj, **kwargs) for each in value)


class ExportedUserSchema(UserSchema):
    email = Email(required=True)
    is_admin = ma.fields.Boolean(required=True, metadata={"examples": [False]})
    created_at = Instant(required=True)
    email_confirmed_at = Instant(required=True, allow_none=True)
    signed_in_at = Instant(required=True, allow_none=True)
    language = String(
        required=True,
        allow_none=True,
        example="zh",
        metadata={"description": "邮件所用的语言，即上次登录或刷新时的语言；null 表示未知。"},
    )


class ExportedCodedSchema(AnswerSchema):
    id = Id(required=True)
    created_at = Instant(required=True)
    email = Email(required=True)
    network = String(required=True, example="198.51.100.7")
    redirect_to = WebURL(required=True, allow_none=True, example="https://app.example.org/verify")
    code_expires_at = Instant(required=True)


class ExportedSignUpSchema(ExportedCodedSchema):
    username = Username(required=True)
    device = String(required=True, allow_none=True, example="Chrome · Windows")


class ExportedEmailChangeSchema(ExportedCodedSchema):
    # Before it was proven it may be another's; one who left has a keyed hash there, others not.
    email = Email(required=True, allow_none=True, attribute="proven_email")
    old_email = Email(required=True)
    changed_at = Instant(required=True, allow_none=True)


class ExportedSessionSchema(AnswerSchema):
    id = Id(required=True)
    created_at = Instant(required=True)
    last_used_at = Instant(required=True, attribute="refreshed_at")
    ended_at = Instant(required=True, allow_none=True)
    device = String(required=True, allow_none=True, example="Chrome · Windows")
    network = String(required=True, example="198.51.100.7")
    last_device, last_network = _last_caller()


class InputMessageSchema(AnswerSchema):
    id = String(required=True, example=_MESSAGE_ID)
    text = String(required=True, example="现在几点？")
    tool_call_id = String(required=True, allow_none=True, example="call_1")


class ShownMessageSchema(AnswerSchema):
    id = String(required=True, example=_MESSAGE_ID)
    role = Word("user", "assistant", required=True)
    content = String(required=True, example="现在是 19:15。")
    tool_calls = ma.fields.List(ma.fields.Nested(ToolCallSchema), required=True)


class ExportedEventSchema(EventSchema):
    example = {"id": 3, **EventSchema.example}

    id = ma.fields.Integer(required=True, metadata={"minimum": 1, "examples": [1]})


_TOKENS = {"minimum": 0, "examples": [128]}


class ExportedRunSchema(AnswerSchema):
    id = Id(required=True, attribute="run.id")
    created_at = Instant(required=True, attribute="run.created_at")
    finished_at = Instant(required=True, allow_none=True, attribute="run.finished_at")
    stop_requested_at = Instant(required=True, allow_none=True, attribute="run.stop_requested_at")
    status = Word(*RUN_STATUSES, required=True, attribute="run.status")
    error = String(
        required=True, allow_none=True, attribute="run.error", example="provider_timeout"
    )
    input_tokens = ma.fields.Integer(
        required=True, allow_none=True, attribute="run.input_tokens", metadata=_TOKENS
    )
    output_tokens = ma.fields.Integer(
        required=True, allow_none=True, attribute="run.output_tokens", metadata=_TOKENS
    )
    brought = ma.fields.List(
        ma.fields.Nested(InputMessageSchema),
        required=True,
        attribute="run.input_messages",
        metadata={"description": "这次运行收到的消息与工具结果。"},
    )
    messages = ma.fields.List(ma.fields.Nested(ShownMessageSchema), required=True)
    events = ma.fields.List(ma.fields.Nested(ExportedEventSchema), required=True)


class ExportedChatSchema(AnswerSchema):
    session_id = Id(required=True, attribute="chat.id")
    title = String(
        required=True,
        allow_none=True,
        attribute="chat.title",
        example="东京的天气",
        metadata={"description": "null 表示以第一条消息为标题。"},
    )
    created_at = Instant(required=True, attribute="chat.created_at")
    active_at = Instant(required=True, attribute="chat.last_active_at")
    runs = Lazy(ExportedRunSchema)


class SpendingSchema(AnswerSchema):
    day = ma.fields.Date(required=True, metadata={"examples": ["2026-11-22"]})
    tokens = ma.fields.Integer(required=True, metadata={"minimum": 0, "examples": [48_800]})
    chars = ma.fields.Integer(
        required=True, allow_none=True, metadata={"minimum": 0, "examples": [12_000]}
    )
    chats = ma.fields.Integer(
        required=True, allow_none=True, metadata={"minimum": 0, "examples": [12]}
    )


class ExportSchema(AnswerSchema):
    """Everything that is kept of one user, table by table."""

    exported_at = Instant(required=True)
    user = ma.fields.Nested(ExportedUserSchema, required=True)
    sign_ups = Lazy(ExportedSignUpSchema)
    recoveries = Lazy(ExportedCodedSchema)
    email_changes = Lazy(ExportedEmailChangeSchema)
    sessions = Lazy(ExportedSessionSchema)
    events = Lazy(SecurityEventSchema)
    spendings = Lazy(SpendingSchema)
    chats = Lazy(ExportedChatSchema)


# Health


class ServiceHealthSchema(AnswerSchema):
    example = {"status": "healthy", "latency_ms": 0.4}

    status = Word("healthy", "unhealthy", required=True)
    latency_ms = ma.fields.Float(required=True, metadata={"minimum": 0, "examples": [0.4]})
    mode = Word("embedded")


class ServicesHealthSchema(AnswerSchema):
    redis = ma.fields.Nested(ServiceHealthSchema, required=True)
    database = ma.fields.Nested(ServiceHealthSchema, required=True)


class InfraHealthSchema(AnswerSchema):
    status = Word("healthy", "unhealthy", required=True)
    services = ma.fields.Nested(ServicesHealthSchema, required=True)


class HealthSchema(AnswerSchema):
    status = Word("ok", required=True)


# Errors


class Code(String):
    """What happened, for programs; new ones may come one day."""

    def __init__(self, **kwargs):
        metadata = {"description": "固定不变的代码，供程序判断；将来可能增加。"}
        super().__init__(pattern="[a-z0-9_]+", mismatch="", metadata=metadata, **kwargs)


class FaultSchema(AnswerSchema):
    """Where a parameter is, in the body or outside it, and what is wrong with it."""

    example = {"pointer": "#/email", "code": "not_an_email", "detail": "邮箱格式不正确"}

    pointer = String(
        metadata={"format": "uri-reference", "description": "请求体中的位置 (RFC 6901 §6)"}
    )
    parameter = String(metadata={"description": "查询或路径参数的名称"})
    code = Code(required=True, example="not_an_email")
    detail = String(required=True, low=1)


class ProblemSchema(AnswerSchema):
    """RFC 9457, which replaced RFC 7807."""

    type = Word("about:blank", required=True)
    title = String(required=True, example="Unauthorized")
    status = ma.fields.Integer(
        required=True, metadata={"minimum": 400, "maximum": 599, "examples": [401]}
    )
    code = Code(required=True, example="not_authenticated")
    detail = String(required=True, low=1, example="未认证")
    instance = String(
        required=True, example="/api/v1/users/me", metadata={"format": "uri-reference"}
    )


class InvalidParametersSchema(ProblemSchema):
    example = {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "invalid_parameters",
        "detail": "请求参数无效",
        "instance": "/api/v1/auth/sessions",
        "errors": [FaultSchema.example],
    }

    errors = ma.fields.List(
        ma.fields.Nested(FaultSchema), required=True, validate=validate.Length(min=1)
    )
