"""OpenAI's chat completions as they are written: requests out of messages, chunks out of JSON.

Of one shape with `responses`; nothing in either touches the network.
"""

from collections.abc import Iterator
from typing import Any

from runtime.agent.messages import Message, ToolCall
from runtime.agent.providers.failures import failure_in
from runtime.agent.providers.parsing import (
    VendorPieces,
    arguments_of,
    expect,
    expect_list,
    parts_of,
    usage_of,
)
from runtime.agent.providers.provider import Chunk, ReasoningDelta, TextDelta, VendorMembers
from runtime.agent.providers.request import StepRequest
from runtime.agent.providers.streaming import Reader
from runtime.agent.providers.tool_calls import CallReader

PATH = "/chat/completions"
# What a server may not know: without it the answer is the same, or told less about.
OPTIONS = ("stream_options",)
# The bound goes by one of these, and is never left out.
BOUNDS = ("max_tokens", "max_completion_tokens")
# Members of a message that all servers send, or that no history needs. Others are a vendor's.
COMMON = frozenset(
    ("role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio", "name")
)
COMMON_IN_CALL = frozenset(("index", "id", "type", "function"))


def body(request: StepRequest) -> dict[str, Any]:
    """The body of a request for a step."""
    return request.body(
        {"messages": [_message(message) for message in request.messages]},
        optional={"stream_options": {"include_usage": True}} if request.is_streamed else {},
        tools=[{"type": "function", "function": request.function(t)} for t in request.offered],
        without_reasoning={"reasoning_effort": "none"},
        bounds=BOUNDS,
    )


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        made["content"] = message.content or None
        made["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return {**(message.vendor.members if message.vendor else {}), **made}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments_of(call)}
    own = {"id": call.id, "type": "function", "function": function}
    return {**(call.vendor.members if call.vendor else {}), **own}


class StepReader(Reader):
    """Makes chunks of the objects of a stream, or of one whole completion."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = CallReader(COMMON_IN_CALL)
        self._members = VendorPieces()
        self._says_finish_early = False

    def read(self, event: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of an object's first choice. Raises ProviderError for an error or rubbish."""
        # Most objects have choices and no error: not worth a closer look.
        if "error" in event or not event.get("choices"):
            self.look_for_error(event, "choices", "usage")
        if isinstance(event.get("usage"), dict):
            self.usage = usage_of(event["usage"], "prompt_tokens", "completion_tokens", self.usage)
        for choice in expect_list(event, "choices"):
            if not expect(choice, dict, "choice").get("index"):
                self.is_answer = True
                yield from self._choice(choice)

    def last(self) -> Iterator[Chunk]:
        """What was held back of the calls' arguments."""
        yield from self._calls.last()

    def vendor(self) -> VendorMembers:
        """What came that is the vendor's own."""
        return VendorMembers(self._members.value, self._calls.members())

    def _choice(self, choice: dict[str, Any]) -> Iterator[Chunk]:
        if choice.get("error") and (failure := failure_in(choice, self.has_begun)):
            raise failure
        # Some servers say all of an answer once more at its end.
        whole = None if self.has_begun else choice.get("message")
        delta = choice.get("delta") or whole or {}
        if "delta" not in choice and "message" not in choice:
            # Completions that are not of a chat have a text alone.
            delta = {"content": choice.get("text")}
        has_words = False
        for chunk in self._words(expect(delta, dict, "delta")):
            # A finish_reason that words follow, or that comes with them, has ended nothing.
            if self.finish_reason and not has_words:
                self._says_finish_early = True
            has_words = self.has_begun = True
            yield chunk
        reason = choice.get("finish_reason")
        if reason and reason != "null":
            self.finish_reason = str(reason)
        is_last = bool(self.finish_reason) and self.has_begun and not has_words
        self.is_ending = is_last and not self._says_finish_early

    def _words(self, delta: dict[str, Any]) -> Iterator[Chunk]:
        thought, text = parts_of(delta.get("content"))
        if not delta.keys() <= COMMON:
            self._members.add({n: v for n, v in delta.items() if n not in COMMON and v is not None})
            told = (delta.get(name) for name in ("reasoning_content", "reasoning"))
            thought = thought or next((each for each in told if isinstance(each, str) and each), "")
        if thought:
            yield ReasoningDelta(thought)
        if text := text or parts_of(delta.get("refusal"))[1]:
            yield TextDelta(text)
        if delta.get("tool_calls") or delta.get("function_call"):
            yield from self._called(delta)

    def _called(self, delta: dict[str, Any]) -> Iterator[Chunk]:
        calls = delta.get("tool_calls") or []
        for call in [calls] if isinstance(calls, dict) else expect(calls, list, "tool_calls"):
            yield from self._calls.read(expect(call, dict, "tool call"))
        if isinstance(delta.get("function_call"), dict):
            yield from self._calls.read({"index": 0, "function": delta["function_call"]})
