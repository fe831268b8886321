"""The types that people write for a tool's parameters and results."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import pytest

from runtime.agent.tools.tool import InvalidArguments, Tool, tool


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Place(TypedDict):
    city: str
    street: NotRequired[str]


@dataclass
class Guest:
    name: str
    age: int = 18
    tags: list[str] = field(default_factory=list)


Nights = NewType("Nights", int)

TIME = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
NUMBER = UUID("12345678-1234-5678-1234-567812345678")

TYPES = [
    (dict, {"a": [1]}, {"a": [1]}),
    (dict[str, Any], {"a": [1]}, {"a": [1]}),
    (dict[str, int], {"a": 1.0}, {"a": 1}),
    (list[dict], [{"a": 1}], [{"a": 1}]),
    (list[Place], [{"city": "Lima"}], [{"city": "Lima"}]),
    (Place, {"city": "Lima", "street": None}, {"city": "Lima"}),
    (Guest, {"name": "Ada", "age": None}, Guest("Ada")),
    (list[Guest], [{"name": "Ada", "tags": ["a"]}], [Guest("Ada", tags=["a"])]),
    (Colour, "red", Colour.RED),
    (Size, "2", Size.LARGE),
    (Size, 2, Size.LARGE),
    (Literal[1, 2, 3], "2", 2),
    (Literal["low", 2, True], "true", True),
    (datetime, "2026-03-04T05:06:00Z", TIME),
    (date, "2026-03-04", date(2026, 3, 4)),
    (time, "05:06:00", time(5, 6)),
    (Decimal, 0.1, Decimal("0.1")),
    (UUID, str(NUMBER), NUMBER),
    (int | str, "12", "12"),
    (int | str, 12, 12),
    (int | list[int], "[1, 2]", [1, 2]),
    (Guest | None, None, None),
    (set[str], ["a", "a"], {"a"}),
    (Sequence[int], [1], [1]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (Nights, 2, 2),
    (Annotated[int, "how many"] | None, 2, 2),
    (int, 12.0, 12),
    (int, "12", 12),
    (bool, "true", True),
    (dict, '{"a": 1}', {"a": 1}),
    (list[str], '["a"]', ["a"]),
]


def tool_of(hint: Any, seen: list, **default: Any) -> Tool:
    def take(value: Any) -> None:
        """Take it."""
        seen.append(value)

    take.__annotations__["value"] = hint
    take.__defaults__ = (default["default"],) if default else None
    return tool(take)


@pytest.mark.parametrize(("hint", "sent", "value"), TYPES)
def test_a_function_gets_the_value_that_its_type_says(hint: Any, sent: Any, value: Any) -> None:
    seen: list = []
    tool_of(hint, seen).call(json.dumps({"value": sent}))
    assert seen == [value]
    assert type(seen[0]) is type(value)


@pytest.mark.parametrize(
    ("hint", "sent", "place"),
    [
        (Guest, {"name": 1}, "arguments.value.name must be"),
        (Guest, {}, "arguments.value.name is missing"),
        (Place, {"city": "Lima", "zip": 1}, "arguments.value.zip is unknown"),
        (list[Place], [{"city": 1}], r"arguments.value\[0\].city must be"),
        (dict[str, int], {"a": "b"}, "arguments.value.a must be of type integer"),
        (Colour, "green", r'arguments.value must be one of \["red", "blue"\]'),
        (Size, 3, "must be one of"),
        (Literal[1], True, "must be one of"),
        (Literal["a"], ["a"], "must be one of"),
        (datetime, "yesterday", "an ISO 8601 date and time"),
        (UUID, "me", "a UUID"),
        (Decimal, "NaN", "must be of type number"),
        (int | bool, "x", "none of its types"),
        (dict, [], "must be of type object"),
        (Guest, None, "must not be null"),
    ],
)
def test_a_value_that_does_not_fit_is_named(hint: Any, sent: Any, place: str) -> None:
    with pytest.raises(InvalidArguments, match=place):
        tool_of(hint, []).call(json.dumps({"value": sent}))


def test_arguments_inside_of_a_json_text_are_read() -> None:
    seen: list = []
    tool_of(int, seen).call(json.dumps(json.dumps({"value": 3})))
    assert seen == [3]


@pytest.mark.parametrize("default", [5, 2.5, "x", [], {"a": 1}, Colour.BLUE, None, Guest("Ada")])
def test_null_means_the_default(default: Any) -> None:
    seen: list = []
    hint = str | None if default is None else dict if type(default) is dict else type(default)
    hint = list[str] if default == [] else hint
    take = tool_of(hint, seen, default=default)
    take.call('{"value": null}')
    take.call("{}")
    assert seen == [default, default]
    json.dumps(take.parameters)


def test_null_is_none_where_none_is_one_of_the_values_and_not_the_default() -> None:
    seen: list = []
    tool_of(int | None, seen, default=5).call('{"value": null}')
    assert seen == [None]


def schemas_in(schema: Any) -> Iterator[dict]:
    """Every schema in a schema."""
    yield schema
    for name in ("properties",):
        for inner in schema.get(name, {}).values():
            yield from schemas_in(inner)
    for inner in (
        schema.get("items"),
        schema.get("additionalProperties"),
        *schema.get("anyOf", ()),
    ):
        if isinstance(inner, dict):
            yield from schemas_in(inner)


@pytest.mark.parametrize("hint", [hint for hint, _sent, _value in TYPES])
def test_a_schema_has_a_type_everywhere_and_choices_that_are_texts(hint: Any) -> None:
    schemas = list(schemas_in(tool_of(hint, []).parameters))
    assert schemas
    for schema in schemas:
        assert "anyOf" in schema or schema["type"] in (
            *("object", "array", "string", "integer", "number", "boolean", "null"),
        )
        assert all(type(choice) is str for choice in schema.get("enum", ()))
        assert "items" in schema or schema.get("type") != "array"
        assert "default" not in schema or schema["default"] is not None


def google(city: str, nights: int = 1) -> None:
    """Book a room.

    Args:
        city: where to,
            the name of a city
        nights (int, optional): how many

    Returns:
        nothing
    """


def sphinx(city: str, nights: int = 1) -> None:
    """Book a room.

    :param city: where to,
        the name of a city
    :param int nights: how many
    :returns: nothing
    """


def numpy(city: str, nights: int = 1) -> None:
    """Book a room.

    Parameters
    ----------
    city : str
        where to,
        the name of a city
    nights : int, optional
        how many

    Returns
    -------
    nothing
    """


@pytest.mark.parametrize("function", [google, sphinx, numpy])
def test_a_docstring_tells_what_a_parameter_is_for(function: Any) -> None:
    made = tool(function)
    words = {name: each["description"] for name, each in made.parameters["properties"].items()}
    assert words == {"city": "where to, the name of a city", "nights": "how many"}
    assert made.description.startswith("Book a room.")
    assert "where to" not in made.description
    assert "nothing" in made.description


def test_a_tool_may_have_a_name_and_a_text_of_its_own() -> None:
    @tool(name="look-up", description="Look it up.")
    def function(word: str) -> str:
        return word

    assert (function.name, function.description) == ("look-up", "Look it up.")
    assert function.call('{"word": "a"}') == "a"

    @tool()
    def other() -> str:
        """Say it."""
        return "b"

    assert (other.name, other.call("{}")) == ("other", "b")


class Word(StrEnum):
    YES = "yes"


class Failing(Enum):
    A = ("a", 1)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Guest("Ada"), '{"name": "Ada", "age": 18, "tags": []}'),
        ([Guest("Ada", 1)], '[{"name": "Ada", "age": 1, "tags": []}]'),
        (Colour.RED, "red"),
        (Word.YES, "yes"),
        ({Colour.RED: Size.LARGE}, '{"red": 2}'),
        ({(1, 2): {3}}, '{"[1, 2]": [3]}'),
        (TIME, "2026-03-04T05:06:00+00:00"),
        ([date(2026, 3, 4)], '["2026-03-04"]'),
        (Decimal("0.10"), "0.10"),
        (NUMBER, str(NUMBER)),
        ((1, "a"), '[1, "a"]'),
        (range(3), "[0, 1, 2]"),
        (b"ab", "b'ab'"),
        (Failing.A, '["a", 1]'),
        (uuid.SafeUUID.safe, "0"),
    ],
)
def test_a_result_of_any_type_becomes_text(result: Any, text: str) -> None:
    @tool
    def give() -> Any:
        """Give it."""
        return result

    assert give.call("{}") == text


def test_a_function_may_be_async_or_a_generator() -> None:
    @tool
    async def later() -> str:
        """Wait for it."""
        return "later"

    @tool
    def pieces() -> Iterator[int]:
        """Piece by piece."""
        yield from (1, 2)

    @tool
    async def pieces_later() -> AsyncIterator[int]:
        """Piece by piece, later."""
        yield 1
        yield 2

    assert [each.call("{}") for each in (later, pieces, pieces_later)] == ["later", *["[1, 2]"] * 2]


def test_a_generator_without_an_end_gives_as_much_as_can_be_read() -> None:
    @tool
    def forever() -> Iterator[int]:
        """Count."""
        number = 0
        while True:
            yield number
            number += 1

    assert "[cut after 20000 of" in forever.call("{}")
