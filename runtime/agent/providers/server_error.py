"""What a server says when it takes no request: its words, and what it names as the culprit.

It may quote what users have sent. A name in its text therefore says nothing by itself.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# No server nests what it says deeper than this.
MAX_DEPTH = 8
# Members with a sentence for people, the best first.
SENTENCES = (
    *("message", "msg", "error_message", "errorMessage", "error_msg", "errmsg", "detail"),
    *("details", "description", "reason", "title", "error", "errors"),
)
# Members that name what is wrong in the request, and those that have a status.
PLACES = ("param", "loc", "field", "path", "parameter")
NO_PLACES = ("none", "null", "unknown", "request", "body", "root", "__root__")
STATUSES = ("status", "status_code", "code", "http_status", "statusCode")
# What says which status is meant where there is no number.
KINDS = (
    (429, r"rate.?limit|too.?many.?requests|throttl|quota|resource.?exhausted"),
    (529, r"overloaded|capacity|\bbusy\b"),
    (503, r"unavailable|no instance"),
)
# How servers say that they do not know or take something, rather than what is wrong with it.
UNKNOWN = (
    r"unsupported|un-?recogni[sz]ed|unknown|unexpected|extra_forbidden|extra (?:inputs|fields?)"
    r"|(?:not|n['’]t|no) (?:\w+ ){0,3}(?:support|permit|allow|recogni[sz]|accept|know|implement"
    r"|expect|exist|enabled|available|valid|compatible)\w*"
    r"|no such|cannot|can['’]t|unable|incapable|disallow|disabled|forbid|incompatible"
    r"|invalid (?:parameter|argument|field|option|key)"
    r"|additional propert|deprecated|remove|in place of|instead"
    r"|不支持|不允许|不可用|不接受|不兼容|不存在|不能|无法|未启用|未开启|禁用"
)
# How far from such words a name still belongs to them, if no sentence ends between.
NEAR = 80
# A line that is indented goes on with the one before.
SENTENCE_END = re.compile(r"[.;!?](?=\s|$)|[。；！？]|\n(?![ \t])")
# A name may stand in a Chinese sentence, whose characters are letters too, but not to these.
FLAGS = re.IGNORECASE | re.ASCII
# A name with a value behind it is one in a request that is quoted.
NO_VALUE = r"(?!\\?[\"'] ?: ?[\[{\"'\d\\tfn])"


@dataclass(frozen=True)
class ServerError:
    """A server_error: its `status`, its `message` for people, and all of its `words` for matching.

    `places` are the members of the request that it names in members of its own, each as a path:
    `("messages", "0", "role")`.
    """

    status: int | None
    message: str
    words: str
    places: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def read(cls, value: Any, status: int | None = None) -> "ServerError":
        """The server_error in an error object, or in a text that may be one, of any shape."""
        value = _decoded(value)
        objects = list(_objects(value))
        texts = [text for each in objects for text in _texts(each)]
        words = " \n".join(texts) or _as_text(value)
        places = tuple(place for each in objects for place in _places(each))
        return cls(status or _status(objects, words), _message(value), words, places)

    def is_about(self, name: str, unknown: str = UNKNOWN) -> bool:
        """Whether the server says of this member of the request what `unknown` is a pattern of.

        Where it names a culprit in a member of its own, that alone is one.
        """
        if self.places:
            return any(name == place[0] for place in self.places) and self.says(unknown)
        name = rf"(?<![\w-]){re.escape(name)}(?![\w-]){NO_VALUE}"
        return self.says_beside(name, unknown)

    def says(self, pattern: str) -> bool:
        """Whether the pattern is somewhere in its words."""
        return re.search(pattern, self.words, FLAGS) is not None

    def says_beside(self, pattern: str, unknown: str = UNKNOWN) -> bool:
        """Whether the pattern is in a sentence of its words, and `unknown` near it."""
        return are_near(self.words, pattern, unknown)


def are_near(text: str, pattern: str, other: str) -> bool:
    """Whether both patterns are in one sentence of a text, near each other or one in the other."""
    for found in re.finditer(pattern, text, FLAGS):
        before = SENTENCE_END.split(text[max(0, found.start() - NEAR) : found.start()])[-1]
        behind = SENTENCE_END.split(text[found.end() : found.end() + NEAR])[0]
        if re.search(other, before + found[0] + behind, FLAGS):
            return True
    return False


# `json.loads` without its searches for blanks: a tenth of the processor time of a stream's chunk,
# the row "deltas a second of a core" of tests/latency_benchmark.py.
_decode = json.JSONDecoder().raw_decode


def json_or_text(text: str) -> Any:
    """The value that a text is the JSON of, or else the text."""
    stripped = text.strip()
    try:
        value, end = _decode(stripped)
    except (ValueError, RecursionError):
        return text
    return value if end == len(stripped) else text


def _decoded(value: Any) -> Any:
    """JSON that a text has, or the text."""
    is_json = isinstance(value, str) and value.lstrip().startswith(("{", "[", '"'))
    return json_or_text(value) if is_json else value


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, those in its texts too, the outer ones first."""
    value = _decoded(value)
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner if depth < MAX_DEPTH else ():
        yield from _objects(each, depth + 1)


def _texts(value: dict[str, Any]) -> Iterator[str]:
    for each in value.values():
        for text in each if isinstance(each, list) else [each]:
            if isinstance(text, str) and not isinstance(_decoded(text), dict | list):
                yield text


def _places(error: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key in PLACES:
        place = error.get(key)
        if isinstance(place, str) and place.lower() not in NO_PLACES:
            place = re.split(r"[.\[\]/]+", place)
        if isinstance(place, list):
            parts = tuple(str(part) for part in place if part not in ("", "body", "$"))
            if parts:
                yield parts


def _status(objects: list[dict[str, Any]], words: str) -> int | None:
    for each in objects:
        for key in STATUSES:
            if re.fullmatch(r"[45]\d\d", str(each.get(key))):
                return int(each[key])
    kinds = (status for status, kind in KINDS if re.search(kind, words, FLAGS))
    return next(kinds, None)


def _message(value: Any, depth: int = 0) -> str:
    """What it says to people: of any length, in any words."""
    value = _decoded(value)
    if isinstance(value, list) and depth <= MAX_DEPTH:
        return "; ".join(_message(each, depth + 1) for each in value)
    if isinstance(value, dict) and depth <= MAX_DEPTH:
        said = next((value[key] for key in SENTENCES if value.get(key)), None)
        return _as_text(value) if said is None else _message(said, depth + 1)
    return _as_text(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
