"""Tools that the caller of the agent answers: their schemas are their authors', of any kind."""

import json
from collections.abc import Callable
from typing import Any

from runtime.agent.tools.argument_fields import JsonSchema
from runtime.agent.tools.parameters import MAX_DESCRIPTION_CHARS
from runtime.agent.tools.tool import Tool


def foreign(name: str, description: str, parameters: JsonSchema) -> Tool:
    """A tool that the caller of the agent answers, as its author wrote it.

    Only texts that are longer than models' servers take are cut.
    """
    return Tool(name, description[:MAX_DESCRIPTION_CHARS], _changed(parameters, _with_short_text))


def with_choices_in_words(parameters: JsonSchema) -> JsonSchema:
    """The schema with each choice that is not one of texts told in its description."""
    return _changed(parameters, _with_choice_in_words)


def _changed(schema: Any, change: Callable[[JsonSchema], JsonSchema]) -> Any:
    """The schema with each object in it changed."""
    if isinstance(schema, list):
        return [_changed(each, change) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return change({name: _changed(value, change) for name, value in schema.items()})


def _with_short_text(schema: JsonSchema) -> JsonSchema:
    text = schema.get("description")
    return (
        schema | {"description": text[:MAX_DESCRIPTION_CHARS]} if isinstance(text, str) else schema
    )


def _with_choice_in_words(schema: JsonSchema) -> JsonSchema:
    choices = schema.get("enum")
    if not isinstance(choices, list) or all(isinstance(each, str) for each in choices):
        return schema
    words = f"{schema.get('description', '')} One of {', '.join(map(json.dumps, choices))}."
    kinds = {"integer" if type(each) is int else "number" for each in choices}
    is_of_numbers = all(type(each) in (int, float) for each in choices)
    kind = {"type": "number" if len(kinds) > 1 else kinds.pop()} if is_of_numbers else {}
    rest = {name: value for name, value in schema.items() if name != "enum"}
    return {**kind, **rest, "description": words.strip()[:MAX_DESCRIPTION_CHARS]}
