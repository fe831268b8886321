"""Kinds of servers that are out there, each a script for `CompletionsServer`, by its name.

A script sees the request and answers as such a server does: `DIALECTS["no_tools"]`. Those that
fail once only are made anew for each test: `make("busy_once")`.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.agent.completions_server import (
    DONE,
    CompletionsServer,
    Part,
    Pause,
    Reply,
    Request,
    Script,
    answer,
    call,
    chunk,
    finish,
    plain,
    stream,
    text,
    usage,
)

DIALECTS: dict[str, Callable[[], Script]] = {}

HELLO = answer("hello ", "there")


def dialect(script: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """Take a function of a request for the server that has its name."""
    DIALECTS[script.__name__] = lambda: script
    return script


def always(name: str, *parts: Part, **how: Any) -> None:
    """A server that always answers so."""
    DIALECTS[name] = lambda: Reply(parts, **how)


def once(name: str, first: Reply) -> None:
    """A server that answers so the first time, and well afterwards."""

    def make() -> Script:
        replies = iter([first])
        return lambda _request: next(replies, HELLO)

    DIALECTS[name] = make


def calling(name: str, *fragments: Any, reason: str = "tool_calls") -> None:
    """A server that calls tools in these fragments, and is done once it has their results."""
    parts = [each if "choices" in each else chunk({"tool_calls": [each]}) for each in fragments]

    def script(request: Request) -> Reply:
        return answer("done") if has_result(request) else stream(*parts, finish(reason), DONE)

    DIALECTS[name] = lambda: script


def refusing(name: str, is_refused: Callable[[Request], Any], *refusals: Reply) -> None:
    """A server that refuses some requests, in the words of `refusals`, one kind each."""
    for number, refusal in enumerate(refusals):

        def script(request: Request, refusal: Reply = refusal) -> Reply:
            return refusal if is_refused(request) else HELLO

        DIALECTS[f"{name}_{number}" if len(refusals) > 1 else name] = lambda script=script: script


def has_result(request: Request) -> bool:
    """Whether the last message is a tool's result."""
    return request.body["messages"][-1]["role"] == "tool"


def roles(request: Request) -> list[str]:
    """The roles of the messages, but for the instructions."""
    return [m["role"] for m in request.body["messages"] if m["role"] != "system"]


def calls_in(request: Request) -> Iterator[dict[str, Any]]:
    """All calls in the history."""
    for message in request.body["messages"]:
        yield from message.get("tool_calls") or []


def parameters(request: Request) -> Iterator[dict[str, Any]]:
    """The schemas of all parameters of the tools that are offered."""
    for tool in request.body.get("tools", []):
        yield from tool["function"]["parameters"]["properties"].values()


def error(message: str, http: int = 400, **members: Any) -> Reply:
    """A refusal in OpenAI's shape."""
    return plain({"error": {"message": message, **members}}, http)


def flat_error(message: str, http: int = 400, **members: Any) -> Reply:
    """A refusal whose members stand at the top."""
    return plain({"object": "error", "message": message, **members}, http)


