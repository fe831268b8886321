"""A conversation as strict servers take it, made of what was said, which stays as it is."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

from runtime.agent.messages import Message, Vendor
from runtime.agent.providers.fallbacks import CONTENT, IDS, SYSTEM, TOOLS, VENDOR

# Said in place of nothing, where a server takes no blank text or no two roles in a row.
NO_RESULT = "(The tool gave no text.)"
NO_WORDS = "(Nothing was said.)"
NO_ANSWER = "(No answer was given.)"
CALLING = "(I am calling a tool.)"
GO_ON = "Please go on."


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
    for length in [int(each.removeprefix(IDS)) for each in fallbacks if each.startswith(IDS)]:
        made = [_with_ids(message, partial(_short, length=length)) for message in made]
    return made


def _returned(message: Message, origin: str, fallbacks: Collection[str]) -> Message:
    """The message with those of its vendor's members that the server gets back."""
    calls = [replace(call, vendor=_of_origin(call.vendor, origin)) for call in message.tool_calls]
    if vendor := _of_origin(message.vendor, origin):
        kept = {n: v for n, v in vendor.members.items() if VENDOR + n not in fallbacks}
        vendor = Vendor(origin, kept) if kept else None
    return replace(message, tool_calls=tuple(calls), vendor=vendor)


def _of_origin(vendor: Vendor | None, origin: str) -> Vendor | None:
    return vendor if vendor and vendor.origin == origin else None


def _with_their_ids(messages: Iterable[Message]) -> list[Message]:
    """The calls, and their results, under the ids that their own server gave them."""
    made, ids = [], dict[str, str]()

    def own(call_id: str) -> str:
        return ids.get(call_id, call_id)

    for message in messages:
        given = {c.id: c.vendor.members.get("id") for c in message.tool_calls if c.vendor}
        # Two calls of one step could not be told apart by one id.
        ids |= {i: its for i, its in given.items() if its and list(given.values()).count(its) == 1}
        made.append(_with_ids(message, own))
    return made


def _with_ids(message: Message, id_of: Callable[[str], str]) -> Message:
    calls = tuple(replace(call, id=id_of(call.id)) for call in message.tool_calls)
    result_of = id_of(message.tool_call_id or "") if message.role == "tool" else None
    return replace(message, tool_calls=calls, tool_call_id=result_of)


def _short(call_id: str, length: int) -> str:
    """So many letters and digits: the id itself if it is so, or always the same made of it."""
    if len(call_id) == length and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:length]


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
    blank = {"tool": NO_RESULT, "user": NO_WORDS}
    for message in messages:
        if message.content.strip():
            yield message
        elif message.role in blank or message.tool_calls:
            yield replace(message, content=blank.get(message.role, ""))


def _in_turn(messages: Iterable[Message]) -> Iterable[Message]:
    """Neighbours of one role joined, and something said where a role is missing between two."""
    made: list[Message] = []
    for message in messages:
        before = made[-1] if made else None
        if before and before.role == "tool" and message.role == "user":
            made.append(Message("assistant", NO_ANSWER))
        is_same = before and before.role == message.role in ("user", "assistant")
        if is_same and not before.tool_calls:
            content = "\n\n".join(filter(str.strip, [before.content, message.content]))
            made[-1] = replace(message, content=content, vendor=message.vendor or before.vendor)
        else:
            made.append(message)
    if made and made[-1].role == "assistant" and not made[-1].tool_calls:
        made.append(Message("user", GO_ON))
    return made


def _instructed_by_user(messages: Sequence[Message]) -> list[Message]:
    """The instructions before what the user said first."""
    system = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if not system:
        return rest
    first = rest.pop(0).content if rest and rest[0].role == "user" else NO_WORDS
    return [Message("user", "\n\n".join([*system, first])), *rest]
