"""What a tool gave, as a text for a model."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from enum import Enum
from itertools import islice
from typing import Any

from runtime.agent.text import clean

MAX_RESULT_CHARS = 20_000


def text_of(result: Any) -> str:
    """A string as it is, everything else as JSON; what is too long is cut, and says so."""
    result = plain(result)
    if not isinstance(result, str):
        result = json.dumps(result, ensure_ascii=False)
    return cut(clean(result))


def cut(result: str) -> str:
    """A result short enough for a model to read, with a note when it was cut."""
    if len(result) <= MAX_RESULT_CHARS:
        return result
    return (
        f"{result[:MAX_RESULT_CHARS]}\n[cut after {MAX_RESULT_CHARS} of {len(result)} characters]"
    )


def plain(value: Any) -> Any:
    """The value as JSON has it: dataclasses and mappings as objects, what is in order as arrays."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(each) for name, each in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [plain(each) for each in islice(value, MAX_RESULT_CHARS)]
    return str(value)