def fragment(
    name: str | None = None,
    arguments: Any = "",
    call_id: str | None = "c1",
    index: int | None = 0,
    **own: Any,
) -> dict[str, Any]:
    """A fragment of a call; None leaves out the name, the id or the index."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    made = {"index": index, "id": call_id, "type": "function", "function": function, **own}
    return {n: v for n, v in made.items() if v is not None}


SUM = '{"expression": "2+3"}'
PIECES = ('{"expres', 'sion": "2', '+3"}')

# Understood as it is

event = f"data:{json.dumps(text('hello there'))}\r\n\r\n"
ended = f"data:{json.dumps(finish())}\r\n\r\ndata:[DONE]\r\n\r\n"
whole = {"choices": [{"message": {"content": "hello there"}, "finish_reason": "stop"}]}

DIALECTS["plain"] = lambda: HELLO
always("comments", ": still here\n\n:\n\nretry: 1\r\n", "id: 7\r\nevent: x\r\n", event, ended)
always("gzipped", gzip.compress((event + ended).encode()), headers={"Content-Encoding": "gzip"})
always("whole", json.dumps(whole), content_type="application/json")
always("whole_as_text", "\n " + json.dumps(whole, indent=1), content_type="text/plain")
always("whole_as_stream", json.dumps(whole))
always("stream_as_text", event, ended, content_type="text/plain; charset=utf-8")
always("stream_as_json", event, ended, content_type="application/json")
always("marked", "\ufeff" + event, ended)
lines = [json.dumps(part) + "\n" for part in (text("hello "), text("there"), finish())]
always("json_lines", *lines, content_type="application/x-ndjson")
always("json_lines_then_done", *lines, "[DONE]\n", content_type="application/json")
always("one_json_line", json.dumps({"choices": [{"message": {"content": "hello there"}}]}) + "\n")
spread = json.dumps(text("hello there"), indent=1).replace("\n", "\ndata: ")
always("spread_over_data_lines", f"data: {spread}\n\n", finish(), DONE)
always("ends_a_data_line_like_an_object", 'data: {"id": {}\ndata: , ' + event[6:], ended)
always("no_blank_lines", *(f"data: {line}" for line in lines), "data: [DONE]\n")
always(
    "legacy_text",
    {"object": "text_completion", "choices": [{"text": "hello ", "finish_reason": None}]},
    {"object": "text_completion", "choices": [{"text": "there", "finish_reason": "stop"}]},
    DONE,
)
always(
    "legacy_text_whole",
    json.dumps({"choices": [{"text": "hello there", "finish_reason": "stop"}]}),
    content_type="application/json",
)
always(
    "two_choices",
    {"choices": [{"index": 0, "delta": {"content": "hello there"}}]},
    {"choices": [{"index": 1, "delta": {"content": "or not"}}]},
    finish(),
    DONE,
)
always(
    "said_once_more",
    text("hello "),
    text("there"),
    {"choices": [{"delta": {}, "message": {"content": "hello there"}, "finish_reason": "stop"}]},
    DONE,
)
always("one_part", chunk({"content": {"type": "text", "text": "hello there"}}), finish(), DONE)
always("declining", chunk({"refusal": "hello "}), chunk({"refusal": "there"}), finish(), DONE)
always("late_usage", text("hello there"), finish(), Pause(9), usage(3, 4), DONE)
once("busy_once", plain({"error": {"message": "later"}}, 429, Retry_After="0"))

# What a model cannot take

refusing(
    "no_tools",
    lambda request: "tools" in request.body,
    error("model-of-mine:1b does not support tools", type="api_error", param=None),
    flat_error('"auto" tool choice requires --enable-tools and --parser to be set', code=400),
    error("tools param requires the --templates flag", 500, type="server_error"),
    error("Function calling is not enabled for models/mine-1b", status="INVALID_ARGUMENT"),
    error("No endpoints found that support tool use.", 404, code=404),
    error("This model doesn't support tool use in this region."),
    error("Unsupported parameter.", param="tools"),
    error("The chat template of this model has no tool support"),
    error("This model cannot use tools."),
    error("tools are disabled here"),
    error("This model is incapable of calling tools."),
    error("mine-1b does not have tool-calling capability"),
    error("该模型不支持tools参数"),
    error("此模型未启用函数调用。"),
    error("tool_choice must be none for this model"),
    flat_error("`tool calling` is not supported with this model", 422),
    plain({"detail": [{"loc": ["body", "tools"], "msg": "Extra inputs are not permitted"}]}, 422),
)
refusing(
    "enums_of_texts",
    lambda r: any(type(c) is not str for schema in parameters(r) for c in schema.get("enum", [])),
    error("tools[5].function: properties[level].enum: only allowed for STRING type", code=400),
    error("Invalid schema for function 'set_level': enum must have texts alone", param="tools[5]"),
    error("Invalid value at 'tools[0].parameters.properties[0].value.enum[0]' (TYPE_STRING), 1"),
)
refusing(
    "effort",
    lambda r: "tools" in r.body and r.body.get("reasoning_effort") != "none",
    error("Tools go with reasoning_effort 'none' alone.", param="reasoning_effort", code=None),
    error("Function tools with reasoning_effort are not supported here; set it to 'none'."),
    error('Tools are not supported unless `reasoning_effort` is "none".', param="tools"),
    error("To call functions here, set reasoning to none.", param="reasoning.effort"),
)
refusing(
    "no_system",
    lambda request: request.body["messages"][0]["role"] != "user",
    flat_error("The system role is not taken here: not supported", type="BadRequestError"),
    error("Developer instruction is not enabled for models/mine"),
    error("Only user and assistant roles are supported!", 500),
    error("Unsupported value: no such role here.", param="messages[0].role"),
    error("'system' is not a valid role"),
    error("A conversation must start with a user message."),
    error("messages[0].role: unknown variant `system`, expected `user` or `assistant`", 422),
    flat_error("Conversation roles must alternate user/assistant/user/assistant", code=400),
    error("role: Input should be 'user', 'assistant' or 'tool'"),
    error("role must be one of user, assistant"),
    error("模型不支持system角色"),
    plain(
        {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user'"}]}, 422
    ),
)
refusing(
    "no_stream",
    lambda request: request.body.get("stream"),
    error("Your organisation may not stream this model.", param="stream", code="unsupported_value"),
    error("streaming is not supported"),
    error("`stream` must be false"),
    error("本模型仅支持非流式输出，无法流式返回"),
)

# What a model wants back


@dialect
def signed_calls(request: Request) -> Reply:
    """Each call of the history must have the signature that came with it."""
    signature = {"vendor": {"signature": "s+/=="}}
    for each in calls_in(request):
        if each.get("extra_content") != signature:
            return plain(
                [{"error": {"code": 400, "message": "a call has lost its signature"}}], 400
            )
    if has_result(request):
        return answer("done")
    number = len(list(calls_in(request)))
    return stream(
        chunk({"tool_calls": [fragment("now", "{}", f"c{number}", None, extra_content=signature)]}),
        finish("tool_calls"),
        DONE,
    )


def thinking(name: str, *pieces: dict[str, Any], back: dict[str, Any]) -> None:
    """A server that wants these members back with every call, whole."""

    def script(request: Request) -> Reply:
        for message in request.body["messages"]:
            if message.get("tool_calls") and any(message.get(n) != v for n, v in back.items()):
                return error(f"every call must come with its `{next(iter(back))}`")
        if has_result(request):
            return answer("done")
        number = len(list(calls_in(request)))
        called = chunk({"tool_calls": [fragment("now", "{}", f"call_{number}")]})
        return stream(*map(chunk, pieces), called, finish("tool_calls"), DONE)

    DIALECTS[name] = lambda: script


thinking(
    "reasoning_back",
    {"role": "assistant", "reasoning_content": "I need ", "content": None},
    {"reasoning_content": "the time."},
    back={"reasoning_content": "I need the time."},
)
thinking(
    "reasoning_details_back",
    {"reasoning": "I ", "reasoning_details": [{"type": "text", "index": 0, "text": "I "}]},
    {"reasoning": "see", "reasoning_details": [{"type": "text", "index": 0, "text": "see"}]},
    {"reasoning_details": [{"type": "text", "index": 0, "signature": "sig"}]},
    {"reasoning_details": [{"type": "encrypted", "index": 1, "data": "abc", "id": "r1"}]},
    back={
        "reasoning": "I see",
        "reasoning_details": [
            {"type": "text", "index": 0, "text": "I see", "signature": "sig"},
            {"type": "encrypted", "index": 1, "data": "abc", "id": "r1"},
        ],
    },
)


@dialect
def long_ids(request: Request) -> Reply:
    """Ids carry a signature, in the call and in its result."""
    ids = [each["id"] for each in calls_in(request)]
    results = [m["tool_call_id"] for m in request.body["messages"] if m["role"] == "tool"]
    if ids != results or not all(len(i) > 200 for i in ids):
        return error(f"no signature in {[*ids, *results]}")
    if has_result(request):
        return answer("done")
    long_id = f"call_{len(ids)}_" + "Abc+/" * 60
    return stream(call(0, long_id, "now", "{}"), finish("tool_calls"), DONE)


# What a history may look like


@dialect
def alternate(request: Request) -> Reply:
    """User and assistant in turns; FAIL is refused for another reason."""
    if any(a == b != "tool" for a, b in zip(roles(request), roles(request)[1:], strict=False)):
        return flat_error("the roles here go in turns", code=400)
    return error("no luck") if "FAIL" in last_words(request) else HELLO


@dialect
def strict_order(request: Request) -> Reply:
    """No user right behind a tool, no assistant at the end; CALL calls, FAIL fails behind it."""
    pairs = list(zip(roles(request), roles(request)[1:], strict=False))
    if ("tool", "user") in pairs or roles(request)[-1] == "assistant":
        return flat_error("what an order of roles", code="3230")
    said = last_words(request)
    if "CALL" not in said:
        return HELLO
    if has_result(request):
        return error("no luck") if "FAIL" in said else answer("done")
    return stream(call(0, "D681PevKs", "now", "{}"), finish("tool_calls"), DONE)


@dialect
def no_blanks(request: Request) -> Reply:
    """No message without text; it calls the tool that the last message names."""
    for number, message in enumerate(request.body["messages"]):
        if isinstance(message.get("content"), str) and not message["content"].strip():
            return error(f"messages.{number}: blank")
    if has_result(request) or not last_words(request).startswith("call "):
        return HELLO
    name = last_words(request).split()[1]
    return stream(call(0, f"c{len(roles(request))}", name, "{}"), finish("tool_calls"), DONE)


def last_words(request: Request) -> str:
    """What the user said last, without what they were joined with."""
    said = [m["content"] for m in request.body["messages"] if m["role"] == "user"]
    return said[-1].split("\n\n")[-1]


def size(request: Request) -> int:
    """How many characters the conversation has."""
    return sum(len(m["content"] or "") for m in request.body["messages"])


refusing(
    "small_context",
    lambda request: size(request) > 4000,
    error("At most 1000 tokens of context.", code="context_length_exceeded", param="messages"),
    flat_error("The prompt is too long for this model", code=400),
    error("the request exceeds the available context size, try increasing it"),
    error("This model's maximum context length is 4096 tokens, you sent 9000.", param="messages"),
    Reply(("too much",), 413),
    error("`inputs` must have less than 1000 tokens. Given: 1500", 422),
    error("exceeds", type="exceed_context_size_error", code=400),
    plain({"detail": "Input is too long for requested model."}, 422),
    error("Range of input length should be [1, 1000]"),
    error("Input length 1500 exceeds the maximum of 1000"),
    error("`inputs` tokens + `max_new_tokens` must be <= 1000", 422),
    error("The prompt has 1500 tokens, but this model takes at most 1000"),
    error("输入内容过长，超出模型的最大长度"),
)


@dialect
def strict(request: Request) -> Reply:
    """All of these at once, and calls that are answered one by one."""
    asked = request.body["messages"]
    ids = [call["id"] for call in calls_in(request)]
    if ids != [m["tool_call_id"] for m in asked if m["role"] == "tool"]:
        return error("a call and its result must go together")
    for script in (alternate, strict_order, no_blanks):
        reply = script(request)
        if reply.status != 200:
            return reply
    return HELLO


@dialect
def no_null(request: Request) -> Reply:
    """Every message has a text, and a call's is not null."""
    if any(not isinstance(m.get("content"), str) for m in request.body["messages"]):
        return error("Input should be a valid string", param="messages[2].content")
    return no_blanks(request)


