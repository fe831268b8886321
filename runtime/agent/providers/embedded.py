"""A model without a model: deterministic, says so in every reply, and really calls the tools.

It stands in while no real one is configured. A newcomer sees every kind of event.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.agent.messages import Message, ToolCall, Usage
from runtime.agent.providers.provider import Chunk, StepFinished, TextDelta, ToolCallDelta
from runtime.agent.tools.tool import Tool

CJK = r"\u3400-\u9fff"

ZONES = {
    "tokyo|东京": "Asia/Tokyo",
    "beijing|shanghai|北京|上海": "Asia/Shanghai",
    "hong kong|香港": "Asia/Hong_Kong",
    "singapore|新加坡": "Asia/Singapore",
    "london|伦敦": "Europe/London",
    "paris|巴黎": "Europe/Paris",
    "berlin|柏林": "Europe/Berlin",
    "new york|纽约": "America/New_York",
    "los angeles|san francisco|洛杉矶|旧金山": "America/Los_Angeles",
    "sydney|悉尼": "Australia/Sydney",
}
TIME = r"\btime\b|\bclock\b|what day|几点|时间|日期"
EMAIL = r"\be-?mail\b|邮箱|邮件地址"
PROFILE = (
    r"who am i|\bmy (own )?(name|profile|account|username|bio|e-?mail)\b"
    r"|我是谁|我叫什么|我的(名字|资料|账号|用户名|个人信息|简介|邮箱)"
)
WORDS = {
    r"divided by|除以": "/",
    r"multiplied by|times|乘以|乘|×": "*",
    r"plus|加上|加": "+",
    r"minus|减去|减": "-",
    r"÷": "/",
}
SUM = r"[\d(][\d\s.()]*(?:[-+*/%]+[\s(-]*[\d.][\d\s.()]*)+"
# A tool, and the arguments that it is to be called with.
Wish = tuple[str, dict[str, Any]]
DATE = r"\d{4}-\d\d?-\d\d?"

ENGLISH = {
    "label": "[embedded model]",
    "look": "One moment, I am calling my tools.",
    "time": "In {zone} it is {time} ({weekday}).",
    "sum": "{expression} = {value}.",
    "profile": "Your profile: {profile}.",
    "failed": "{tool} failed: {reason}",
    "help": (
        "I am no language model: I stand in until one is configured. I can tell the time "
        '("What time is it in Tokyo?"), do sums ("What is 12*(3+4)?") and read your profile '
        '("Who am I?"), in one message if you like. Messages in this conversation so far, '
        "yours included: {messages}. For a real model set OPENAI_BASE_URL, OPENAI_API_KEY and "
        "AGENT_MODEL."
    ),
}
CHINESE = {
    "label": "[内置模型]",
    "look": "请稍等，我来调用工具。",
    "time": "{zone} 现在是 {time}（{weekday}）。",
    "sum": "{expression} = {value}。",
    "profile": "您的资料：{profile}。",
    "failed": "{tool} 失败：{reason}",
    "help": (
        "我不是语言模型，只在没有配置模型时代为回答。我能查时间（“东京现在几点？”）、"
        "做算术（“12*(3+4) 等于几？”）、读取您的资料（“我是谁？”），也可以一次问几件事。"
        "这个对话到现在有 {messages} 条消息（含您这一条）。要使用真正的模型，请设置 "
        "OPENAI_BASE_URL、OPENAI_API_KEY 和 AGENT_MODEL。"
    ),
}


class EmbeddedProvider:
    """A Provider that needs no server. Uses only the tools it is offered."""

    name = "the embedded model, since no model's server is configured"
    refused = ""

    def stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        max_output_tokens: int | None = None,
        **_how: Any,
    ) -> Iterator[Chunk]:
        """One step; see `Provider.stream`. Its usage counts words, which is no token anywhere."""
        turn = _last_turn(messages)
        question = turn[0].content if turn else ""
        words = CHINESE if re.search(f"[{CJK}]", question) else ENGLISH
        results = [_result(message, turn, words) for message in turn if message.role == "tool"]
        offered = {tool.name for tool in tools}
        wishes = [] if results else [wish for wish in _wishes(question) if wish[0] in offered]
        talk = [each for each in messages if each.role in ("user", "assistant") and each.content]
        said = words["look"] if wishes else words["help"].format(messages=len(talk))
        text = f"{words['label']} {' '.join(results) or said}"
        if max_output_tokens is not None and len(text.split()) > max_output_tokens:
            text = " ".join(text.split()[:max_output_tokens])
            yield TextDelta(text)
            yield StepFinished("length", _usage(messages, text))
            return
        yield from (TextDelta(piece) for piece in _pieces(text))
        yield from _calls(wishes, messages)
        yield StepFinished("tool_calls" if wishes else "stop", _usage(messages, text))


def _last_turn(messages: Sequence[Message]) -> Sequence[Message]:
    asked = [number for number, message in enumerate(messages) if message.role == "user"]
    return messages[asked[-1] :] if asked else []


def _wishes(question: str) -> list[Wish]:
    """The tool calls that would answer the question."""
    wishes: list[Wish] = [("calculate", {"expression": each}) for each in _sums(question)]
    if re.search(TIME, question, re.IGNORECASE):
        wishes += [("current_time", {"zone": zone}) for zone in _zones(question)]
    if re.search(PROFILE, question, re.IGNORECASE):
        asks_for_email = re.search(EMAIL, question, re.IGNORECASE)
        wishes.append(("my_profile", {"with_email": True} if asks_for_email else {}))
    return wishes


def _zones(question: str) -> list[str]:
    named = re.findall(r"\b[A-Z][A-Za-z]+(?:/[A-Z][A-Za-z_]+)+", question)
    cities = [zone for city, zone in ZONES.items() if re.search(city, question, re.IGNORECASE)]
    return list(dict.fromkeys(named + cities)) or ["UTC"]


def _sums(question: str) -> list[str]:
    question = re.sub(DATE, " ", question)
    for word, sign in WORDS.items():
        question = re.sub(rf"(?<=[\d)])\s*(?:{word})\s*(?=[\d(])", f" {sign} ", question)
    found = (match.group().strip(" .") for match in re.finditer(SUM, question))
    return [each for each in found if each.count("(") == each.count(")")]


def _calls(wishes: Sequence[Wish], messages: Sequence[Message]) -> Iterator[Chunk]:
    before = sum(len(message.tool_calls) for message in messages)
    for index, (tool, wished) in enumerate(wishes):
        arguments = json.dumps(wished, ensure_ascii=False)
        half = len(arguments) // 2
        yield ToolCallDelta(index, f"call_{before + index + 1}", tool, arguments[:half])
        yield ToolCallDelta(index, arguments=arguments[half:])


def _result(message: Message, turn: Sequence[Message], words: dict[str, str]) -> str:
    """A tool's result as a sentence."""
    calls = {call.id: call for asked in turn for call in asked.tool_calls}
    call = calls.get(message.tool_call_id or "", ToolCall("", message.tool_name or "", "{}"))
    try:
        return _sentence(call, json.loads(message.content), words)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not what the built-in tool gives: an error, or another tool of that name.
        reason = message.content.removeprefix("Error: ")
        return words["failed"].format(tool=call.name, reason=reason)


def _sentence(call: ToolCall, value: Any, words: dict[str, str]) -> str:
    if call.name == "current_time":
        return words["time"].format(**value)
    if call.name == "calculate":
        return words["sum"].format(**json.loads(call.arguments), value=value)
    known = [f"{name} {each}" for name, each in value.items() if each is not None]
    return words["profile"].format(profile=", ".join(known))


def _pieces(text: str) -> list[str]:
    """The text a few words at a time, or characters of Chinese, which has no spaces."""
    return re.findall(rf"[{CJK}]{{1,8}}\s*|(?:[^\s{CJK}]+\s*){{1,5}}", text)


def _usage(messages: Sequence[Message], text: str) -> Usage:
    return Usage(sum(len(message.content.split()) for message in messages), len(text.split()))
