"""A disk that is full: nothing is written, everything can be read, and all is well again later."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from tests.faults.conftest import SECRET_KEY, flask
from tests.servers import Answer, Service, wait_until

PASSWORD = "correct horse battery"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB with nothing on it."""
    if os.getuid() != 0:
        assert not os.environ.get("CI"), "CI must run as root, to mount a small disk"
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder])
    if mounted.returncode:
        assert not os.environ.get("CI"), "CI must be allowed to mount a small disk"
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def service(disk: Path) -> Iterator[Service]:
    """With everything on that disk: the database, the outbox, its own log."""
    with Service(disk, {"SECRET_KEY": SECRET_KEY, "RATE_LIMITS": "off"}) as running:
        yield running


def fill(disk: Path) -> Path:
    """Write into a file until nothing more goes in."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def sign_up(service: Service, name: str) -> Answer:
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    return service.client.post("/auth/verifications", body)


def code_for(service: Service, name: str) -> str:
    """The code in the mail to somebody, once there is one."""
    outbox = Path(service.settings["INSTANCE_PATH"]) / "outbox"

    def mails() -> list[str]:
        texts = [path.read_text() for path in sorted(outbox.glob("*.eml"))]
        return [text for text in texts if f"To: {name}@" in text]

    wait_until(mails, 30, f"the mail to {name}")
    return re.search(r"\b\d{6}\b", mails()[-1].split("\n\n", 1)[1]).group()


def verify(service: Service, name: str) -> Answer:
    body = {"email": f"{name}@example.org", "token": code_for(service, name)}
    return service.client.post("/auth/verifications/verify", body)


def test_a_full_disk_is_503_for_who_writes_and_nothing_for_who_reads(service, disk):
    assert sign_up(service, "ada").status == 202
    ada = verify(service, "ada").json
    token = ada["access_token"]

    def writes() -> list[Answer]:
        """One of every kind."""
        login = {"email": "ada@example.org", "password": PASSWORD}
        refresh = {"refresh_token": ada["refresh_token"]}
        return [
            service.client.ask("PATCH", "/users/me", {"bio": "x" * 100}, token),
            service.client.post("/agent-chats", {"message": "Hi"}, token),
            service.client.post("/auth/sessions", login),
            service.client.post("/auth/sessions/refresh", refresh),
            sign_up(service, "bob"),
        ]

    # Read with the session once more: the first reading of it writes that it has arrived.
    assert service.client.get("/users/me", token).status == 200
    filler = fill(disk)
    for _ in range(3):
        for answer in writes():
            assert answer.status == 503, answer
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert service.client.get("/users/me", token).json["bio"] is None
        assert service.client.get("/users/ada", token).status == 200
        assert service.client.get("/health").status == 200
    pids = service.pids()

    filler.unlink()
    assert [answer.status for answer in writes()] == [200, 200, 200, 200, 202]
    assert verify(service, "bob").status == 200
    service.client.get("/health", **{"X-Request-ID": "there-is-room"})
    assert '"request_id": "there-is-room"' in service.log
    assert service.pids() == pids
    service.stop()
    database = Path(service.settings["INSTANCE_PATH"]) / "runtime.sqlite3"
    check = peewee.SqliteDatabase(database).execute_sql("PRAGMA integrity_check").fetchall()
    assert check == [("ok",)]


def test_a_mail_that_found_no_room_in_the_outbox_is_there_once_there_is(tmp_path, disk):
    url = f"sqlite:///{tmp_path / 'runtime.sqlite3'}"
    flask("db", "upgrade", DATABASE_URL=url)
    outbox = {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY, "INSTANCE_PATH": str(disk)}
    with Service(tmp_path, outbox) as service:
        filler = fill(disk)
        assert sign_up(service, "ada").status == 202
        wait_until(lambda: "failed, try 1: OSError" in service.log, 10, "the mail is tried")
        assert not list((disk / "outbox").glob("*.eml"))

        filler.unlink()
        assert verify(service, "ada").status == 200
