"""The house's own guards: who imports whom, and documents that say what the code does."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from flask import Flask

from runtime import errors, i18n
from runtime.agent.events import ErrorCode
from runtime.api import route_document
from runtime.config.settings import ROOT, SETTINGS

RUNTIME = ROOT / "runtime"

# The rooms. A module may import its own room and those on lines before it. Rooms on one
# line do not import each other. A module is in the room with the longest name that fits.
ROOMS = [
    [
        *("config", "clock", "errors", "i18n", "json_text", "problem_details"),
        *("response_headers", "caller", "logs", "metrics"),
    ],
    ["circuit_breaker"],
    ["database", "security", "mail"],
    ["gunicorn", "models"],
    ["limits"],
    ["services.accounts"],
    ["services.chats"],
    ["services"],
    ["api.schemas"],
    ["api"],
    ["api.ag_ui", "api.ai_sdk", "api.routes"],
    ["api.register"],
    ["cli", "server"],
]
GROUND = ROOMS[0]
TIER = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
# Imports nothing of the rest (tests/agent/test_imports.py). All but the ground may import it.
ALONE = "agent"


def modules() -> dict[str, Path]:
    """Every file below `runtime` by its module's name; a package's own file by the package's."""
    paths = sorted(path for path in RUNTIME.rglob("*.py") if path != RUNTIME / "__init__.py")
    return {
        ".".join(path.relative_to(RUNTIME).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


MODULES = modules()


def room_of(name: str) -> str:
    """The room of a module: `api.routes.auth` is in `api.routes`, `api.http` in `api`."""
    while name and name not in TIER and name != ALONE:
        name = name.rpartition(".")[0]
    return name


def imports_of(name: str) -> set[str]:
    """The modules of ours that a module imports, deferred imports included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {each.removeprefix("runtime.") for each in found if each.startswith("runtime.")}
    return {each if each in MODULES else each.rpartition(".")[0] for each in ours} - {"", name}


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str):
    room = room_of(name)
    assert room, f"{name} is in no room"
    for other in imports_of(name):
        there = room_of(other)
        assert there == room or is_below(there, room), f"{name} imports {other}"


def is_below(room: str, other: str) -> bool:
    if ALONE in (room, other):
        return room == ALONE and other not in GROUND
    return TIER[room] < TIER[other] or {room, other} <= set(GROUND)


def test_no_imports_go_round():
    """Also within a room; TopologicalSorter names the modules of a circle."""
    TopologicalSorter({name: imports_of(name) for name in MODULES}).prepare()


def test_packages_import_nothing():
    """So that an import loads what it names; the agent's has what a tool's author imports."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert {name for name in packages if imports_of(name)} == {ALONE}


def test_nothing_imports_the_application():
    assert MODULES
    for path in MODULES.values():
        assert not re.search(r"^\s*(from|import) (app|wsgi)\b", path.read_text(), re.MULTILINE)


TESTS = [ast.parse(path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))]
FUNCTIONS = [node for tree in TESTS for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
# These give as many as they are given.
AS_MANY = {"enumerate", "list", "map", "product", "range", "sorted", "zip"}


def fails(node: ast.AST, helpers: set[str]) -> bool:
    """Whether a test may fail in it: it has an `assert`, or a call of what has one."""
    calls = {n.func for n in ast.walk(node) if isinstance(n, ast.Call)}
    names = {getattr(each, "id", getattr(each, "attr", "")) for each in calls}
    return bool(names & helpers) or any(
        isinstance(n, ast.Assert | ast.Raise) for n in ast.walk(node)
    )


def is_there(iterable: ast.AST) -> bool:
    """Whether a loop over it certainly runs; what has a name in capitals is taken to be there."""
    match iterable:
        case ast.Tuple(elts=some) | ast.List(elts=some) | ast.Dict(keys=some):
            return bool(some)
        case ast.Constant() | ast.Lambda():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper()
        case ast.BinOp(left=whole) | ast.Call(func=ast.Attribute(attr="items", value=whole)):
            return is_there(whole)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return name in AS_MANY and any(map(is_there, arguments))
    return False


def certain(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """What of the statements is executed whatever a loop goes over."""
    for statement in statements:
        match statement:
            case ast.For(iter=iterable, body=body):
                yield from [iterable, *certain(body if is_there(iterable) else [])]
            case ast.If(test=test) | ast.While(test=test):
                yield test
            case ast.With(items=items, body=body):
                yield from [*items, *certain(body)]
            case ast.Try(body=body, finalbody=last):
                yield from certain([*body, *last])
            case ast.FunctionDef() | ast.ClassDef():
                pass
            case _:
                yield statement


def test_every_test_has_an_assertion_that_can_fail():
    """One in a loop alone is none when there is nothing to go over: the test demands that first."""
    tests = [each for each in FUNCTIONS if each.name.startswith("test_")]
    helpers = {"raises"} | {each.name for each in FUNCTIONS if fails(each, {"raises"})}
    helpers -= {each.name for each in tests}

    assert len(tests) > 1000
    assert [
        test.name for test in tests if not any(fails(part, helpers) for part in certain(test.body))
    ] == []


def test_no_two_migrations_have_one_number():
    """Those of the manual's examples included, which join the tree's own when they are applied."""
    names = {path.name for path in (ROOT / "migrations").glob("*.py")}
    extending = (RUNTIME / "docs" / "extending.md").read_text()
    names |= set(re.findall(r"^\+\+\+ b/migrations/(.*)$", extending, re.MULTILINE))
    numbers = [name.partition("_")[0] for name in names]

    assert len(set(numbers)) == len(numbers) > 20


def test_no_query_is_written_in_the_api():
    paths = list((RUNTIME / "api").rglob("*.py"))
    assert paths
    for path in paths:
        assert ".where(" not in path.read_text(), path.name


def test_the_route_document_says_what_the_routes_do(app: Flask):
    with app.app_context():
        assert route_document.is_current(), "run: flask routes-document"


def test_the_manual_lists_every_setting():
    page = (RUNTIME / "docs" / "operating.md").read_text()
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| .*? \| (.*?) \|$", page, re.MULTILINE))
    assert table == {name: setting.sentence for name, setting in SETTINGS.items()}


def test_every_sentence_stands_in_both_languages():
    for code, sentences in i18n.SENTENCES.items():
        assert len(sentences) == 2 and all(sentences), code
        assert re.search("[\u4e00-\u9fff]", sentences[0]), code
        assert sentences[1].isascii(), code
        assert sentences[0].count("{}") == sentences[1].count("{}"), code


def test_every_failure_has_its_sentence():
    codes = {failure.code for failure in errors.FAILURES}

    assert codes and codes <= set(i18n.SENTENCES)


def test_every_way_a_run_can_fail_has_its_sentence():
    codes = {f"run_{code.value}" for code in ErrorCode}

    assert codes and codes <= set(i18n.SENTENCES)


def test_no_sentence_is_left_over():
    used = {kind.code for kind in (*errors.FAILURES, *errors.REFUSALS.values())}
    used |= {f"run_{code.value}" for code in ErrorCode}
    source = "".join(path.read_text() for path in (RUNTIME / "api").rglob("*.py"))
    source += "".join(path.read_text() for path in (RUNTIME / "services").rglob("*.py"))
    others = set(i18n.SENTENCES) - used

    assert [code for code in others if f'"{code}' not in source] == []
