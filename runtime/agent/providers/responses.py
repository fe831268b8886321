"""OpenAI's Responses as they are written: requests out of messages, chunks out of events.

Of one shape with `completions`. Stateless: the server stores nothing, and what the model thought
comes encrypted, to be sent back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runtime.agent.messages import Message, ToolCall
from runtime.agent.providers.failures import failed
from runtime.agent.providers.parsing import arguments_of, expect, expect_list, usage_of
from runtime.agent.providers.provider import (
    Chunk,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    VendorMembers,
)
from runtime.agent.providers.request import StepRequest
from runtime.agent.providers.server_error import ServerError
from runtime.agent.providers.streaming import Reader

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
    made = request.body(
        {
            "input": [item for message in request.messages for item in _items(message)],
            "instructions": "\n\n".join(system) or None,
        },
        optional={"store": False, "include": ["reasoning.encrypted_content"]},
        tools=[
            {"type": "function", "strict": False, **request.function(t)} for t in request.offered
        ],
        without_reasoning={"reasoning": {"effort": "none"}},
        bounds=BOUNDS,
    )
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

    def rest(self, whole: str, is_done: bool) -> str:
        """What of its whole text did not come in pieces before, once it is done."""
        rest = whole[self.said :] if is_done else ""
        self.said += len(rest)
        return rest


class StepReader(Reader):
    """Makes chunks of the events of one response, or of a whole one."""

    def __init__(self) -> None:
        super().__init__()
        self._items: dict[Any, _Item] = {}
        self._ids: dict[int, dict[str, Any]] = {}

    def read(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of an event. Raises ProviderError for an error or rubbish."""
        for chunk in self._chunks(event):
            self.has_begun = True
            yield chunk

    def vendor(self) -> VendorMembers:
        """The items to send back, but for texts and calls, which are messages' own."""
        kept = [item.kept for item in self._items.values() if item.kept]
        is_plain = all(set(each) <= {"type", "call"} for each in kept)
        return VendorMembers({} if is_plain else {ITEMS: kept}, self._ids)

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
                self.look_for_error(event)

    def _response(self, response: dict[str, Any]) -> Iterator[Chunk]:
        """What a response has at its end, as far as it did not come before."""
        status = response.get("status") or "completed"
        if status in ("failed", "cancelled") or response.get("error"):
            error = ServerError.read(response.get("error") or "the response failed")
            raise failed(error, self.has_begun)
        for place, item in enumerate(expect_list(response, "output")):
            yield from self._item(place, expect(item, dict, "item"), is_done=True)
        if isinstance(response.get("usage"), dict):
            self.usage = usage_of(response["usage"], "input_tokens", "output_tokens")
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        self.is_answer = self.is_done = True
        self.finish_reason = "stop" if status == "completed" else str(reason or status)

    def _item(self, place: Any, item: dict[str, Any], *, is_done: bool) -> Iterator[Chunk]:
        known = self._items.get(place)
        if known is None:
            known = self._items[place] = _Item(str(item.get("type")))
        if known.kind == "function_call":
            yield from self._function_call(known, item, is_done=is_done)
        elif known.kind == "message":
            # The phase that it belongs to comes back with it.
            known.kept = {n: item.get(n) for n in ("type", "phase") if item.get(n) is not None}
            parts = [part for part in expect_list(item, "content") if isinstance(part, dict)]
            whole = "".join(_text(part.get("text") or part.get("refusal")) for part in parts)
            if rest := known.rest(whole, is_done):
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
        if rest := known.rest(_text(item.get("arguments")), is_done):
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


def _text(value: Any) -> str:
    return expect(value or "", str, "text")
