"""Servers that a test may break, a service on them, and people who are signed in to it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from app import create_app
from runtime import clock
from runtime.caller import Caller
from runtime.config.settings import ROOT
from runtime.database.base import db
from runtime.models.users import User
from runtime.services.accounts import sessions
from tests.conftest import PASSWORD, password_hash
from tests.servers import Postgres, Redis

SECRET_KEY = "a-key-for-tests-" * 3


@dataclass
class SignedIn:
    """Somebody with a session, whose password is `PASSWORD`."""

    id: str
    username: str
    email: str
    access_token: str
    refresh_token: str
    password: str = PASSWORD


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A cluster of this module's own, with all migrations."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        flask("db", "upgrade", DATABASE_URL=server.url)
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of this module's own."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def settings(postgres: Postgres, redis: Redis) -> dict[str, str]:
    """The environment of a service on both; `X-Forwarded-For` says from which network one asks."""
    return {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "SECRET_KEY": SECRET_KEY,
        "TRUSTED_PROXIES": "1",
    }


@pytest.fixture
def people(settings: dict[str, str], tmp_path: Path) -> Callable[[int], list[SignedIn]]:
    """Makes so many accounts with a session each, below HTTP: a hash takes a quarter second."""

    def make(count: int) -> list[SignedIn]:
        app = create_app({**settings, "INSTANCE_PATH": str(tmp_path)})
        try:
            with app.app_context(), db.atomic():
                return [_sign_in() for _ in range(count)]
        finally:
            db.close_all()

    return make


def _sign_in() -> SignedIn:
    username = f"u_{uuid4().hex[:20]}"
    email = f"{username}@example.org"
    user = User.create(
        username=username,
        email=email,
        password_hash=password_hash(),
        email_confirmed_at=clock.now(),
    )
    pair = sessions.start(user, Caller("127.0.0.1"))
    return SignedIn(str(user.id), username, email, pair.access_token, pair.refresh_token)


def flask(*arguments: str, **settings: str) -> subprocess.CompletedProcess:
    """Run the `flask` command with these settings. Raises CalledProcessError when it fails."""
    environ = {**os.environ, "SECRET_KEY": SECRET_KEY, **settings}
    command = [sys.executable, "-m", "flask", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True
    )
