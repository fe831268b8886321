"""OpenAI's Responses as they are written: requests out of messages, chunks out of events.

Of one shape with `completions`. Stateless: the server stores nothing, and what the model thought
comes encrypted, to be sent back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runtime.agent.events import ErrorCode
from runtime.agent.messages import Message, ToolCall, Usage
from runtime.agent.providers.completions import arguments_of
from runtime.agent.providers.endings import failure_in, refused
from runtime.agent.providers.provider import (
    Chunk,
    ProviderError,
    ReasoningDelta,
    StepFinished,
    TextDelta,
    ToolCallDelta,
    VendorMembers,
)
from runtime.agent.providers.reading import count, expect, expect_list
from runtime.agent.providers.refusal import Refusal
from runtime.agent.providers.request import StepRequest

PATH = "/responses"
# What a server may not know: without it the answer is the same, or the model thinks anew.
OPTIONS = ("include", "store")
# The bound goes by this, and is never left out.
BOUNDS = ("max_output_tokens",)
# Where what chat completions call so stands in a response's request.
PLACES = {"reasoning_effort": ("reasoning", "effort"), "verbosity": ("text", "verbosity")}
# The member of a step in which its items are kept, in the order they came.
ITEMS = "items"


def body(request: StepRequest) -> dict[str, Any]:
    """The body of a request for a step."""
    system = [message.content for message in request.messages if message.role == "system"]
    made: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in _items(message)],
        "stream": "stream" not in request.otherwise,
    }
    if system:
        made["instructions"] = "\n\n".join(system)
    if "store" not in request.otherwise:
        made["store"] = False
    if "include" not in request.otherwise:
        made["include"] = ["reasoning.encrypted_content"]
    if request.tools and "tools" not in request.otherwise:
        made["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": request.schema(tool),
                "strict": False,
            }
            for tool in request.tools
        ]
        if "reasoning_effort" in request.otherwise:
            made["reasoning"] = {"effort": "none"}
    if request.bound is not None and (name := request.name_of_bound(BOUNDS)):
        made[name] = request.bound
    return _placed(request.merged(made))


def _placed(made: dict[str, Any]) -> dict[str, Any]:
    """The body with the operator's options where this dialect has them."""
    for name, (outer, inner) in PLACES.items():
        if name in made:
            made[outer] = {**made.get(outer, {}), inner: made.pop(name)}
    return made


def _items(message: Message) -> Iterator[dict[str, Any]]:
    """The items of a message: those that the model sent, in their order, and what they refer to."""
    if message.role == "system":
        return
    if message.role == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.tool_call_id,
            "output": message.content,
        }
        return
    kept = message.vendor.members.get(ITEMS, []) if message.vendor else []
    calls = {number: call for number, call in enumerate(message.tool_calls)}
    text = message.content
    for item in kept:
        if item.get("type") == "message":
            if text:
                yield {**item, "role": message.role, "content": text}
                text = ""
        elif item.get("type") == "function_call":
            if call := calls.pop(item["call"], None):
                yield _call(call)
        else:
            yield item
    if text:
        yield {"type": "message", "role": message.role, "content": text}
    yield from map(_call, calls.values())


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments_of(call),
    }


@dataclass
class _Item:
    """An item as far as it was passed on."""

    kind: str
    call: int | None = None
    said: int = 0
    kept: dict[str, Any] | None = None


