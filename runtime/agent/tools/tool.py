"""Tools: typed functions that a model may call. The docstring is what the model reads."""

import asyncio
import importlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, overload

from marshmallow import ValidationError

from runtime.agent.tools import docstrings
from runtime.agent.tools.argument_fields import Arguments, JsonSchema, refuse_constant, unpacked
from runtime.agent.tools.parameters import Member, demand_short, object_of
from runtime.agent.tools.result_text import text_of

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# What an error repeats of a name that a model has made up.
MAX_QUOTED_CHARS = 80


class Context(Protocol):
    """What a tool may know of the run it is called in: who asks, and when."""

    def profile(self) -> dict[str, Any]:
        """The profile of the user who asks."""
        ...

    def now(self) -> datetime:
        """The time, aware and in UTC."""
        ...


class ToolError(Exception):
    """A tool says no. Its message is for the model; that of any other exception is for the log."""


class InvalidArguments(ToolError):
    """Arguments that do not fit a tool's parameters."""


@dataclass(frozen=True)
class Tool:
    """A function a model may call; `parameters` is the JSON schema of its arguments.

    `arguments` loads them. A tool without a function is answered by the caller of the agent: a
    call of it ends the run.
    """

    name: str
    description: str
    parameters: JsonSchema
    function: Callable[..., Any] | None = None
    takes_context: bool = False
    arguments: Arguments | None = field(default=None, compare=False, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def call(self, arguments: str, context: Context | None = None) -> str:
        """Run the function with arguments given as JSON text; its result as text for a model.

        Waits for an async function, and reads a generator to its end. Raises InvalidArguments,
        and what the function raises.
        """
        values = self.check(arguments)
        result = self.function(*([context] if self.takes_context else []), **values)
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            result = asyncio.run(_awaited(result))
        return text_of(result)

    def check(self, arguments: str) -> dict[str, Any]:
        """The arguments as values. Raises InvalidArguments when they do not fit the parameters."""
        try:
            values = json.loads(arguments or "{}", parse_constant=refuse_constant)
            # Servers that write arguments as JSON inside of JSON mean what is inside.
            return self.arguments.load(unpacked(values, dict))
        except ValidationError as error:
            raise InvalidArguments("; ".join(_sentences(error.messages, "arguments"))) from error
        except (ValueError, RecursionError) as error:
            raise InvalidArguments(f"The arguments are not valid JSON: {error}") from error


async def _awaited(result: Any) -> Any:
    if inspect.isasyncgen(result):
        return [each async for each in result]
    return await result


def _sentences(errors: Any, place: str) -> list[str]:
    """marshmallow's errors, each with the place that it is about."""
    if isinstance(errors, list):
        return [f"{place} {error}" for error in errors]
    found = []
    for name, inner in errors.items():
        within = f"[{name}]" if isinstance(name, int) else f".{str(name)[:MAX_QUOTED_CHARS]}"
        # Those of the object itself have no name.
        found += _sentences(inner, place if name == "_schema" else place + within)
    return found


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Any:
    """Turn a typed function into a Tool: `@tool`, or `@tool(name="look-up")`.

    Takes str, int, float, bool, Decimal, datetime, date, time, UUID, Enum, Literal, dict, lists
    and sets of a type, dataclasses, TypedDicts, unions, `T | None`, and defaults. What a parameter
    is for stands in Annotated[T, "what it is"] or in the docstring. A first parameter named
    `context` gets the run's Context and is not shown to the model. The function may be async, or a
    generator. Raises TypeError for everything else, and for a text that servers refuse.
    """
    if function is None:
        return lambda function: _make(function, name, description)
    return _make(function, name, description)


def _make(function: Callable[..., Any], name: str | None, description: str | None) -> Tool:
    name = name or function.__name__
    if not NAME.fullmatch(name):
        raise TypeError(f"{name!r} is no name for a tool: letters, digits, _ and -, at most 64")
    said, texts = docstrings.read(inspect.getdoc(function) or "")
    description = (description or said).strip()
    if not description:
        raise TypeError(f"{name}: a tool needs a docstring, it is what the model reads")
    demand_short(f"{name}: the docstring", description)
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and parameters[0].name == "context"
    members = _members(function, parameters[takes_context:], texts)
    loader = object_of(members, name)
    return Tool(name, description, loader.json_schema, function, takes_context, loader())


def _members(
    function: Callable[..., Any], parameters: list[inspect.Parameter], texts: dict[str, str]
) -> list[Member]:
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in parameters:
        place = f"{function.__name__}({parameter.name})"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{place}: a tool's parameters are passed by name")
        if parameter.name not in hints:
            raise TypeError(f"{place} has no type")
    return [Member(p.name, hints[p.name], p.default, texts.get(p.name)) for p in parameters]


def load_tools(
    module_name: str | None = None, builtin: Collection[str] | None = None
) -> list[Tool]:
    """The built-in tools and, with a "package.module", every Tool in it.

    `builtin` names the built-in tools that are offered, None all of them. A tool of the module's
    stands in for a built-in one of its name. Raises ValueError, in one line, when the module
    cannot be imported, has no tool, or has two of one name; when there is no such built-in tool.
    """
    built_in = _chosen(builtin)
    own = [each for each in _tools_in(module_name) if each not in built_in] if module_name else []
    names = [each.name for each in own]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"tools from {module_name!r}: the name {twice[0]!r} is taken")
    return [*(each for each in built_in if each.name not in names), *own]


def _chosen(names: Collection[str] | None) -> list[Tool]:
    """The built-in tools that have these names, None for all of them."""
    known = {each.name: each for each in _tools_in("runtime.agent.tools.builtin")}
    chosen = known if names is None else names
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"{unknown[0]!r} is none of the built-in tools {', '.join(known)}")
    return [each for name, each in known.items() if name in chosen]


def _tools_in(module_name: str) -> list[Tool]:
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"tools from {module_name!r} cannot be imported: {reason}") from error
    found = {id(value): value for value in vars(module).values() if isinstance(value, Tool)}
    if not found:
        raise ValueError(f"tools from {module_name!r}: there is no @tool in it")
    return list(found.values())
