"""The OpenAPI document's words, in each language.

The Chinese is in the source, in the docstrings of routes and the descriptions of fields; what is
not there is in `texts/zh.toml`. The English, all of it, is in `texts/en.toml`. What a file lacks is
told in Chinese; a test finds it.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import marshmallow as ma

from runtime import i18n

FOLDER = Path(__file__).parent / "texts"
SOURCE = i18n.LANGUAGES[0]


def name_of(schema: type[ma.Schema]) -> str:
    """What a shape is called in the document: by its class, unless that has another name for it."""
    return vars(schema).get("published_as") or schema.__name__.removesuffix("Schema")


def names_of(schema: type[ma.Schema]) -> list[str]:
    """The same, and then those of the shapes whose fields it has."""
    return [name_of(each) for each in schema.__mro__ if each.__name__.endswith("Schema")]


class Texts:
    """The words of one language. A language without a file has the English ones."""

    def __init__(self, language: str) -> None:
        self.language = language
        file = FOLDER / f"{language}.toml"
        file = file if file.exists() else FOLDER / "en.toml"
        self._tables: dict[str, dict[str, str]] = tomllib.loads(file.read_text("utf-8"))

    def say(self, section: str, key: str, chinese: str) -> str:
        """A text that is in the source in Chinese."""
        if self.language == SOURCE:
            return chinese
        return self._tables.get(section, {}).get(key, chinese).strip()

    def operation(self, operation: dict) -> None:
        """Tell an operation in this language: its summary and what comes after it."""
        whole = "\n\n".join(filter(None, [operation["summary"], operation.get("description")]))
        text = self.say("operations", operation["operationId"], whole)
        operation["summary"], _, description = text.partition("\n\n")
        if description:
            operation["description"] = description

    def shape(self, name: str) -> str | None:
        """What a shape is."""
        return self._tables["shapes"].get(name)

    def kind(self, kind: str) -> str | None:
        """What an event of this type says."""
        return self._tables["kinds"].get(kind)

    def field(self, shapes: Iterable[str], name: str, given: str | None = None) -> str | None:
        """What a field is: what is said of it in the first of these shapes, or for all shapes.

        `given` is the source's own description.
        """
        if given and self.language == SOURCE:
            return given
        found = self._tables["fields"]
        keys = [f"{shape}.{name}" for shape in shapes]
        return next((found[key] for key in [*keys, name] if key in found), given)

    def example(self, value: object) -> object:
        """An example in this language."""
        if isinstance(value, dict):
            return {name: self.example(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.example(inner) for inner in value]
        if not isinstance(value, str) or value.isascii() or self.language == SOURCE:
            return value
        for chinese, translated in self._tables["examples"].items():
            value = value.replace(chinese, translated)
        return value
