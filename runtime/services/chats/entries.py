"""The events of a run as its journal keeps them, and as a reader is told them."""

import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from runtime import i18n, json_text
from runtime.agent.events import Event, RunError, RunFinished
from runtime.agent.messages import Usage
from runtime.models.run_events import RunEvent

ENDINGS = ("RUN_FINISHED", "RUN_ERROR")
# The events that have a `delta`, each with the field that names what it is a piece of.
DELTAS = {
    "TEXT_MESSAGE_CONTENT": "message_id",
    "REASONING_MESSAGE_CONTENT": "message_id",
    "TOOL_CALL_ARGS": "tool_call_id",
}


class Entry(NamedTuple):
    """One event: its number and type, its JSON, and the lengths of the deltas joined in it.

    `vendor` is JSON that is kept with it, and shown to no client.
    """

    number: int
    type: str
    text: str
    pieces: tuple[int, ...] | None = None
    vendor: str | None = None

    @classmethod
    def of(cls, number: int, event: Event) -> "Entry":
        """The entry for an event of the agent."""
        fields = event.to_dict()
        if isinstance(event, RunError):
            fields["error"] = event.code.value
        if isinstance(event, RunFinished | RunError) and event.usage != Usage():
            fields["usage"] = {k: v for k, v in asdict(event.usage).items() if v is not None}
        vendor = getattr(event, "vendor", None)
        # In ASCII: a server may send what no database takes.
        kept = json.dumps(vendor) if vendor else None
        return cls(number, event.type, json_text.encode(fields), vendor=kept)

    @property
    def is_ending(self) -> bool:
        return self.type in ENDINGS

    @property
    def event(self) -> dict:
        """The event itself. Its error is a code, and its ending has the run's `usage`."""
        return json.loads(self.text)

    def after(self, number: int) -> "Entry":
        """What of a joined event follows the piece that had this number."""
        if not self.pieces or number <= self.number - len(self.pieces):
            return self
        event = self.event
        seen = len(self.pieces) - (self.number - number)
        event["delta"] = event["delta"][sum(self.pieces[:seen]) :]
        return self._replace(text=json_text.encode(event), pieces=self.pieces[seen:])

    def shown(self, language: str) -> dict:
        """The event as it is sent: its error in the reader's language, the usage told elsewhere."""
        event = self.event
        event.pop("usage", None)
        if "error" in event:
            event["error"] = error_sentence(event["error"], language)
        return event

    def shown_text(self, language: str) -> str:
        """The same, as JSON."""
        return json_text.encode(self.shown(language)) if self.is_ending else self.text


def error_sentence(error: str, language: str) -> str:
    """The sentence for the error of a run; those of earlier releases have it already."""
    code = f"run_{error}"
    return i18n.sentence(code, language) if code in i18n.SENTENCES else error


def join(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with consecutive deltas of one message or one tool call joined into one."""
    groups = (list(group) for _, group in groupby(entries, _owner))
    return [_joined(group) if len(group) > 1 else group[0] for group in groups]


def _owner(entry: Entry) -> Hashable:
    """What a delta is a piece of; every other entry stands alone."""
    field = DELTAS.get(entry.type)
    return (entry.type, entry.event[field]) if field else entry.number


def _joined(entries: list[Entry]) -> Entry:
    deltas = [entry.event["delta"] for entry in entries]
    event = entries[0].event | {"delta": "".join(deltas)}
    lengths = [
        length
        for entry, delta in zip(entries, deltas, strict=True)
        for length in entry.pieces or (len(delta),)
    ]
    return entries[-1]._replace(text=json_text.encode(event), pieces=tuple(lengths))


def read(after: Mapping[UUID, int]) -> dict[UUID, list[Entry]]:
    """What the database has of each of these runs behind the number that is given, in order."""
    found: dict[UUID, list[Entry]] = {run_id: [] for run_id in after}
    if not after:
        return found
    for run_id, number, kind, text, joined, vendor in RunEvent.behind(after):
        pieces = tuple(map(int, joined.split(","))) if joined else None
        # Rows of earlier releases have their type in the JSON alone.
        entry = Entry(number, kind or json.loads(text)["type"], text, pieces, vendor)
        its = found[run_id]
        its.append(entry if its else entry.after(after[run_id]))
    return found
