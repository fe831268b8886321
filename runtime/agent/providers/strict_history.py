"""A conversation as strict servers take it, made of what was said, which stays as it is."""

import hashlib
import string
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from runtime.agent.messages import Message, Vendor
from runtime.agent.providers.fallbacks import CONTENT, IDS, SYSTEM, TOOLS, VENDOR

# Said in place of nothing, where a server takes no blank text or no two roles in a row.
NO_RESULT = "(The tool gave no text.)"
NO_WORDS = "(Nothing was said.)"
NO_ANSWER = "(No answer was given.)"
CALLING = "(I am calling a tool.)"
GO_ON = "Please go on."

ALPHABET = string.ascii_letters + string.digits


def for_server(
    messages: Sequence[Message], origin: str, fallbacks: Collection[str], *, has_tools: bool
) -> list[Message]:
    """The conversation as it is sent to `origin`, which refuses `fallbacks`.

    Roles come in turn and no text is blank; the last word is the user's or a tool's. Members of a
    vendor's own go to their origin alone. Without tools, calls are told of as text: servers refuse
    a history of calls in a request that offers none, and models without tools know no such role.
    """
    made = [_returned(message, origin, fallbacks) for message in messages]
    made = _with_their_ids(made)
    if not has_tools or TOOLS in fallbacks:
        made = _told(made)
    made = list(_in_turn(_not_blank(made)))
    if CONTENT in fallbacks:
        made = [replace(m, content=m.content or CALLING) for m in made]
    if SYSTEM in fallbacks:
        made = _instructed_by_user(made)
    lengths = [int(each.removeprefix(IDS)) for each in fallbacks if each.startswith(IDS)]
    return _with_short_ids(made, lengths[0]) if lengths else made


def _returned(message: Message, origin: str, fallbacks: Collection[str]) -> Message:
    """The message with those of its vendor's members that the server gets back."""
    if not message.vendor and not any(call.vendor for call in message.tool_calls):
        return message
    calls = [replace(c, vendor=_of_origin(c.vendor, origin)) for c in message.tool_calls]
    vendor = _of_origin(message.vendor, origin)
    if vendor:
        kept = {n: v for n, v in vendor.members.items() if VENDOR + n not in fallbacks}
        vendor = Vendor(origin, kept) if kept else None
    return replace(message, tool_calls=tuple(calls), vendor=vendor)


def _of_origin(vendor: Vendor | None, origin: str) -> Vendor | None:
    return vendor if vendor and vendor.origin == origin else None


def _with_their_ids(messages: Iterable[Message]) -> list[Message]:
    """The calls, and their results, under the ids that their own server gave them."""
    made, ids = [], dict[str, str]()
    for message in messages:
        given = {c.id: c.vendor.members.get("id") for c in message.tool_calls if c.vendor}
        # Two calls of one step could not be told apart by one id.
        ids |= {i: own for i, own in given.items() if own and list(given.values()).count(own) == 1}
        made.append(_with_ids(message, ids) if ids else message)
    return made


def _with_ids(message: Message, ids: dict[str, str]) -> Message:
    if message.tool_calls:
        calls = (replace(call, id=ids.get(call.id, call.id)) for call in message.tool_calls)
        return replace(message, tool_calls=tuple(calls))
    if message.role == "tool":
        known = message.tool_call_id or ""
        return replace(message, tool_call_id=ids.get(known, known))
    return message


def _with_short_ids(messages: Sequence[Message], length: int) -> list[Message]:
    ids = {call.id for message in messages for call in message.tool_calls}
    ids |= {message.tool_call_id or "" for message in messages if message.role == "tool"}
    short = {each: _short(each, length) for each in ids}
    return [_with_ids(message, short) for message in messages]


def _short(call_id: str, length: int) -> str:
    """So many letters and digits: the id itself if it is so, or always the same made of it."""
    if len(call_id) == length and call_id.isascii() and call_id.isalnum():
        return call_id
    number = int.from_bytes(hashlib.sha256(call_id.encode("utf-8", "replace")).digest())
    made = ""
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        made += ALPHABET[digit]
    return made


def _told(messages: Iterable[Message]) -> list[Message]:
    """The conversation with its calls and their results told as text."""
    made: list[Message] = []
    for message in messages:
        if message.tool_calls:
            calls = [f"[I called {call.name}({call.arguments})]" for call in message.tool_calls]
            text = "\n".join([*filter(str.strip, [message.content]), *calls])
            made.append(Message("assistant", text, vendor=message.vendor))
        elif message.role == "tool" and made:
            told = f"[{message.tool_name or 'The tool'} gave: {message.content}]"
            made[-1] = replace(made[-1], content=f"{made[-1].content}\n{told}")
        else:
            made.append(message)
    return made


def _not_blank(messages: Iterable[Message]) -> Iterable[Message]:
    for message in messages:
        if message.content.strip():
            yield message
        elif message.role == "tool":
            yield replace(message, content=NO_RESULT)
        elif message.role == "user":
            yield replace(message, content=NO_WORDS)
        elif message.tool_calls:
            yield replace(message, content="")


def _in_turn(messages: Iterable[Message]) -> Iterable[Message]:
    """Neighbours of one role joined, and something said where a role is missing between two."""
    made: list[Message] = []
    for message in messages:
        before = made[-1] if made else None
        if before and before.role == "tool" and message.role == "user":
            made.append(Message("assistant", NO_ANSWER))
        if before and _are_one(before, message):
            made[-1] = _joined(before, message)
        else:
            made.append(message)
    if made and made[-1].role == "assistant" and not made[-1].tool_calls:
        made.append(Message("user", GO_ON))
    return made


def _are_one(before: Message, message: Message) -> bool:
    is_same = before.role == message.role and before.role in ("user", "assistant")
    return is_same and not before.tool_calls


def _joined(before: Message, message: Message) -> Message:
    content = "\n\n".join(filter(str.strip, [before.content, message.content]))
    return replace(message, content=content, vendor=message.vendor or before.vendor)


def _instructed_by_user(messages: Sequence[Message]) -> list[Message]:
    """The instructions before what the user said first."""
    system = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if not system:
        return rest
    first = rest.pop(0).content if rest and rest[0].role == "user" else NO_WORDS
    return [Message("user", "\n\n".join([*system, first])), *rest]
