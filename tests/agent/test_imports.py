"""The agent could be lifted out as it is."""

import ast
import sys
from pathlib import Path

import runtime.agent

LIBRARIES = {"urllib3", "marshmallow"}


def test_the_agent_imports_only_itself_urllib3_and_marshmallow() -> None:
    paths = list(Path(runtime.agent.__file__).parent.rglob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            for name in imported(node):
                known = name.startswith("runtime.agent") or name.split(".")[0] in LIBRARIES
                assert known or name.split(".")[0] in sys.stdlib_module_names, (path, name)


def imported(node: ast.AST) -> list[str]:
    """The modules a statement imports; a relative import is never one that is known."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []
