"""Thoughts in a text: what stands in tags at its beginning, as local servers send it."""

from collections.abc import Iterator
from dataclasses import dataclass

# Each model has its own.
TAGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")


@dataclass(frozen=True)
class Piece:
    """A piece of a text, of which one knows whether it was thought or said."""

    text: str
    is_thought: bool = False


class ThinkTags:
    """Tells thoughts from a text that comes in pieces. Elsewhere in a text a tag is text."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "beginning"
        self._end = ""

    def split(self, text: str) -> Iterator[Piece]:
        """The pieces that are certain by now; what may be a part of a tag waits for more."""
        self._held += text
        if self._state == "beginning":
            self._begin()
        if self._state == "thinking":
            yield from self._think()
        if self._state == "behind":
            # Blank lines that parted the thoughts from the answer belong to neither.
            self._held = self._held.lstrip()
            self._state = "saying" if self._held else "behind"
        if self._state == "saying" and self._held:
            yield Piece(self._held)
            self._held = ""

    def finish(self) -> Iterator[Piece]:
        """What waited, once no more comes."""
        if self._held and self._state != "behind":
            yield Piece(self._held, self._state == "thinking")
            self._held = ""

    def _begin(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(TAGS):
            tag, _, self._held = begun.partition(">")
            self._end, self._state = f"</{tag[1:]}>", "thinking"
        elif not any(tag.startswith(begun) for tag in TAGS):
            self._state = "saying"

    def _think(self) -> Iterator[Piece]:
        thought, tag, rest = self._held.partition(self._end)
        if tag:
            self._held, self._state = rest, "behind"
        else:
            # What may be the tag's beginning waits.
            sizes = range(len(self._end) - 1, 0, -1)
            size = next((n for n in sizes if thought.endswith(self._end[:n])), 0)
            end = len(thought) - size
            thought, self._held = thought[:end], thought[end:]
        if thought:
            yield Piece(thought, is_thought=True)