refusing(
    "ids_of_twelve",
    lambda request: any(len(each["id"]) != 12 for each in calls_in(request)),
    error("Invalid tool_call_id: it must have exactly 12 characters"),
    error("bad id", param="messages[2].tool_calls[0].id", detail="a length of 12 is expected"),
)
refusing(
    "ids_of_nine",
    lambda request: any(len(each["id"]) != 9 for each in calls_in(request)),
    flat_error("Tool call id was call_x but must be of 9 letters or digits", code="3280"),
    error("string too long: at most 9", param="messages[2].tool_calls[0].id"),
    plain({"detail": [{"loc": ["body", "messages", 3, "tool_call_id"], "msg": "bad"}]}, 422),
)

# How an answer ends

half = text("Half an ")
died = {"code": "InternalError", "message": "the engine died"}
always("error_event", half, f"event: error\ndata: {json.dumps(died)}\n\n", DONE)
always(
    "error_event_in_two", half, "event: error\n", Pause(0.05), f"data: {json.dumps(died)}\n\n", DONE
)
always("error_event_of_text", half, "event: error\ndata: the engine died\n\n", DONE)
always("error_object", half, {"object": "error", "message": "the engine died", "code": 500}, DONE)
always("error_of_a_type", half, {"type": "error", "msg": "the engine died"}, DONE)
always("error_in_detail", half, {"detail": "the engine died"}, DONE)
always("error_in_chunk", half, {**finish("error"), "error": {"message": "the engine died"}})
always("error_as_text", half, {"error": "the engine died"}, DONE)
always(
    "error_in_the_choice",
    half,
    {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "the engine died"}}]},
)
always("error_of_no_shape", half, {"oops": "the engine died"}, DONE)
always("errors", half, {"errors": [{"message": "the engine died"}]}, DONE)
always("breaks_off_in_arguments", half, call(0, "c", "add", '{"ex'), {"error": {"message": "x"}})
always(
    "finish_in_every_chunk",
    chunk({"role": "assistant", "content": ""}, "stop"),
    chunk({"content": "hello "}, "stop"),
    Pause(2.3),
    chunk({"content": "there"}, "stop"),
    DONE,
)
always(
    "finish_is_the_text_null",
    chunk({"content": "hello "}, "null"),
    Pause(2.3),
    chunk({"content": "there"}, "null"),
    finish(),
    DONE,
)
always("finish_before_the_end", text("hello "), finish(), text("there"), finish(), DONE)
for number, busy in enumerate(
    (
        {"error": {"code": 503, "message": "nothing free"}},
        {"error": {"type": "overloaded_error", "message": "try later"}},
        {"error": {"code": "429", "message": "slow down"}},
        {"object": "error", "message": "try later", "code": 529},
    )
):
    once(f"busy_in_the_stream_{number}", stream(busy))
