"""Tools: typed functions that a model may call. The docstring is what the model reads."""

import importlib
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from runtime.agent.text import clean

MAX_RESULT_CHARS = 20_000
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Schema = dict[str, Any]

SCALARS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


class Context(Protocol):
    """What a tool may know of the run it is called in: who asks, and when."""

    def profile(self) -> dict[str, Any]:
        """The profile of the user who asks."""
        ...

    def now(self) -> datetime:
        """The time, aware and in UTC."""
        ...


class InvalidArguments(ValueError):
    """Arguments that do not fit a tool's parameters; the message is for the model."""


@dataclass(frozen=True)
class Tool:
    """A function a model may call; `parameters` is the JSON schema of its arguments.

    Without a function it is for whoever runs the agent to answer: a call of it ends the run.
    """

    name: str
    description: str
    parameters: Schema
    function: Callable[..., Any] | None = None
    takes_context: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def call(self, arguments: str, context: Context | None = None) -> str:
        """Run the function with arguments given as JSON text; its result as text for a model.

        A string stays as it is, everything else becomes JSON; what is too long is cut, and
        says so. Raises InvalidArguments, or whatever the function raises.
        """
        values = self.check(arguments)
        result = self.function(*([context] if self.takes_context else []), **values)
        if not isinstance(result, str):
            result = json.dumps(result, ensure_ascii=False, default=str)
        return cut(clean(result))

    def check(self, arguments: str) -> dict[str, Any]:
        """The arguments as values. Raises InvalidArguments when they do not fit the schema."""
        try:
            values = json.loads(arguments or "{}", parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidArguments(f"The arguments are not valid JSON: {error}") from error
        values = _as_meant(values, self.parameters)
        _check(values, self.parameters, "arguments")
        return values


def cut(result: str) -> str:
    """A result short enough for a model to read, with a note when it was cut."""
    if len(result) <= MAX_RESULT_CHARS:
        return result
    return (
        f"{result[:MAX_RESULT_CHARS]}\n[cut after {MAX_RESULT_CHARS} of {len(result)} characters]"
    )


def tool(function: Callable[..., Any]) -> Tool:
    """Turn a typed function into a Tool.

    Takes str, int, float, bool, list[T], Literal, T | None, defaults, and Annotated[T, "what it
    is"]. A first parameter named `context` gets the run's Context and is not shown to the model.
    Raises TypeError for everything else.
    """
    name = function.__name__
    if not NAME.fullmatch(name):
        raise TypeError(f"{name!r} is no name for a tool: letters, digits, _ and -, at most 64")
    description = inspect.getdoc(function)
    if not description:
        raise TypeError(f"{name}: a tool needs a docstring, it is what the model reads")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{name}: a tool is a plain function, neither async nor a generator")
    parameters = list(inspect.signature(function).parameters.values())
    takes_context = bool(parameters) and parameters[0].name == "context"
    schema = _parameters(function, parameters[takes_context:])
    return Tool(name, description, schema, function, takes_context)


def _parameters(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> Schema:
    hints = typing.get_type_hints(function, include_extras=True)
    properties = {}
    for parameter in parameters:
        place = f"{function.__name__}({parameter.name})"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{place}: a tool's parameters are passed by name")
        if parameter.name not in hints:
            raise TypeError(f"{place} has no type")
        properties[parameter.name] = _property(hints[parameter.name], parameter, place)
    required = [p.name for p in parameters if p.default is p.empty]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _property(hint: Any, parameter: inspect.Parameter, place: str) -> Schema:
    schema = _schema(hint, place)
    if parameter.default is parameter.empty:
        return schema
    try:
        _check(parameter.default, schema, place)
    except InvalidArguments as error:
        raise TypeError(f"{place}: the default does not fit its type") from error
    return {**schema, "default": parameter.default}


def _schema(hint: Any, place: str) -> Schema:
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated and isinstance(arguments[1], str):
        return {**_schema(arguments[0], place), "description": arguments[1]}
    if origin is list and arguments:
        return {"type": "array", "items": _schema(arguments[0], place)}
    if origin is Literal and all(type(value) in SCALARS for value in arguments):
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType) and len(arguments) == 2:
        kinds = [kind for kind in arguments if kind is not types.NoneType]
        if len(kinds) == 1:
            return {"anyOf": [_schema(kinds[0], place), {"type": "null"}]}
    raise TypeError(f"{place}: {hint!r} is no type a tool can take")


def _as_meant(values: Any, schema: Schema) -> Any:
    """The arguments as models mean them: 12.0 is a whole number, null the parameter's default."""
    if isinstance(values, float) and values.is_integer() and schema.get("type") == "integer":
        return int(values)
    if isinstance(values, list) and "items" in schema:
        return [_as_meant(each, schema["items"]) for each in values]
    if values is not None and "anyOf" in schema:
        return _as_meant(values, schema["anyOf"][0])
    if isinstance(values, dict) and (known := schema.get("properties")):
        given = {n: v for n, v in values.items() if v is not None or not _has_default(known, n)}
        return {n: _as_meant(v, known.get(n, {})) for n, v in given.items()}
    return values


def _has_default(properties: Schema, name: str) -> bool:
    """Whether null stands for a default: it does not where the parameter takes null itself."""
    schema = properties.get(name, {})
    return "default" in schema and "anyOf" not in schema


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: type(value) is str,
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float) and math.isfinite(value),
    "boolean": lambda value: type(value) is bool,
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
    "null": lambda value: value is None,
}


def _check(value: Any, schema: Schema, place: str) -> None:
    """Raise InvalidArguments unless the value fits a schema that `tool` has made."""
    if "anyOf" in schema:
        return None if value is None else _check(value, schema["anyOf"][0], place)
    if "enum" in schema:
        # `in` alone would take True for 1.
        if any(type(value) is type(choice) and value == choice for choice in schema["enum"]):
            return None
        raise InvalidArguments(f"{place} must be one of {json.dumps(schema['enum'])}")
    if not TYPES[schema["type"]](value):
        raise InvalidArguments(f"{place} must be of type {schema['type']}")
    if schema["type"] == "array":
        for number, item in enumerate(value):
            _check(item, schema["items"], f"{place}[{number}]")
    if schema["type"] == "object":
        _check_members(value, schema, place)


def _check_members(values: Mapping[str, Any], schema: Schema, place: str) -> None:
    for name in schema["required"]:
        if name not in values:
            raise InvalidArguments(f"{place}.{name} is missing")
    for name, value in values.items():
        if name not in schema["properties"]:
            raise InvalidArguments(f"{place}.{cut(name)[:80]} is unknown")
        _check(value, schema["properties"][name], f"{place}.{name}")


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
    known = {each.name: each for each in _tools_in("runtime.agent.builtin")}
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