class StepReader:
    """Makes chunks of the events of one response, or of a whole one.

    `has_choice` says that it is a response at all, `has_begun` that a chunk was given.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.has_choice = False
        self.has_begun = False
        self.is_ending = False
        self.is_done = False
        self.unknown: dict[str, Any] | None = None
        self._usage: Usage | None = None
        self._items: dict[Any, _Item] = {}
        self._ids: dict[int, dict[str, Any]] = {}

    def read(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of an event. Raises ProviderError for an error or rubbish."""
        for chunk in self._chunks(event):
            self.has_begun = True
            yield chunk

    def last(self) -> Iterator[Chunk]:
        """Nothing is held back."""
        return iter(())

    def vendor(self) -> VendorMembers:
        """The items to send back, but for texts and calls, which are messages' own."""
        kept = [item.kept for item in self._items.values() if item.kept]
        is_plain = all(set(each) <= {"type", "call"} for each in kept)
        return VendorMembers({} if is_plain else {ITEMS: kept}, self._ids)

    def finished(self) -> StepFinished:
        """The chunk that ends the step."""
        return StepFinished(self.finish_reason or "stop", self._usage)

    def _chunks(self, event: dict[str, Any]) -> Iterator[Chunk]:
        kind = event.get("type") or event.get("object")
        match kind:
            case "response.output_text.delta" | "response.refusal.delta":
                yield from self._text(event, _text(event.get("delta")))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield ReasoningDelta(_text(event.get("delta")))
            case "response.output_item.added" | "response.output_item.done":
                item = expect(event.get("item") or {}, dict, "item")
                yield from self._item(_place(event), item, is_done=kind.endswith("done"))
            case "response.function_call_arguments.delta":
                yield from self._arguments(event, _text(event.get("delta")))
            case "response":
                yield from self._response(event)
            case "response.completed" | "response.incomplete" | "response.failed":
                response = expect(event.get("response") or {}, dict, "response")
                yield from self._response({"status": kind.partition(".")[2], **response})
            case _ if not str(kind).startswith("response."):
                if failure := failure_in(event, self.has_begun):
                    raise failure
                self.unknown = event

    def _response(self, response: dict[str, Any]) -> Iterator[Chunk]:
        """What a response has at its end, as far as it did not come before."""
        status = response.get("status") or "completed"
        if status in ("failed", "cancelled") or response.get("error"):
            raise self._failure(response)
        for place, item in enumerate(expect_list(response, "output")):
            yield from self._item(place, expect(item, dict, "item"), is_done=True)
        if isinstance(response.get("usage"), dict):
            self._usage = _usage(response["usage"])
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        self.has_choice = self.is_done = True
        self.finish_reason = "stop" if status == "completed" else str(reason or status)

    def _failure(self, response: dict[str, Any]) -> ProviderError:
        refusal = Refusal.read(response.get("error") or "the response failed")
        if self.has_begun:
            return ProviderError(ErrorCode.PROVIDER_INTERRUPTED, refusal.message)
        return refused(refusal)

    def _item(self, place: Any, item: dict[str, Any], *, is_done: bool) -> Iterator[Chunk]:
        known = self._items.get(place)
        if known is None:
            known = self._items[place] = _Item(str(item.get("type")))
        if known.kind == "function_call":
            yield from self._function_call(known, item, is_done=is_done)
        elif known.kind == "message":
            known.kept = {"type": "message"} | _own(item, ("phase",))
            whole = "".join(_text(p.get("text") or p.get("refusal")) for p in _parts(item))
            if is_done and len(whole) > known.said:
                rest, known.said = whole[known.said :], len(whole)
                yield TextDelta(rest)
        elif is_done and (item.get("encrypted_content") or item.get("content")):
            # Without either it stands for what the server has stored, which is nothing.
            known.kept = {n: v for n, v in item.items() if n != "status"}

    def _function_call(
        self, known: _Item, item: dict[str, Any], *, is_done: bool
    ) -> Iterator[Chunk]:
        if known.call is None:
            known.call = sum(1 for each in self._items.values() if each.call is not None)
            known.kept = {"type": "function_call", "call": known.call}
            call_id = _text(item.get("call_id") or item.get("id"))
            self._ids[known.call] = {"id": call_id}
            yield ToolCallDelta(known.call, call_id, _text(item.get("name")))
        whole = _text(item.get("arguments"))
        if is_done and len(whole) > known.said:
            rest, known.said = whole[known.said :], len(whole)
            yield ToolCallDelta(known.call, arguments=rest)

    def _text(self, event: dict[str, Any], delta: str) -> Iterator[Chunk]:
        item = self._items.setdefault(_place(event), _Item("message", kept={"type": "message"}))
        item.said += len(delta)
        if delta:
            yield TextDelta(delta)

    def _arguments(self, event: dict[str, Any], delta: str) -> Iterator[Chunk]:
        item = self._items.get(_place(event))
        if item and item.call is not None and delta:
            item.said += len(delta)
            yield ToolCallDelta(item.call, arguments=delta)


def _place(event: dict[str, Any]) -> Any:
    """Which item of the response an event is about."""
    place = event.get("output_index")
    return 0 if place is None else place


def _own(item: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {n: item[n] for n in names if item.get(n) is not None}


def _parts(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in expect_list(item, "content") if isinstance(part, dict)]


def _text(value: Any) -> str:
    return expect(value or "", str, "text")


def _usage(usage: dict[str, Any]) -> Usage | None:
    given, written = count(usage, "input_tokens"), count(usage, "output_tokens")
    return Usage(given, written) if (given, written) != (None, None) else None
