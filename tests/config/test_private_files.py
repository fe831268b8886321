"""What is kept on the disk is its owner's alone, and never beside the code in git."""

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import create_app
from runtime.config.settings import ROOT
from runtime.database.base import db
from runtime.models.users import User
from tests.servers import Service, wait_until


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """The machine lets everybody read and write new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What others than the owner may do something with."""
    everything = [folder, *folder.rglob("*")]
    return [str(path) for path in everything if stat.S_IMODE(path.stat().st_mode) & 0o077]


def use(service: Service) -> None:
    """Have it write a row, a mail and all that comes with them."""
    body = {"username": "ada", "email": "ada@example.org", "password": "correct horse"}
    assert service.client.post("/auth/verifications", body).status == 202
    outbox = Path(service.settings["INSTANCE_PATH"]) / "outbox"
    wait_until(lambda: list(outbox.glob("*.eml")), 20, "the mail is written")


def test_all_that_the_service_keeps_is_its_owners_alone(tmp_path: Path):
    with Service(tmp_path, {}) as service:
        use(service)
        names = {path.name for path in (tmp_path / "instance").iterdir()}

        assert {"runtime.sqlite3", "runtime.sqlite3-wal", "secret_key", "outbox"} <= names
        assert open_to_others(tmp_path / "instance") == []


def test_so_is_what_was_there_before(tmp_path: Path):
    instance = tmp_path / "instance"
    with Service(tmp_path, {}) as service:
        use(service)
    for path in (instance, *instance.rglob("*")):
        if path.suffix != ".eml":
            path.chmod(0o755 if path.is_dir() else 0o644)

    with Service(tmp_path, {}):
        assert open_to_others(instance) == []


def test_a_database_that_a_setting_names_is_made_so_too(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/mine.sqlite3"
    settings = {"DATABASE_URL": url, "SECRET_KEY": "x" * 40, "INSTANCE_PATH": str(tmp_path / "i")}
    app = create_app(settings)
    app.test_cli_runner().invoke(args=["db", "upgrade"])
    with app.app_context():
        User.create(username="ada", email="ada@example.org", password_hash="-")
        modes = [file.stat().st_mode for file in tmp_path.glob("mine.sqlite3*")]
        db.close_all()

    assert len(modes) >= 3
    assert [mode for mode in modes if mode & 0o077] == []


def test_a_folder_that_everybody_shares_stays_so(tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    others = shared / "notes.txt"
    others.write_text("somebody else's")

    app = create_app({"INSTANCE_PATH": str(shared)})
    app.extensions["db"].close_all()

    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert others.stat().st_mode & 0o044
    assert (shared / "runtime.sqlite3").stat().st_mode & 0o077 == 0


def test_git_ignores_what_is_kept_and_the_backup_that_the_manual_makes():
    [copy] = re.findall(
        r"'\.backup (\S+)'", (ROOT / "runtime" / "docs" / "operating.md").read_text()
    )
    kept = [copy, "copy.sqlite3", "elsewhere/secret_key", "mine.sqlite3-wal", "mine.sqlite3.lock"]
    asked = subprocess.run(["git", "check-ignore", *kept], cwd=ROOT, capture_output=True, text=True)
    if asked.returncode == 128:
        pytest.skip("not in a clone of the project")

    assert asked.stdout.split() == kept
