"""Tool calls as servers write them: which fragments are one call, and what its arguments are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runtime.agent.providers.parsing import VendorPieces, expect
from runtime.agent.providers.provider import ToolCallDelta
from runtime.agent.providers.server_error import json_or_text

# Arguments that some servers send before the real ones, or in place of none.
NOTHING = ("{}", "null", '""', "")


@dataclass
class _Call:
    """A call as far as it came. `held` are arguments that may turn out to be none."""

    index: Any
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    held: str = ""
    members: VendorPieces = field(default_factory=VendorPieces)

    def is_complete(self) -> bool:
        """Whether its arguments are whole. What follows may then be another call."""
        return isinstance(json_or_text(self.arguments + self.held), dict | None)

    def take(self, piece: str) -> str:
        """The arguments that can be passed on now that this piece has come."""
        if self.held.strip() in NOTHING and piece.lstrip().startswith(("{", '"')):
            self.held = ""
        whole = self.held + piece
        # An empty object may mean no arguments yet. A text may hold the object: its end tells.
        is_nothing = "".join(whole.split()) in ("{", *NOTHING)
        if not self.arguments and (is_nothing or whole.lstrip().startswith('"')):
            self.held = whole
            return ""
        self.held = ""
        self.arguments += whole
        return whole

    def rest(self) -> str:
        """What was held back, at the end: the object, out of the text that it may stand in."""
        held, self.held = self.held.strip(), ""
        inner = json_or_text(held)
        rest = inner if isinstance(inner, str) else "{}" if held else ""
        self.arguments += rest
        return rest


class CallReader:
    """Makes ToolCallDelta of the fragments that one step's calls come in.

    `common` are the members of a fragment that every server sends; others are the vendor's own.
    """

    def __init__(self, common: frozenset[str]) -> None:
        self._common = common
        self._calls: list[_Call] = []

    def read(self, fragment: dict[str, Any]) -> Iterator[ToolCallDelta]:
        """The deltas of a fragment, which may be none. Raises ProviderError for rubbish."""
        given = fragment if "name" in fragment else {}
        function = expect(fragment.get("function") or given, dict, "function")
        call_id, name = _text(fragment.get("id")), _text(function.get("name"))
        piece = _arguments(function.get("arguments"))
        number = self._number(fragment.get("index"), call_id, name, piece)
        call = self._calls[number]
        call.members.add({n: v for n, v in fragment.items() if n not in self._common and v})
        # Some servers say all of a call once more at its end.
        is_repeated = piece == call.arguments and bool(name) and call.is_complete()
        passed_on = "" if is_repeated else call.take(piece)
        tells = bool(call_id and not call.id) or bool(name and not call.name)
        call.id, call.name = call.id or call_id, call.name or name
        if tells or passed_on:
            yield ToolCallDelta(number, call_id, name, passed_on)

    def last(self) -> Iterator[ToolCallDelta]:
        """What was held back of the calls' arguments."""
        for number, call in enumerate(self._calls):
            if rest := call.rest():
                yield ToolCallDelta(number, arguments=rest)

    def members(self) -> dict[int, dict[str, Any]]:
        """What each call has that is the vendor's own, its id among it, by its number."""
        ids = ({"id": call.id} if call.id else {} for call in self._calls)
        own = (call.members.value for call in self._calls)
        return {n: {**i, **o} for n, (i, o) in enumerate(zip(ids, own, strict=True)) if i or o}

    def _number(self, index: Any, call_id: str | None, name: str | None, piece: str) -> int:
        """Which call of the step a fragment belongs to, however little the server tells of it."""
        number = self._known(index, call_id, name)
        if number is None or self._begins_anew(self._calls[number], call_id, name, piece):
            self._calls.append(_Call(index))
            return len(self._calls) - 1
        return number

    def _known(self, index: Any, call_id: str | None, name: str | None) -> int | None:
        """The call that index and id point at: the id first, then the index, then the last call.

        A fragment that has only an index goes on with the last call, also if the index is new.
        """
        latest = list(enumerate(self._calls))[::-1]
        of_id = [n for n, call in latest if call_id and (call_id, index) == (call.id, call.index)]
        of_index = [n for n, call in latest if index is not None and index == call.index]
        goes_on = index is None or not (call_id or name)
        last = [n for n, _call in latest[:1] if goes_on]
        return next(iter([*of_id, *of_index, *last]), None)

    def _begins_anew(self, call: _Call, call_id: str | None, name: str | None, piece: str) -> bool:
        """Whether a fragment that points at this call is another one's first all the same.

        Only a name begins a call. It does when this one's is another, or its arguments are whole;
        the id may tell two calls of one tool apart, but some servers change it on the way.
        """
        if not name or not call.name:
            return False
        if name != call.name:
            return True
        if call_id and call.id and call_id != call.id:
            return call.is_complete() or not piece
        is_repeated = piece == call.arguments
        is_whole = piece.lstrip().startswith("{") and bool(call.arguments) and call.is_complete()
        return is_whole and not is_repeated


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
