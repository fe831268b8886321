"""The signing keys that are kept in files when SECRET_KEY is unset."""

import contextlib
import os
import secrets
from pathlib import Path

from runtime.config.readers import keys as read_keys
from runtime.config.settings import ConfigError


def keep_secret_keys(folder: Path) -> list[str]:
    """The signing keys kept in `folder`, the newest first; one is made when there is none.

    The newest has a file of its own; all files have mode 0600. Workers that start together agree
    on one: the first that links its file wins. Raises ConfigError when a file has no key, or a
    short one: a new one in its place would sign all users out.
    """
    path = folder / "secret_key"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = _draft(path, make_secret_key())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    older = folder / "secret_key_fallbacks"
    return [_read_key(path), *(_read_keys(older) if older.exists() else ())]


def _read_key(path: Path) -> str:
    keys = _read_keys(path)
    if len(keys) != 1:
        raise ConfigError(f"SECRET_KEY in {path} must be one key, and not {len(keys)}")
    return keys[0]


def _read_keys(path: Path) -> list[str]:
    try:
        return read_keys(path.read_text())
    except (OSError, ValueError) as error:
        what = "cannot be read" if isinstance(error, OSError | UnicodeError) else error
        raise ConfigError(f"SECRET_KEY in {path} {what}") from error


def write_secret_keys(folder: Path, newest: str, *older: str) -> None:
    """Keep these keys in `folder` in place of what is there.

    The older ones first: a crash between the two leaves a key twice, and loses none.
    """
    for name, keys in (("secret_key_fallbacks", older), ("secret_key", (newest,))):
        path = folder / name
        _draft(path, "\n".join(keys)).replace(path)


def make_secret_key() -> str:
    """A random key of 64 characters."""
    return secrets.token_urlsafe(48)


def _draft(path: Path, text: str) -> Path:
    """A file beside `path`, its owner's alone, to become it as a whole."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return draft
