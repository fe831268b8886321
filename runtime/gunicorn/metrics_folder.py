"""Where gunicorn's workers count together: a folder of files, under INSTANCE_PATH.

If nothing can be written there, it is among the machine's temporary files. `runtime.metrics` looks
for the folder when it is imported, so `make` comes first.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from runtime.config.instance_folder import make_instance_folder
from runtime.config.settings import ConfigError

PREFIX = "metrics-"
TEMPORARY_PREFIX = "runtime-"

# By the names that the library gives them. One gauge takes 100 bytes; the histograms take 150 kB
# when every route has been asked.
FILE_BYTES = {"counter": 256 << 10, "histogram": 256 << 10, "gauge_livesum": 4 << 10}
# Names the folder to `runtime.metrics`. The library's own variable may be another program's.
VARIABLE = "RUNTIME_METRICS_FOLDER"
# gunicorn's USR2 starts a new master with the old one's environment.
os.environ.pop(VARIABLE, None)

_folder: Path | None = None


def make(instance_path: str, workers: int) -> str | None:
    """Make the folder, count from 0, and delete what services that ended have left.

    Returns the reason if that is not possible: each worker then counts for itself.
    """
    try:
        _make_in(make_instance_folder(instance_path), workers)
    except (ConfigError, OSError) as error:
        delete()
        try:
            _make_in(Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)), workers)
        except OSError:
            delete()
            return str(error)
    os.environ[VARIABLE] = str(_folder)
    return None


def _make_in(parent: Path, workers: int) -> None:
    global _folder
    _folder = parent / PREFIX  # For `delete`, if the next lines fail.
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        # Another service that starts here meanwhile must not take our folder for a leftover.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in parent.glob(f"{PREFIX}*"):
            with suppress(OSError):
                _delete_unless_used(left)
        _folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Workers inherit the lock, which lasts as long as any of them.
        fcntl.flock(os.open(_folder, os.O_RDONLY), fcntl.LOCK_EX)
    finally:
        os.close(descriptor)
    # A HUP starts as many workers again before the old ones end.
    for place in ("master", *range(2 * workers)):
        _reserve(_folder, place)


def reserve(place: int) -> None:
    """Make sure that a worker can count at this place; call it before the fork."""
    with suppress(OSError):  # The library tries again, and takes less.
        if _folder:
            _reserve(_folder, place)


def forget_gauges(place: int) -> None:
    """The worker at this place is gone: what it counted stays, what it held does not.

    The library's `mark_process_dead` deletes the file. The next worker might find no room for it.
    """
    if _folder:
        gauges = _folder / f"gauge_livesum_{place}.db"
        with suppress(OSError), gauges.open("r+b") as file:
            file.write(bytes(FILE_BYTES["gauge_livesum"]))


def delete() -> None:
    """Delete the folder, if there is one."""
    global _folder
    if _folder:
        shutil.rmtree(_folder, ignore_errors=True)
        if _folder.parent.name.startswith(TEMPORARY_PREFIX):
            with suppress(OSError):
                _folder.parent.rmdir()
    _folder = None


def _delete_unless_used(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # It is of a service that runs, such as the master that this one replaces.
    finally:
        os.close(descriptor)


def _reserve(folder: Path, place: int | str) -> None:
    """Make the files of a place, unless they are there.

    The library writes by mmap into files with holes. If the disk is full then, the kernel kills the
    process (SIGBUS). So we fill them with zeros, which the library takes for an empty file.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind, size in FILE_BYTES.items():
        file = folder / f"{kind}_{place}.db"
        if not file.exists():
            draft = file.with_suffix(".new")  # A worker may read all .db files meanwhile.
            draft.write_bytes(bytes(size))
            draft.rename(file)
