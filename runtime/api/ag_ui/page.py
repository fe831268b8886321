"""What an AG-UI client tells of its page: its instructions, its `context` and `state`."""

import json

from runtime.api.ag_ui.messages import is_instruction
from runtime.api.new_messages import text_of
from runtime.errors import Fault, InvalidParameters

# What of the room that the model has it may take, all together.
MAX_PAGE_CHARS = 30_000


def told_by(body: dict) -> str:
    """What the page tells the model, as JSON; empty if it is nothing.

    Raises InvalidParameters, which names the longest part, when it is too long.
    """
    parts = {
        "messages": [text for each in body["messages"] if (text := _instruction(each))],
        "context": _context(body["context"]),
        "state": body["state"],
    }
    told = {name: part for name, part in parts.items() if part}
    if not told:
        return ""
    texts = {name: json.dumps(part, ensure_ascii=False) for name, part in told.items()}
    if sum(map(len, texts.values())) > MAX_PAGE_CHARS:
        longest = max(texts, key=lambda name: len(texts[name]))
        raise InvalidParameters(Fault(f"#/{longest}", f"too_long {MAX_PAGE_CHARS}"))
    return "{" + ", ".join(f'"{NAMES[name]}": {text}' for name, text in texts.items()) + "}"


# As the model reads them.
NAMES = {"messages": "instructions", "context": "context", "state": "state"}


def _instruction(message: dict) -> str:
    return text_of(message).strip() if is_instruction(message) else ""


def _context(given: object) -> list[dict]:
    """What is `Context` in AG-UI; another thing is none of ours."""
    return [
        {name: each[name] for name in ("description", "value")}
        for each in (given if isinstance(given, list) else ())
        if isinstance(each, dict) and each.keys() >= {"description", "value"}
    ]
