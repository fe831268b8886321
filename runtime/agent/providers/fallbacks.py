"""Fallbacks: how a request changes after a server has refused it.

Each has a name: that of the member that is left out or written differently (`stream_options`,
`max_tokens`), or one of those below. The dialects write the request, `strict_history` the
conversation.

Nothing that one user sends may change what is asked for another. A fallback is remembered only if
the server accepted the changed request, if all its tools were the service's own, and if no words of
a user in it could be what the server quoted; and for minutes.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from runtime.agent.messages import Message
from runtime.agent.providers.request import BOUNDS, StepRequest
from runtime.agent.providers.server_error import UNKNOWN, ServerError, are_near
from runtime.agent.tools.foreign import with_choices_in_words
from runtime.agent.tools.tool import Tool

# How often one request is changed.
MAX_CHANGES = 8
# Statuses that speak of the key, the money or the moment, not of how a request is put.
NOT_ABOUT_THE_REQUEST = (401, 402, 403, 407, 408, 429, 529)

# No tools are offered, and those in the history are told of as text.
TOOLS = "tools"
# Tools are offered, and the model does not think.
EFFORT = "reasoning_effort"
# A choice of numbers is told in words: some servers know choices of texts alone.
ENUM = "enum"
# The instructions stand before what the user said first.
SYSTEM = "system"
# The answer comes whole.
STREAM = "stream"
# Calls are known by so many letters and digits each: "ids NUMBER".
IDS = "ids "
# A message with calls has a text, also where the model said none.
CONTENT = "content"
# The other dialect is spoken.
RESPONSES = "responses"
# What a message has of a vendor's own, but for that of its calls, is left out: "vendor NAME".
VENDOR = "vendor "

# Not one tool of many, which is called by its number or its name.
_TOOL_WORDS = (
    r"\btools?\b(?![\[.]\d|\W{0,2}[\"'`]\w)"
    r"|tool[_ -]?(?:choice|calls?|calling|use)|function[_ -]?call(?:s|ing)?\b|工具|函数调用"
)
_NEEDS_FLAG = (
    rf"{UNKNOWN}|--[a-z]|no (?:\w+ )?template|\bflags?\b|\benabl|must be (?:none|empty|off)"
    r"|(?:lacks?|without|(?:not|n['’]t) have) (?:\w+ )?(?:tool|function)"
)
_ROLES = (
    r"\b(?:system|developer)[\"'`]? (?:role|message|prompt|instruction)|\bonly\b.{0,30}\buser\b"
    r"|\b(?:system|developer)[\"'`]? (?:\w+ ){0,5}role|(?:first|start)\w* .{0,30}\buser\b"
    r"|(?:role|variant|instruction)s?\b\W{0,4}(?:\w+ )?[\"'`]?(?:system|developer)\b|\broles must"
    # All roles that there are, without that one.
    r"|(?:\bbe|\bof|are)[ :]+[\"'`]?(?:user|assistant)\b[\"'`]?(?:,| and| or)"
    r"|\b(?:system|developer) ?(?:角色|消息|提示)|系统(?:角色|消息|提示)"
    r"|(?:角色|消息)\W{0,3}(?:system|developer)\b"
)
_NO_ROLE = rf"{UNKNOWN}|invalid|\bmust\b|\bshould\b|only|one of|roles?\b|alternat"
_ID_WORDS = r"tool[_ ]?(?:call[_ ]?)?ids?\b|\bcall[_ ]?ids?\b|tool_calls[^ ]*\bid\b"
_ID_SHAPE = r"length|long|letters|digits|alphanumeric|characters|pattern|a-z"
# How many are said, and how many are taken by most that take few.
_ID_LENGTH = (
    r"(?:length|exactly|most|maximum|be|of)\W+(?:of |length )?(\d+)\b"
    r"|\b(\d+) (?:\w+ )?(?:letters|characters|chars|digits)"
)
NINE = 9
MAX_ID_CHARS = 40
# An option that the answer does not need is left out for any complaint about it.
_COMPLAINT = (
    rf"{UNKNOWN}|invalid|illegal|\bonly\b|\bbad\b|\bmust\b|requires?\b|非法|无效|错误|有误|仅"
)


def fallback_for(
    error: ServerError, request: StepRequest, body: Mapping[str, Any], dialect: ModuleType
) -> str | None:
    """The name of the fallback that may make the server take the request, or None.

    An option of the operator's own and the bound stay; the bound goes by its other name.
    """
    if error.status in NOT_ABOUT_THE_REQUEST:
        return None
    for name in _causes(error, request, body, dialect):
        if name in request.fallbacks or (name in request.options and name not in dialect.BOUNDS):
            continue
        if name in dialect.BOUNDS and request.fallbacks | {name} >= {*dialect.BOUNDS}:
            continue
        return name
    return None


def _causes(
    error: ServerError, request: StepRequest, body: Mapping[str, Any], dialect: ModuleType
) -> Iterator[str]:
    """What the error may be about, the likeliest first."""
    sent = [name for name in dialect.OPTIONS if name in body]
    yield from (name for name in sent if error.is_about(name, _COMPLAINT))
    # Where a server speaks of the bound's other name, which was not sent, it wants that one.
    others = error.says("|".join(name for name in dialect.BOUNDS if name not in body) or "$^")
    bounds = [name for name in dialect.BOUNDS if name in body]
    yield from (name for name in bounds if others or error.is_about(name))
    members = list({n: 1 for m in request.messages if m.vendor for n in m.vendor.members})
    # A place is of a member of the messages: `messages.2.reasoning_content`.
    named = {part for place in error.places for part in place}
    is_named = named.__contains__ if named else error.is_about
    yield from (VENDOR + name for name in members if is_named(name))
    if body.get("stream") and _is_about_streaming(error):
        yield STREAM
    if _has_calls(request) and _is_about_ids(error):
        yield IDS + str(_id_length(error))
    schemas = [tool.parameters for tool in request.tools]
    if error.says(r"\benums?\b") and schemas != [*map(with_choices_in_words, schemas)]:
        yield ENUM
    if request.tools and _is_about_effort(error):
        yield EFFORT
    if (request.tools or _has_calls(request)) and _is_about_tools(error):
        yield TOOLS
    if any(message.role == "system" for message in request.messages) and _is_about_system(error):
        yield SYSTEM
    if _has_calls(request) and _is_about_content(error):
        yield CONTENT
    if "input" in body and error.says(r"encrypted|['\"`]reasoning['\"`]|item with id"):
        yield from (VENDOR + name for name in members)
    if "messages" in body and error.says(r"\bv1/responses|responses api"):
        yield RESPONSES


def _is_about_streaming(error: ServerError) -> bool:
    is_said = not error.places and error.says_beside(r"\bstreaming\b|流式")
    return is_said or error.is_about("stream", _COMPLAINT)


def _is_about_effort(error: ServerError) -> bool:
    return error.says(r"reasoning[_. ]?effort") or (
        error.says(_TOOL_WORDS) and error.says_beside(r"\breasoning\b", r"\bnone\b|\boff\b")
    )


def _has_calls(request: StepRequest) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in request.messages)


def _is_about_content(error: ServerError) -> bool:
    if error.places:
        return any(place[-1] == "content" for place in error.places)
    return error.says_beside(
        r"\bcontent\b", r"\b(?:null|none|empty|blank|string|required|missing)\b"
    )


def _is_about_ids(error: ServerError) -> bool:
    in_place = any(
        place[0] in ("messages", "input") and place[-1] in ("id", "tool_call_id", "call_id")
        for place in error.places
    )
    return in_place or error.says_beside(_ID_WORDS, rf"{UNKNOWN}|invalid|{_ID_SHAPE}")


def _id_length(error: ServerError) -> int:
    """How long an id may be, if the server says so."""
    found = (int(a or b) for a, b in re.findall(_ID_LENGTH, error.words, re.IGNORECASE))
    return min((each for each in found if NINE // 2 < each <= MAX_ID_CHARS), default=NINE)


def _is_about_tools(error: ServerError) -> bool:
    """Whether it is about tools at all; what is wrong with one of them is its author's to mend."""
    if error.places:
        named = any(place in (("tools",), ("tool_choice",)) for place in error.places)
        return named and error.says(_NEEDS_FLAG)
    return error.says_beside(_TOOL_WORDS, _NEEDS_FLAG)


