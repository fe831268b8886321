"""Shapes that are one of several, told apart by their `type`: the events of a stream."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

TEXT: dict = {"type": "string"}
COUNT: dict = {"type": "integer", "minimum": 0}


@dataclass(frozen=True)
class Union:
    """Each `type` with its members, with a `?` behind an optional name.

    `name` has a place for the type: `{}Event`.
    """

    name: str
    members: Mapping[str, Mapping[str, dict]]

    def shapes(self) -> Iterator[tuple[str, str, dict]]:
        """Of each one the type, its name in the document, and its JSON schema."""
        for kind, members in self.members.items():
            properties = {name.removesuffix("?"): {**shape} for name, shape in members.items()}
            required = ["type", *(name for name in members if not name.endswith("?"))]
            shape = {
                "type": "object",
                "properties": {"type": {"type": "string", "const": kind}, **properties},
                "required": required,
            }
            yield kind, self._name_of(kind), shape

    def schema(self) -> dict:
        """The JSON schema of any of them, for OpenAPI."""
        refs = {kind: f"#/components/schemas/{name}" for kind, name, _shape in self.shapes()}
        return {
            "oneOf": [{"$ref": ref} for ref in refs.values()],
            "discriminator": {"propertyName": "type", "mapping": refs},
        }

    def _name_of(self, kind: str) -> str:
        words = kind.lower().split("_")
        return self.name.format("".join(word.capitalize() for word in words))
