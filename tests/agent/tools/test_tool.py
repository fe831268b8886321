"""Typed functions as tools: their schema, their arguments, their results."""

import sys
import types
from dataclasses import replace
from typing import Annotated, Any, Literal, TypedDict

import pytest

from runtime.agent.tools.foreign import foreign
from runtime.agent.tools.result_text import MAX_RESULT_CHARS
from runtime.agent.tools.tool import InvalidArguments, Tool, load_tools, tool


@tool
def book(
    context: object,
    city: Annotated[str, "where to"],
    nights: int,
    price: float = 9.5,
    breakfast: bool = False,
    guests: list[str] | None = None,
    room: Literal["single", "double"] = "single",
) -> dict[str, Any]:
    """Book a hotel."""
    return {"city": city, "nights": nights, "context": context}


def test_a_function_becomes_a_schema() -> None:
    assert (book.name, book.description) == ("book", "Book a hotel.")
    assert book.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "where to"},
            "nights": {"type": "integer"},
            "price": {"type": "number", "default": 9.5},
            "breakfast": {"type": "boolean", "default": False},
            "guests": {"type": "array", "items": {"type": "string"}},
            "room": {"type": "string", "enum": ["single", "double"], "default": "single"},
        },
        "required": ["city", "nights"],
        "additionalProperties": False,
    }


def test_a_tool_is_called_with_json_and_gives_text() -> None:
    result = book.call('{"city": "巴黎", "nights": 2}', "me")
    assert result == '{"city": "巴黎", "nights": 2, "context": "me"}'


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"city": "Paris"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"city": "Paris", "nights": NaN}', "not valid JSON"),
        ('{"city": "Paris", "nights": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[]", "arguments must be of type object"),
        ("{}", "arguments.city is missing; arguments.nights is missing"),
        ('{"city": 1, "nights": 1}', "arguments.city must be of type string"),
        ('{"city": null, "nights": 1}', "arguments.city must not be null"),
        ('{"city": "", "nights": true}', "arguments.nights must be of type integer"),
        ('{"city": "", "nights": 1.5}', "arguments.nights must be of type integer"),
        ('{"city": "", "nights": "one"}', "arguments.nights must be of type integer"),
        ('{"city": "", "nights": 1, "price": true}', "arguments.price must be of type number"),
        ('{"city": "", "nights": 1, "price": 1e999}', "arguments.price must be of type number"),
        ('{"city": "", "nights": 1, "guests": [1]}', r"arguments.guests\[0\] must be of type"),
        ('{"city": "", "nights": 1, "room": "twin"}', 'one of \\["single", "double"\\]'),
        ('{"city": "", "nights": 1, "context": 1}', "arguments.context is unknown"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(arguments: str, reason: str) -> None:
    with pytest.raises(InvalidArguments, match=reason):
        book.call(arguments)


@tool
def count(number: int, step: int = 2, numbers: list[int] | None = None) -> list:
    """Say what came."""
    return [number, step, numbers]


@pytest.mark.parametrize(
    ("arguments", "came"),
    [
        ('{"number": 12.0}', "[12, 2, null]"),
        ('{"number": 1, "step": null}', "[1, 2, null]"),
        ('{"number": 1, "numbers": null}', "[1, 2, null]"),
        ('{"number": 1, "numbers": [1.0, 2]}', "[1, 2, [1, 2]]"),
    ],
)
def test_arguments_are_taken_as_models_mean_them(arguments: str, came: str) -> None:
    assert count.call(arguments) == came


def test_a_choice_of_numbers_takes_no_boolean() -> None:
    @tool
    def pick(number: Literal[0, 1]) -> int:
        """Pick one."""
        return number

    assert pick.parameters["properties"] == {"number": {"type": "string", "enum": ["0", "1"]}}
    assert [pick.call(f'{{"number": {number}}}') for number in ("1", '"1"', "1.0")] == ["1"] * 3
    with pytest.raises(InvalidArguments):
        pick.call('{"number": true}')


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"名": [1.5, True]}, '{"名": [1.5, true]}'),
        ("a\0\ud800", "a\ufffd"),
    ],
)
def test_a_string_stays_and_everything_else_becomes_json(result: Any, text: str) -> None:
    @tool
    def give() -> Any:
        """Give it."""
        return result

    assert give.call("{}") == text


