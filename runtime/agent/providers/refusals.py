"""Which options a model's server does not know: found in its refusals, and believed for minutes.

A refusal may quote what users have sent, so that an option's name in its text says nothing. It
counts where the server names the culprit, and is remembered only once the request without that
option was accepted.
"""

import json
import re
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

# Long enough that a busy service rarely asks in vain, short enough that an upgrade is noticed.
BELIEVED_SECONDS = 600.0
# No server nests what it says deeper than this.
MAX_DEPTH = 8

# How servers say that they do not know an option, rather than what is wrong with its value.
UNKNOWN = (
    r"unsupported|un-?recogni[sz]ed|unknown|unexpected|extra_forbidden|extra (?:inputs|fields?)"
    r"|(?:not|n['’]t) (?:\w+ )?(?:support|permit|allow|recogni[sz]|accept|know|implement|expect"
    r"|exist|enabled|available|valid)\w*"
    r"|no such|cannot find|disallowed|forbidden|invalid (?:parameter|argument|field|option|key)"
    r"|additional propert|deprecated|removed|in place of|instead"
)
# How far from such words an option's name still belongs to them; no sentence ends between.
NEAR = r"[^.;\n]{0,60}?"


@dataclass(frozen=True)
class Refusal:
    """What a server said when it did not take a request.

    `named` are the members of the request that it names as the culprits in members of its own
    (`param`, `loc`), outermost first, and `words` is its text.
    """

    status: int
    words: str
    named: tuple[str, ...] = ()

    @classmethod
    def read(cls, status: int, text: str) -> "Refusal":
        """The refusal in the body of an answer, of any shape."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return cls(status, text)
        objects = list(_objects(value))
        places = [place for each in objects for place in _places(each)]
        words = " \n".join(
            text for each in objects for text in each.values() if isinstance(text, str)
        )
        return cls(status, words or str(value), tuple(places))

    def is_about(self, name: str) -> bool:
        """Whether the server says that it does not know this option of the request.

        Where it names a culprit in a member of its own, that alone is one.
        """
        if self.named:
            return name in self.named and re.search(UNKNOWN, self.words, re.IGNORECASE) is not None
        # A name with a value behind it is one in a request that is quoted.
        name = rf"(?<![\w-]){re.escape(name)}(?![\w-])(?!\\?[\"'] ?: ?[\[{{\"'\d\\tfn])"
        beside = rf"(?:{UNKNOWN}){NEAR}{name}|{name}{NEAR}(?:{UNKNOWN})"
        return re.search(beside, self.words, re.IGNORECASE) is not None


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, those in a text too, the outer ones first."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            if isinstance(each, str) and depth == 0:
                yield {"message": each}
            yield from _objects(each, depth + 1)


def _places(error: dict[str, Any]) -> Iterator[str]:
    """The members of a request that an error object names: `max_tokens`, `tools[0].function`."""
    for key in ("param", "loc", "field", "path", "parameter"):
        place = error.get(key)
        if isinstance(place, str) and place:
            place = re.split(r"[.\[\]/]+", place)
        if isinstance(place, list):
            parts = [part for part in place if isinstance(part, str) and part not in ("", "body")]
            yield from parts[:1]


@dataclass
class Learnt:
    """What one model's server was found to refuse, each for `seconds`. Safe for many threads."""

    seconds: float = BELIEVED_SECONDS
    _until: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> frozenset[str]:
        """What is believed to be refused at the moment."""
        now = time.monotonic()
        with self._lock:
            self._until = {name: until for name, until in self._until.items() if until > now}
            return frozenset(self._until)

    def learn(self, names: Collection[str]) -> None:
        """Believe these from now on."""
        until = time.monotonic() + self.seconds
        with self._lock:
            self._until |= dict.fromkeys(names, until)
