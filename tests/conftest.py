"""The cast, and the stage: a service of its own for every test, on real parts."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from runtime import clock as runtime_clock
from runtime import migrate
from runtime.db import connect, db
from runtime.models import User
from runtime.passwords import Passwords
from runtime.services import sessions
from tests import openapi_checker

PREFIX = "/api/v1"
PASSWORD = "correct horse battery"


def url_of(variable: str) -> str:
    """The server that a variable names; without one the test is skipped, but never under CI."""
    url = os.environ.get(variable)
    if not url:
        assert not os.environ.get("CI"), f"{variable} must name a server under CI"
        pytest.skip(f"{variable} names no server")
    return url


@cache
def password_hash() -> str:
    """PASSWORD hashed once for all tests: a hash takes a quarter of a second."""
    return Passwords(1).hash(PASSWORD)


@dataclass
class Person:
    """Somebody at a device: speaks JSON, from one network, with their access token if signed in."""

    client: FlaskClient
    network: str = "127.0.0.1"
    email: str = ""
    tokens: dict = field(default_factory=dict)
    id: str = ""
    language: str | None = None

    def request(self, method: str, path: str, **kwargs) -> TestResponse:
        headers = kwargs.pop("headers", {})
        if self.tokens:
            headers = {"Authorization": f"Bearer {self.tokens['access_token']}", **headers}
        if self.language:
            headers = {"Accept-Language": self.language, **headers}
        answer = self.client.open(
            PREFIX + path,
            method=method,
            headers=headers,
            environ_base={"REMOTE_ADDR": self.network},
            **kwargs,
        )
        openapi_checker.check(self.client.application, answer)
        return answer

    def get(self, path: str, **kwargs) -> TestResponse:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, json=None, **kwargs) -> TestResponse:
        return self.request("POST", path, json=json, **kwargs)

    def patch(self, path: str, json=None, **kwargs) -> TestResponse:
        return self.request("PATCH", path, json=json, **kwargs)

    def delete(self, path: str, json=None, **kwargs) -> TestResponse:
        return self.request("DELETE", path, json=json, **kwargs)

    def chat(self, message: str, session_id: str | None = None) -> TestResponse:
        return self.post("/agent-chats", {"message": message, "session_id": session_id})

    def refresh(self, refresh_token: str | None = None) -> TestResponse:
        token = refresh_token or self.tokens["refresh_token"]
        return self.post("/auth/sessions/refresh", {"refresh_token": token})


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with all migrations, to copy: applying them takes each test 50 ms."""
    path = tmp_path_factory.mktemp("migrated") / "runtime.sqlite3"
    database = connect(f"sqlite:///{path}", 1)
    migrate.upgrade(database)
    database.close_all()
    return path


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> dict[str, str]:
    """The environment of the service; a test may change it before it asks for `app`."""
    instance = tmp_path / "instance"
    instance.mkdir()
    shutil.copy(migrated, instance)
    return {"INSTANCE_PATH": str(instance), "SECRET_KEY": "a-key-for-tests-" * 3}


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    """The service itself, on SQLite in a temporary folder."""
    app = create_app(settings)
    yield app
    app.extensions["mail"].drain(5)
    db.close_all()


@pytest.fixture
def clock() -> Iterator:
    """The time, standing still; `clock.advance(seconds=…)` moves it."""
    runtime_clock.hold(runtime_clock.now())
    yield runtime_clock
    runtime_clock.hold(None)


@pytest.fixture
def stranger(app: Flask) -> Person:
    """Somebody who is not signed in, on a network of their own."""
    return Person(app.test_client(), network="203.0.113.66")


@pytest.fixture
def member(app: Flask) -> Callable[..., Person]:
    """Makes an account that signs in with PASSWORD, and a session of it."""

    def make(username: str, network: str = "127.0.0.1", **columns) -> Person:
        email = f"{username}@example.org"
        with app.app_context():
            user = User.create(
                username=username,
                email=email,
                password_hash=password_hash(),
                email_confirmed_at=runtime_clock.now(),
                **columns,
            )
            pair = sessions.start(user, network)
        tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
        return Person(app.test_client(), network, email, tokens, str(user.id))

    return make


@pytest.fixture
def alice(member: Callable[..., Person]) -> Person:
    """Owns what the test is about."""
    return member("alice", "198.51.100.1")


@pytest.fixture
def bob(member: Callable[..., Person]) -> Person:
    """Another user, with a life of his own."""
    return member("bob", "198.51.100.2")


@pytest.fixture
def charlie(member: Callable[..., Person]) -> Person:
    """Must see nothing of Alice's."""
    return member("charlie", "198.51.100.3")


@pytest.fixture
def admin(member: Callable[..., Person]) -> Person:
    """An administrator."""
    return member("admin", "198.51.100.9", is_admin=True)


@dataclass
class Outbox:
    """The mails that were written, oldest first."""

    app: Flask

    def mails(self) -> list[EmailMessage]:
        """All of them, once the queue is empty."""
        deadline = time.monotonic() + 10
        while self.app.extensions["mail"].queued and time.monotonic() < deadline:
            time.sleep(0.005)
        folder = Path(self.app.config["INSTANCE_PATH"]) / "outbox"
        files = sorted(folder.glob("*.eml"))
        return [message_from_bytes(f.read_bytes(), policy=policy.default) for f in files]

    def texts(self, to: str) -> list[str]:
        """The plain text of the mails to an address."""
        mails = [mail for mail in self.mails() if mail["To"] == to]
        return [mail.get_body(("plain",)).get_content() for mail in mails]

    def code(self, to: str, username: str | None = None) -> str:
        """The code in the last mail to an address, the one for `username` if there are several."""
        text = self.texts(to)[-1]
        return re.search(rf"{username or ''}\b.*?\b(\d{{6}})\b", text, re.DOTALL).group(1)


@pytest.fixture
def outbox(app: Flask) -> Outbox:
    """What was mailed."""
    return Outbox(app)


def instant(text: str) -> datetime:
    """An ISO 8601 instant with `Z`, as answers have them."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)
