"""Packages from npm that a test runs, each installed once."""

import fcntl
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
    folder.mkdir(parents=True, exist_ok=True)
    # Another process of tests may be installing it: what is there by then may be half of it.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _installed(package, folder, seconds)


def _installed(package: str, folder: Path, seconds: float) -> Path:
    modules = folder / "node_modules"
    if (modules / (package.rpartition("@")[0] or package) / "package.json").exists():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"npm is not there, so neither is {package}")
    install = [npm, "install", "--no-audit", "--no-fund", package]
    result = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=seconds)
    if result.returncode:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"npm cannot install {package}: {result.stderr[-300:]}")
    return modules
