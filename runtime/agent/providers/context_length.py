"""How long a conversation a model has room for: told by what it refuses."""

import re
from collections.abc import Sequence

from runtime.agent.messages import Message, chars_of
from runtime.agent.providers.server_error import FLAGS, ServerError

# How often a conversation is cut and asked again.
MAX_CUTS = 2
# What is left, in numbers that a server tells, for the template and the answer.
SHARE_OF_LENGTH = 0.8

TOO_LONG = (
    r"context[_ -]?(?:length|window|size|limit)|maximum (?:context|input|prompt|sequence)"
    r"|(?:prompt|input|request|messages?|conversation)\b[^.;\n]{0,40}\btoo (?:long|large|many|big)"
    r"|(?:less|fewer) than [\d,]+ (?:\w+ )?tokens|\bshorten\b|\bn_ctx\b"
    r"|too many (?:input |prompt )?tokens|reduce (?:the |your )?(?:length|number|size|prompt|input)"
    r"|exceed\w*[^.;\n]{0,60}\b(?:tokens?|context)\b|tokens?\b[^.;\n]{0,40}\bexceed"
    r"|(?:longer|more tokens) than|takes? at most [\d,]+"
    r"|\b(?:input|prompt|sequence) length\b|[`'\"]?inputs?[`'\"]? tokens\b"
    r"|(?:输入|对话|上下文|消息|请求|内容)[^。；\n]{0,20}(?:过长|太长|超长|超出|超过|大于)"
    r"|(?:超出|超过|大于)[^。；\n]{0,20}(?:长度|上下文|tokens?\b)"
)


def is_too_long(error: ServerError) -> bool:
    """Whether the error says that the conversation has become too long for the model."""
    if error.status == 413:
        return True
    if error.status in (429, 529):
        return False
    places = {place[0] for place in error.places}
    return places <= {"messages", "input", "prompt"} and error.says(TOO_LONG)


def share_that_fits(error: ServerError) -> float:
    """How much of what was sent may be sent: half, or less if the numbers it tells say so."""
    numbers = [int(each.replace(",", "")) for each in re.findall(r"\d[\d,]*", error.words)]
    numbers = [each for each in numbers if each >= 256]
    if len(numbers) < 2:
        return 0.5
    return min(0.5, SHARE_OF_LENGTH * min(numbers) / max(numbers))


def speaks_of_length(message: Message) -> bool:
    """Whether a server that says so may have quoted this message of a user."""
    return message.role != "system" and re.search(TOO_LONG, message.content, FLAGS) is not None


def bytes_of(messages: Sequence[Message]) -> int:
    """The size in bytes of UTF-8, of which a token has about as many in every language."""
    texts = [message.content for message in messages]
    more = sum(len(each.encode("utf-8", "replace")) - len(each) for each in texts)
    return chars_of(messages) + more