always("error_as_stream", '{"error": {"message": "no channel for this"}}')
always("error_as_plain_text", "no channel for this", content_type="text/plain")
always("error_with_200", '{"code": "Invalid", "message": "no channel for this"}')
always("error_in_a_list", '[{"error": {"code": 400, "message": "no channel for this"}}]')
always("a_page", "<!doctype html><p>no channel for this", content_type="text/html")
always("a_page_as_stream", "\n<html>no channel for this")

# How tools are called

calling("no_index", fragment("now", "{}", "", None), fragment("add", SUM, "", None))
calling("all_index_0", fragment("now", "{}", ""), fragment("add", SUM, ""))
calling("all_index_0_with_ids", fragment("now", "{}", "a"), fragment("add", SUM, "b"))
calling("one_tool_twice", fragment("now", "{}"), fragment("add", SUM), fragment("add", SUM, "b"))
calling("no_arguments_first", fragment("now", "", "a"), fragment("add", SUM, "b"))
calling(
    "interleaved",
    chunk({"tool_calls": [fragment("add", "", "a"), fragment("now", "", "b", 1)]}),
    *(fragment(None, piece, None, i) for i, piece in ((0, PIECES[0]), (1, "{"), (0, PIECES[1]))),
    *(fragment(None, piece, None, i) for i, piece in ((1, "}"), (0, PIECES[2]))),
)
calling(
    "text_between",
    fragment("now", "{}", "a"),
    text("and also "),
    fragment("add", SUM, "b", 1),
    text("this"),
)
calling("one_object", chunk({"tool_calls": fragment("add", SUM)}), fragment("now", "{}", "b", 1))
calling("blank_ids", fragment("add", ""), *(fragment("", piece, "") for piece in PIECES))
calling("name_repeated", *(fragment("add", piece) for piece in PIECES))
calling("name_repeated_without_id", *(fragment("add", piece, "") for piece in PIECES))
calling(
    "no_index_blank_ids",
    fragment("add", "", "a", None),
    *(fragment("", piece, "", None) for piece in PIECES),
)
calling("two_indexes", fragment("add", ""), *(fragment(None, p, None, 3) for p in PIECES))
calling("two_ids", fragment("add", "", "a"), *(fragment(None, piece, "b") for piece in PIECES))
calling("two_ids_and_names", *(fragment("add", p, f"i{i}") for i, p in enumerate(PIECES)))
calling(
    "two_ids_no_index",
    fragment("add", "", "a", None),
    *(fragment(None, piece, "b", None) for piece in PIECES),
)
calling("empty_object_first", fragment("add", "{}"), fragment(None, SUM, None))
calling(
    "empty_object_in_pieces",
    *(fragment("add", "{"), fragment(None, "}", None)),
    *(fragment(None, piece, None) for piece in PIECES),
)
calling("null_first", fragment("add", "null"), fragment(None, SUM, None))
calling("whole_call_repeated", fragment("add", SUM), fragment("add", SUM))
calling("arguments_object", fragment("add", {"expression": "2+3"}), reason="stop")
calling("json_in_json", fragment("add", json.dumps(SUM)))
calling(
    "json_in_json_in_pieces",
    fragment("add", json.dumps(SUM)[:9]),
    fragment(None, json.dumps(SUM)[9:]),
)


