"""OpenAI's chat completions as they are written: requests out of messages, chunks out of JSON.

Every dialect is dealt with here; nothing in this module touches the network.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, ToolCall, Usage
from runtime.agent.providers import (
    Chunk,
    ProviderError,
    StepFinished,
    TextDelta,
    ToolCallDelta,
)
from runtime.agent.providers.refusals import Refusal
from runtime.agent.tools import Tool

T = TypeVar("T")

# What `json.loads` does with a text, without looking what else it might have been given.
_decode = json.JSONDecoder().raw_decode


# The two names of the bound on an answer: servers know one of them, or both.
BOUNDS = ("max_tokens", "max_completion_tokens")
# More tokens in one step than any model has room for are no count.
MAX_TOKENS = 100_000_000


def request_body(
    model: str,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    max_output_tokens: int | None = None,
) -> dict[str, Any]:
    """The body of a request that asks for a stream."""
    body = {
        "model": model,
        "messages": [_message(message) for message in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
    if max_output_tokens is not None:
        body["max_tokens"] = max_output_tokens
    return body


def in_dialect(body: dict[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """The body without the options that a server refuses; the bound goes by its other name."""
    known = {name: value for name, value in body.items() if name not in refused}
    for name, other in zip(BOUNDS, reversed(BOUNDS), strict=True):
        if name in body and name in refused:
            known[other] = body[name]
    return known


def is_unbounded(refused: Collection[str]) -> bool:
    """Whether no name is left for the bound, which is never dropped."""
    return refused >= {*BOUNDS}


def refused_option(sent: dict[str, Any], refusal: Refusal) -> str | None:
    """Which option of a request the refusal is about, if it is one that can be done without."""
    names = [name for name in ("stream_options", *BOUNDS) if name in sent]
    return next((name for name in names if refusal.is_about(name)), None)


def _function(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if message.tool_calls:
        calls = [_tool_call(call) for call in message.tool_calls]
        return {"role": message.role, "content": message.content or None, "tool_calls": calls}
    return {"role": message.role, "content": message.content}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments if _is_object(call.arguments) else "{}"
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _is_object(text: str) -> bool:
    # Servers that parse a history's arguments answer 400 or 500 to what a model got wrong.
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def protocol_error(reason: str) -> ProviderError:
    """The failure of a provider that sends what nobody can read."""
    return ProviderError(ErrorCode.PROVIDER_PROTOCOL, reason)


def parse(text: str) -> dict[str, Any]:
    """A JSON object. Raises ProviderError for anything else."""
    text = text.strip()
    try:
        value, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise protocol_error(f"not JSON: {error}") from error
    if end < len(text):
        raise protocol_error("JSON, and more behind it")
    if not isinstance(value, dict):
        raise protocol_error("JSON, but no object")
    return value


def error_message(value: Any) -> str:
    """What an error object, or a text that may be one, says; of any length, in any words."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    while isinstance(value, dict):
        value = value.get("error") or value.get("message") or value.get("detail") or ""
    return str(value)


class StepReader:
    """Makes chunks of the objects one step consists of: a stream's, or one whole completion.

    `has_choice` says that they are a completion at all, `has_begun` that a chunk was given.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.has_choice = False
        self.has_begun = False
        self._usage: Usage | None = None
        self._calls: list[tuple[Any, str | None]] = []

    def read(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of an object's first choice. Raises ProviderError for an error or rubbish."""
        if event.get("error"):
            raise self._error(event)
        if isinstance(event.get("usage"), dict):
            self._usage = _usage(event["usage"])
        for choice in _list(event, "choices"):
            if not _is(choice, dict, "choice").get("index"):
                self.has_choice = True
                for chunk in self._choice(choice):
                    self.has_begun = True
                    yield chunk

    def finished(self) -> StepFinished:
        """The chunk that ends the step."""
        return StepFinished(self.finish_reason or "stop", self._usage)

    def _error(self, event: dict[str, Any]) -> ProviderError:
        interrupted, rejected = ErrorCode.PROVIDER_INTERRUPTED, ErrorCode.PROVIDER_REJECTED
        code = interrupted if self.has_begun else rejected
        return ProviderError(code, error_message(event))

    def _choice(self, choice: dict[str, Any]) -> Iterator[Chunk]:
        delta = _is(choice.get("delta") or choice.get("message") or {}, dict, "delta")
        text = _text(delta.get("content")) or _text(delta.get("refusal"))
        if text:
            yield TextDelta(text)
        for call in _list(delta, "tool_calls"):
            yield self._tool_call(_is(call, dict, "tool call"))
        if choice.get("finish_reason"):
            self.finish_reason = str(choice["finish_reason"])

    def _tool_call(self, call: dict[str, Any]) -> ToolCallDelta:
        function = _is(call.get("function") or {}, dict, "function")
        call_id, name = call.get("id") or None, function.get("name") or None
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return ToolCallDelta(
            self._number(call.get("index"), call_id, name),
            call_id and str(call_id),
            name and str(name),
            arguments,
        )

    def _number(self, index: Any, call_id: str | None, name: str | None) -> int:
        """Which call of the step a fragment belongs to, whatever the server tells of it.

        Some leave out the index, and some give every call the same one: there the id decides.
        A fragment with neither goes on with the last call, unless it has a name.
        """
        for number, (known_index, known_id) in reversed(list(enumerate(self._calls))):
            if call_id and known_id:
                same = call_id == known_id and index == known_index
            elif index is not None:
                same = index == known_index
            else:
                same = not call_id and not name
            if same:
                self._calls[number] = (known_index, known_id or call_id)
                return number
        self._calls.append((index, call_id))
        return len(self._calls) - 1


def _usage(usage: dict[str, Any]) -> Usage:
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    return Usage(*(count if _is_count(count) else None for count in counts))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def _text(content: Any) -> str:
    """The text of a `content`, which some servers give in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return _is(content, str, "content") if content is not None else ""


def _list(owner: dict[str, Any], name: str) -> list[Any]:
    return _is(owner.get(name) or [], list, name)


def _is(value: Any, kind: type[T], name: str) -> T:
    if not isinstance(value, kind):
        raise protocol_error(f"{name} is a {type(value).__name__}")
    return value
