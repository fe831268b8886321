"""schemathesis over the running service, with all its checks and a signed-in user.

`python -m tests.schemathesis_run` exits with what it found. schemathesis is not among what runs or
tests the service (`pip install schemathesis`): without it this says so, and fails only under CI.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from app import create_app
from runtime.caller import Caller
from runtime.clock import now
from runtime.database.base import db
from runtime.models.users import User
from runtime.security.passwords import Passwords
from runtime.services.accounts import sessions
from tests.servers import PREFIX, Service

SEED = "20261122"
# One worker: CPython 3.11's parser, which hypothesis asks, fails now and then on several threads.
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
        with Service(Path(folder), settings) as service:
            url = f"http://127.0.0.1:{service.port}{PREFIX}"
            done = subprocess.run(command(url, token), cwd=folder, check=False)
        faults = [line for line in service.log.splitlines() if '"level": "error"' in line]
        print(*faults[:10], sep="\n")
        return done.returncode


def sign_in(settings: dict[str, str]) -> str:
    """Make an account; returns an access token of it."""
    app = create_app(settings)
    with app.app_context():
        user = User.create(
            username="signed_in",
            email="signed_in@example.org",
            # Not the document's example: with that one the account would be deleted.
            password_hash=Passwords(1).hash("Not in the document"),
            email_confirmed_at=now(),
        )
        token = sessions.start(user, Caller("127.0.0.1")).access_token
    db.close_all()
    return token


def command(url: str, token: str) -> list[str]:
    return [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        f"{url}/openapi.json",
        *("--header", f"Authorization: Bearer {token}"),
        *("--continue-on-failure", "--workers", "1"),
        *("--max-examples", MAX_EXAMPLES, "--max-time", MAX_SECONDS, "--seed", SEED),
        *(
            "--request-timeout",
            "20",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
            *sys.argv[1:],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
