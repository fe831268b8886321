"""Packages from npm that a test runs, each installed once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def installed(package: str, folder: Path, seconds: float = 120) -> Path:
    """The `node_modules` of a folder, with `package` in it, as in `@ag-ui/client@1.0.0`.

    A skip where npm cannot install it, a failure under CI.
    """
    modules = folder / "node_modules"
    if (modules / (package.rpartition("@")[0] or package) / "package.json").exists():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"npm is not there, so neither is {package}")
    folder.mkdir(parents=True, exist_ok=True)
    install = [npm, "install", "--no-audit", "--no-fund", package]
    result = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=seconds)
    if result.returncode:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"npm cannot install {package}: {result.stderr[-300:]}")
    return modules
