"""What the dialects share: JSON that must be of a kind, texts in parts, vendor members."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from runtime.agent.events import ErrorCode
from runtime.agent.messages import ToolCall, Usage
from runtime.agent.providers.provider import ProviderError, protocol_error
from runtime.agent.providers.server_error import json_or_text

T = TypeVar("T")

# More tokens in one step than any model has room for are no count.
MAX_TOKENS = 100_000_000
# What a step may have of members that are the vendor's own, in characters.
MAX_MEMBERS_CHARS = 1_000_000
# Members of a delta that are no text in pieces, but a name that is repeated.
NAMES = re.compile(r"(?:^|_)(?:id|type|status|format|model|object|version)$")
# Members further in whose pieces make one text; of others the last one counts.
TEXTS = frozenset(("text", "thinking", "content", "summary", "data", "reasoning", "encrypted"))


def expect(value: Any, kind: type[T], name: str) -> T:
    """The value. Raises ProviderError when it is of another kind."""
    if not isinstance(value, kind):
        raise protocol_error(f"{name} is a {type(value).__name__}")
    return value


def expect_list(owner: Mapping[str, Any], name: str) -> list[Any]:
    """The list that is a member of `owner`, empty if it is missing or null."""
    return expect(owner.get(name) or [], list, name)


def usage_of(
    owner: Mapping[str, Any], given: str, written: str, known: Usage | None = None
) -> Usage | None:
    """The counts that are members of these names, or what is `known` when there are none.

    Where the total has more, the rest was thought, which is output too.
    """
    input_tokens, output_tokens = _count(owner, given), _count(owner, written)
    total = _count(owner, "total_tokens")
    if None not in (input_tokens, output_tokens, total):
        output_tokens = max(output_tokens, total - input_tokens)
    return known if input_tokens is output_tokens is None else Usage(input_tokens, output_tokens)


def _count(owner: Mapping[str, Any], name: str) -> int | None:
    """A number of tokens, or None when it is missing or cannot be one."""
    value = owner.get(name)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def arguments_of(call: ToolCall) -> str:
    """The arguments if they are an object: servers that parse them answer 400 or 500 to others."""
    return call.arguments if isinstance(json_or_text(call.arguments), dict) else "{}"


def parts_of(content: Any) -> tuple[str, str]:
    """What of a `content` was thought and what is text; some servers give both in parts."""
    if content is None or type(content) is str:
        return "", content or ""
    if not isinstance(content, list | dict):
        return "", expect(content, str, "content")
    thought, text = "", ""
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, dict):
            continue
        if "thinking" in part or part.get("type") in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("text") or part.get("reasoning")
            thought += "".join(parts_of(inner))
        else:
            text += parts_of(part.get("text"))[1]
    return thought, text


class VendorPieces:
    """Members of a vendor's own, which come in pieces like all else.

    Raises ProviderError when they become too long.
    """

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._others: dict[str, Any] = {}
        self._chars = 0

    @property
    def value(self) -> dict[str, Any]:
        """The members as far as they came."""
        return {**{n: "".join(pieces) for n, pieces in self._texts.items()}, **self._others}

    def add(self, members: dict[str, Any]) -> None:
        """Take the members of one more piece."""
        if not members:
            return
        self._chars += sum(len(str(value)) for value in members.values())
        if self._chars > MAX_MEMBERS_CHARS:
            raise ProviderError(ErrorCode.ANSWER_TOO_LONG, "too much of a vendor's own")
        for name, value in members.items():
            if isinstance(value, str) and not NAMES.search(name):
                self._texts.setdefault(name, []).append(value)
            else:
                self._others[name] = _merged(self._others.get(name), value)


def _merged(old: Any, new: Any) -> Any:
    """The later value; the members of objects joined, and items that have one index and type."""
    if isinstance(old, dict) and isinstance(new, dict):
        made = dict(old)
        for name, value in new.items():
            before = old.get(name)
            is_piece = name in TEXTS and isinstance(before, str) and isinstance(value, str)
            made[name] = before + value if is_piece else _merged(before, value)
        return made
    if not (isinstance(old, list) and isinstance(new, list)):
        return new
    items = list(old)
    for item in new:
        place = _place(item)
        same = [n for n, each in enumerate(items) if place and _place(each) == place]
        if same:
            items[same[-1]] = _merged(items[same[-1]], item)
        else:
            items.append(item)
    return items


def _place(item: Any) -> tuple[Any, Any] | None:
    is_placed = isinstance(item, dict) and item.get("index") is not None
    return (item["index"], item.get("type")) if is_placed else None
