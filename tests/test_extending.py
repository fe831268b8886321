"""The manual's page on extending: its diffs apply, and its commands succeed in what they make.

If the tree has changed below a diff, make its change on a branch, and print it with `git diff -U2`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.config.settings import ROOT
from tests.documented_commands import blocks_of

PAGE = ROOT / "runtime" / "docs" / "extending.md"
SECTIONS = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", "instance", "__pycache__", ".*_cache", "chat")
SECONDS = 300


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project's tree, in no repository."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_BEHIND)
    (tree / ".venv").symlink_to(sys.prefix)
    return tree


def run(tree: Path, *command: str, text: str | None = None) -> None:
    """Raises AssertionError with what the command printed when it fails."""
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    done = subprocess.run(
        command, cwd=tree, env=environ, input=text, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.partition("\n")[0])
def test_the_diffs_of_a_section_apply_and_its_commands_succeed(
    tree: Path, tmp_path: Path, section: str
):
    page = tmp_path / "page.md"
    page.write_text(section, "utf-8")
    [commands] = [block.text for block in blocks_of(page, tmp_path)]

    for diff in re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        run(tree, "git", "apply", "-", text=diff)
    run(tree, "bash", "-ec", commands.replace("pytest ", f"pytest --basetemp={tmp_path}/own "))
