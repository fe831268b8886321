"""Servers that speak OpenAI's Responses, as scripts for `CompletionsServer`."""

from collections.abc import Callable
from typing import Any

from tests.agent.completions_server import Part, Reply, Request, plain, stream
from tests.agent.dialects_server import error

REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "encrypted_content": "gAAA+/==",
}


def event(kind: str, place: int | None = None, **members: Any) -> dict[str, Any]:
    """One event of a stream."""
    where = {} if place is None else {"output_index": place}
    return {"type": f"response.{kind}", **where, **members}


def item(kind: str, **members: Any) -> dict[str, Any]:
    """One item of an output, with an id as servers give it."""
    return {"type": kind, "id": f"{kind[:2]}_1", "status": "completed", **members}


def message(text: str, **members: Any) -> dict[str, Any]:
    """An item of text."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return item("message", role="assistant", content=content, **members)


def function_call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    """An item that calls a tool."""
    return item("function_call", call_id=call_id, name=name, arguments=arguments)


def completed(*output: dict[str, Any], status: str = "completed", **members: Any) -> dict[str, Any]:
    """The event with the whole response."""
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    whole = {"object": "response", "status": status, "output": list(output), "usage": usage}
    return event(status, response=whole | members)


def begun() -> list[dict[str, Any]]:
    """What a stream begins with."""
    return [event(kind, response={"status": "in_progress"}) for kind in ("created", "in_progress")]


def said(text: str, place: int = 0) -> list[Part]:
    """A text in pieces."""
    half = len(text) // 2
    return [
        event("output_item.added", place, item={"type": "message", "content": []}),
        event("content_part.added", place, part={"type": "output_text", "text": ""}),
        event("output_text.delta", place, delta=text[:half]),
        event("output_text.delta", place, delta=text[half:]),
        event("output_text.done", place, text=text),
        event("output_item.done", place, item=message(text)),
    ]


def called(name: str, arguments: str, place: int = 0, call_id: str = "call_1") -> list[Part]:
    """A call in pieces."""
    half = len(arguments) // 2
    call = function_call(name, arguments, call_id)
    return [
        event("output_item.added", place, item=call | {"arguments": ""}),
        event("function_call_arguments.delta", place, delta=arguments[:half]),
        event("function_call_arguments.delta", place, delta=arguments[half:]),
        event("function_call_arguments.done", place, arguments=arguments),
        event("output_item.done", place, item=call),
    ]


def hello() -> Reply:
    """A whole answer."""
    return stream(*begun(), *said("hello there"), completed(message("hello there")))


def thinking(request: Request) -> Reply:
    """A model that wants what it thought back, before the call that it led to."""
    asked = request.body["input"]
    for before, each in zip([None, *asked], asked, strict=False):
        if each.get("type") == "function_call" and before != REASONING:
            return error("a call without the item of type 'reasoning' before it", param="input")
    if asked[-1].get("type") == "function_call_output":
        return hello()
    thought = [
        event("output_item.added", 0, item={"type": "reasoning", "summary": []}),
        event("reasoning_summary_text.delta", 0, delta="hm"),
        event("output_item.done", 0, item=REASONING),
    ]
    number = len(asked)
    return stream(
        *begun(),
        *thought,
        *called("now", "{}", 1, f"call_{number}"),
        completed(REASONING, function_call("now", "{}", f"call_{number}")),
    )


def at(path: str, script: Callable[[Request], Reply] | Reply, otherwise: Reply) -> Callable:
    """A server that answers so under a path, and otherwise elsewhere."""

    def answer(request: Request) -> Reply:
        if not request.path.endswith(path):
            return otherwise
        return script(request) if callable(script) else script

    return answer


NOT_FOUND = plain({"detail": "Not Found"}, 404)
