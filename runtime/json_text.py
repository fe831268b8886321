"""JSON as it goes out everywhere, to clients and to logs."""

import json

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Where other readers than JSON's end a line: JavaScript's `.` and `str.splitlines()` among them.
_LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def encode(value: object) -> str:
    """The value as JSON: compact, on one line for every reader."""
    return escape(_encode(value))


def escape(text: str) -> str:
    """JSON text with U+0085, U+2028 and U+2029 escaped; they can only stand in its strings."""
    if text.isascii():
        return text
    for character, escaped in _LINE_ENDS.items():
        text = text.replace(character, escaped)
    return text
