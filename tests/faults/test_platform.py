"""A Heroku-style platform: its variables, its router, and this Procfile, which honcho runs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runtime.config.settings import ROOT
from tests.servers import Postgres, Redis, Service


class Dyno(Service):
    """One line of the Procfile, with the platform's variables."""

    line = "web"

    def command(self) -> list[str]:
        procfile = ["-f", str(ROOT / "Procfile"), "-e", os.devnull]
        return [sys.executable, "-m", "honcho", *procfile, "start", self.line]

    def environ(self) -> dict[str, str]:
        """As the platform has it: its programs are on the PATH, and nothing is a terminal."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**super().environ(), "PATH": programs, "DYNO": f"{self.line}.1"}

    def release(self) -> None:
        """Run the release phase. Raises CalledProcessError when it fails."""
        self.line = "release"
        subprocess.run(
            self.command(), cwd=ROOT, env=self.environ(), check=True, capture_output=True
        )
        self.line = "web"

    def lines(self) -> list[str]:
        """What the web process has written, without honcho's own words."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.log)
        return re.findall(r"^[0-9:]+ web\.1 +\| (.*)$", plain, re.MULTILINE)


@pytest.fixture
def dyno(tmp_path: Path, postgres: Postgres, redis: Redis) -> Iterator[Dyno]:
    """Released and running, on an empty database."""
    with psycopg.connect(postgres.url, autocommit=True) as server:
        server.execute("CREATE DATABASE platform")
    settings = {
        "DATABASE_URL": f"postgres://postgres@127.0.0.1:{postgres.port}/platform",
        "REDIS_URL": redis.url,
        "SECRET_KEY": "a-key-for-the-platform-" * 2,
        "TRUSTED_PROXIES": "1",
        "WEB_CONCURRENCY": "2",
    }
    dyno = Dyno(tmp_path, settings)
    dyno.release()
    with dyno:
        yield dyno


def test_a_push_to_a_platform_migrates_and_serves(dyno: Dyno):
    health = dyno.client.get("/infra/health").json

    assert health["status"] == "healthy"
    assert "mode" not in health["services"]["redis"]
    address = {"email": "nobody@example.org"}
    assert dyno.client.post("/auth/verifications/resend", address).status == 204

    # The router's word is taken for the caller's address, and not what the caller says it is.
    wrong = {**address, "password": "wrong horse"}
    through = {"X-Forwarded-For": "192.0.2.1, 203.0.113.5", "X-Forwarded-Proto": "https"}
    assert dyno.client.post("/auth/sessions", wrong, **through).status == 401

    dyno.stop()
    events = [json.loads(line) for line in dyno.lines() if line.startswith("{")]
    refused = [event for event in events if event["event"] == "sign_in_refused"]
    assert [event["network"] for event in refused] == ["203.0.113.5"]
    requests = [event for event in events if event["event"] == "request"]
    assert {"request_id", "route", "status", "ms", "bytes", "user_id"} <= requests[0].keys()
    assert any("Worker exiting" in line or "Shutting down" in line for line in dyno.lines())
