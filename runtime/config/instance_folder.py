"""The folder for what is kept when a setting is unset: its owner's alone."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from runtime.config.settings import ConfigError

# What an earlier release may have left for others to read, and an operator by `cp`.
PRIVATE_FILES = ("runtime.sqlite3*", "secret_key*")


def keeps_files(settings: Mapping[str, object]) -> bool:
    """Whether anything is kept under INSTANCE_PATH, for want of a setting."""
    return not all(settings[name] for name in ("DATABASE_URL", "SECRET_KEY", "SMTP_URL"))


def make_instance_folder(path: str) -> Path:
    """Make the folder if it is not there; take it and what is in it from all but its owner.

    Raises ConfigError when that is not possible, or nothing can be written there.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.stat().st_mode & stat.S_ISVTX:  # The system's own folder for all.
            _make_private(folder, 0o700)
        _make_private(folder / "outbox", 0o700)
        for pattern in PRIVATE_FILES:
            for file in folder.glob(pattern):
                _make_private(file, 0o600)
    except OSError as error:
        raise ConfigError(f"INSTANCE_PATH cannot be used: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"INSTANCE_PATH cannot be used: {folder} cannot be written to")
    return folder


def _make_private(path: Path, mode: int) -> None:
    """Take its permissions from others. Does nothing when it is not there, or not ours."""
    with suppress(PermissionError, FileNotFoundError):
        if path.stat().st_mode & 0o077:
            path.chmod(mode)
