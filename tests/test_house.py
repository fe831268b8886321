"""The house's own guards: who imports whom, and documents that say what the code does."""

import ast
import re
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
    ["api.ag_ui", "api.routes"],
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
    for path in MODULES.values():
        assert not re.search(r"^\s*(from|import) (app|wsgi)\b", path.read_text(), re.MULTILINE)


def test_no_query_is_written_in_the_api():
    for path in (RUNTIME / "api").rglob("*.py"):
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
    for failure in errors.FAILURES:
        assert failure.code in i18n.SENTENCES


def test_every_way_a_run_can_fail_has_its_sentence():
    for code in ErrorCode:
        assert f"run_{code.value}" in i18n.SENTENCES


def test_no_sentence_is_left_over():
    used = {kind.code for kind in (*errors.FAILURES, *errors.REFUSALS.values())}
    used |= {f"run_{code.value}" for code in ErrorCode}
    source = "".join(path.read_text() for path in (RUNTIME / "api").rglob("*.py"))
    source += "".join(path.read_text() for path in (RUNTIME / "services").rglob("*.py"))
    for code in set(i18n.SENTENCES) - used:
        assert f'"{code}' in source, code