def test_a_long_result_is_cut_and_says_so() -> None:
    @tool
    def talk() -> str:
        """Talk."""
        return "x" * 30_000

    assert talk.call("{}").endswith("x\n[cut after 20000 of 30000 characters]")
    assert len(talk.call("{}")) < MAX_RESULT_CHARS + 100


def no_docstring(x: int) -> int:
    return x


def no_type(x) -> int:
    """No type."""
    return x


def any_number(*x: int) -> None:
    """Any number of arguments."""


def wrong_default(x: str = None) -> None:  # noqa: RUF013 - the mistake that is tested
    """A default that does not fit."""


class Itself(TypedDict):
    inner: "Itself"


def bare_list(x: list) -> None:
    """A list of what?"""


def an_object(x: object) -> None:
    """An object of what?"""


def holds_itself(x: Itself) -> None:
    """A type that no schema of ours can tell."""


def same_choices(x: Literal["1", 1]) -> None:
    """Two choices that read the same."""


def long_docstring() -> None:
    pass


long_docstring.__doc__ = "x" * 1025


def long_words(x: Annotated[str, "x" * 1025]) -> None:
    """The words for a parameter are too long."""


@pytest.mark.parametrize(
    "function",
    [
        no_docstring,
        no_type,
        any_number,
        wrong_default,
        bare_list,
        an_object,
        holds_itself,
        same_choices,
        long_docstring,
        long_words,
    ],
)
def test_what_cannot_be_a_tool_is_refused_when_it_is_made(function: Any) -> None:
    with pytest.raises(TypeError, match=function.__name__):
        tool(function)


def module_with(monkeypatch: pytest.MonkeyPatch, **members: Any) -> str:
    module = types.ModuleType("house_tools")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, "house_tools", module)
    return "house_tools"


def names(tools: list[Tool]) -> list[str]:
    return [each.name for each in tools]


def test_the_built_in_tools_are_always_there() -> None:
    assert names(load_tools()) == ["current_time", "calculate", "my_profile"]


def test_a_module_adds_its_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    calculate = load_tools()[1]
    module = module_with(monkeypatch, book=book, also_book=book, calculate=calculate, other=1)
    assert names(load_tools(module)) == ["current_time", "calculate", "my_profile", "book"]


def test_a_module_that_cannot_be_imported_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"'no\.such' cannot be imported: ModuleNotFoundError"):
        load_tools("no.such")


def test_a_module_without_tools_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="'json': there is no @tool in it"):
        load_tools("json")


def test_a_tool_of_ones_own_replaces_a_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool
    def calculate() -> int:
        """Another one."""
        return 1

    loaded = load_tools(module_with(monkeypatch, calculate=calculate))
    assert names(loaded) == ["current_time", "my_profile", "calculate"]
    assert loaded[-1] is calculate


def test_a_name_that_is_taken_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool
    def order() -> int:
        """One."""
        return 1

    other = replace(order, description="Another.")
    with pytest.raises(ValueError, match="'order' is taken"):
        load_tools(module_with(monkeypatch, order=order, other=other))


def test_the_built_in_tools_are_those_that_are_named() -> None:
    assert names(load_tools(builtin=["calculate"])) == ["calculate"]
    assert load_tools(builtin=[]) == []
    with pytest.raises(ValueError, match="'weather' is none of the built-in tools"):
        load_tools(builtin=["weather"])


def test_a_foreign_tool_has_no_text_that_servers_refuse_for_its_length() -> None:
    inner = {"type": "string", "description": "d" * 2000}
    parameters = {"type": "object", "properties": {"description": inner}, "anyOf": [inner]}
    made = foreign("pick", "d" * 2000, parameters)
    texts = [made.parameters["properties"]["description"], *made.parameters["anyOf"]]
    assert len(made.description) == 1024
    assert [len(each["description"]) for each in texts] == [1024, 1024]
    assert inner["description"] == "d" * 2000