@dialect
def whole_with_calls(request: Request) -> Reply:
    """One JSON object each time, though a stream was asked for; the first one calls tools."""
    calls = [fragment("now", "{}", "a", None), fragment("add", SUM, "b", None)]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    called = {"choices": [{"message": message, "finish_reason": "stop"}]}
    return plain(whole if has_result(request) else called)


calling(
    "one_tool_twice_interleaved",
    chunk({"tool_calls": [fragment("add", "", "a"), fragment("add", "", "b", 1)]}),
    *(fragment(None, piece, None, i) for piece in PIECES for i in (0, 1)),
)
calling("function_call", chunk({"function_call": {"name": "add", "arguments": SUM}}))
calling("arguments_empty", fragment("now", ""))
calling("arguments_null", fragment("now", "null"))
calling("arguments_missing", chunk({"tool_calls": [{"id": "a", "function": {"name": "now"}}]}))

# What is charged


def counts(input_tokens: int, output_tokens: int, total: int) -> dict[str, int]:
    """A usage as chat completions have it."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": total,
    }


always("reasoning_apart", text("x"), {**finish(), "usage": counts(32, 9, 2041)}, DONE)
always(
    "usage_in_every_chunk",
    *({**text("x"), "usage": counts(30, n, 30 + n)} for n in (1, 2)),
    {**finish(), "usage": counts(30, 3, 33)},
    DONE,
)
always(
    "usage_then_empty",
    {"choices": None},
    text("x"),
    {**finish(), "usage": counts(3, 4, 7)},
    {"choices": [], "usage": {}},
    DONE,
)

# Reasoning

always(
    "reasoning_member",
    *[chunk({"reasoning_content": "hm "})] * 3,
    text("hello there"),
    finish(),
    DONE,
)
for tag in ("think", "thinking", "thought", "reasoning"):
    pieces = (
        "<",
        f"{tag}>",
        "my secret",
        f" thoughts</{tag[:3]}",
        f"{tag[3:]}>",
        "\n\nhello there",
    )
    DIALECTS[f"tags_{tag}"] = lambda pieces=pieces: answer(*pieces)
always(
    "thinking_parts",
    chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
    chunk({"content": [{"type": "text", "text": "hello there"}]}),
    finish(),
    DONE,
)


def make(name: str) -> CompletionsServer:
    """A server of this kind, to be entered."""
    return CompletionsServer(DIALECTS[name]())