def _is_about_system(error: ServerError) -> bool:
    if ("messages", "0", "role") in error.places:
        return True
    return all(place[0] == "messages" for place in error.places) and error.says_beside(
        _ROLES, _NO_ROLE
    )


# What an error says about each; others are called by their names.
_WORDS = {
    TOOLS: _TOOL_WORDS,
    EFFORT: r"reasoning",
    SYSTEM: r"system|developer|roles?\b|assistant|系统|角色",
    STREAM: r"stream|流式",
    RESPONSES: r"responses",
    **dict.fromkeys(BOUNDS, r"max_(?:completion_|output_)?tokens"),
}


def may_teach(said: Sequence[Message], tools: Sequence[Tool], names: Collection[str]) -> bool:
    """Whether what was found with such a request can only be the server's doing.

    It cannot where a front end has brought tools, or where a user's words speak of the same.
    """
    return all(tool.function for tool in tools) and not may_be_quoted(said, tools, names)


def may_be_quoted(said: Sequence[Message], tools: Sequence[Tool], names: Collection[str]) -> bool:
    """Whether an error that speaks of these may have quoted a user's words or tools."""
    if not names:
        return False
    words = "|".join(_WORDS.get(n) or re.escape(n.removeprefix(VENDOR)) for n in names)
    texts = [message.content for message in said if message.role != "system"]
    texts += [f"{t.name} {t.description} {t.parameters}" for t in tools if not t.function]
    return any(are_near(text, words, _COMPLAINT) for text in texts)
