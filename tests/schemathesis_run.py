"""schemathesis over the running service, with all its checks and a signed-in user.

`python -m tests.schemathesis_run` exits with what it found. schemathesis is not among what runs or
tests the service (`pip install schemathesis`): without it this says so, and fails only under CI.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from app import create_app
from runtime.clock import now
from runtime.config import ROOT, SETTINGS
from runtime.db import db
from runtime.models import User
from runtime.passwords import Passwords
from runtime.services import sessions

SEED = "20261122"
# Of each operation and phase: with these the whole takes about two minutes on two cores. Signing up
# and signing in cost a quarter of a second of a core each, whoever asks.
MAX_EXAMPLES = "25"
MAX_SECONDS = "120"

CONFIG = Path(__file__).with_suffix(".toml")


def main() -> int:
    """Returns the exit status."""
    if importlib.util.find_spec("schemathesis") is None:
        print("schemathesis is not installed: nothing was checked", file=sys.stderr)
        return int(os.environ.get("CI") == "true")
    with TemporaryDirectory() as folder:
        settings = {"INSTANCE_PATH": folder, "SECRET_KEY": "a-key-for-tests-" * 3}
        settings |= {"RATE_LIMITS": "off", "REDIRECT_ALLOWLIST": "https://app.example.org"}
        token = sign_in(settings)
        with serving(settings, Path(folder) / "log") as url:
            return subprocess.run(command(url, token), cwd=folder, check=False).returncode


def sign_in(settings: dict[str, str]) -> str:
    """Make an account; returns an access token of it."""
    app = create_app(settings)
    with app.app_context():
        user = User.create(
            username="signed_in",
            email="signed_in@example.org",
            password_hash=Passwords(1).hash("correct horse"),
            email_confirmed_at=now(),
        )
        token = sessions.start(user, "127.0.0.1").access_token
    db.close_all()
    return token


@contextmanager
def serving(settings: dict[str, str], log: Path) -> Iterator[str]:
    """The service as it is run; its address. The end of its log is shown when it fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {setting.name for setting in SETTINGS}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "python:runtime.server", "wsgi:app"],
            cwd=ROOT,
            env={**clean, **settings, "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}/api/v1"
    try:
        wait_for(f"{url}/health", process)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        faults = [line for line in log.read_text().splitlines() if '"level": "error"' in line]
        print(*faults[:10], sep="\n")


def wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the service does not start")


def command(url: str, token: str) -> list[str]:
    return [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        f"{url}/openapi.json",
        *("--header", f"Authorization: Bearer {token}"),
        *("--checks", "all", "--continue-on-failure", "--workers", "4"),
        *("--max-examples", MAX_EXAMPLES, "--max-time", MAX_SECONDS, "--seed", SEED),
        *("--request-timeout", "20", "--suppress-health-check", "all", *sys.argv[1:]),
    ]


if __name__ == "__main__":
    sys.exit(main())
