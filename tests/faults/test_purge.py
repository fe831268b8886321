"""A purge whose statements take too long goes on where it was."""

import time
from datetime import timedelta
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from app import create_app
from runtime import clock
from runtime.database.base import db
from runtime.models.security_events import SecurityEvent
from runtime.models.users import User
from runtime.services import purge
from tests.faults.conftest import SECRET_KEY
from tests.servers import Postgres


def test_a_statement_that_postgres_ended_is_tried_again(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As the first one after a large purge, which reads what that one has deleted."""
    url = f"{postgres.url}?options=-c%20statement_timeout%3D200"
    app = create_app(
        {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY, "INSTANCE_PATH": str(tmp_path)}
    )
    old = clock.now() - timedelta(days=91)
    with app.app_context():
        user = User.create(username="ada", email="ada@example.org", password_hash="-")
        SecurityEvent.create(user=user, kind="signed_in", created_at=old)
    with psycopg.connect(postgres.url) as other:
        other.execute("LOCK TABLE security_events IN ACCESS EXCLUSIVE MODE")
        unlocking = Thread(target=lambda: (time.sleep(0.7), other.commit()))
        unlocking.start()
        with app.app_context():
            deleted = purge.purge()
        unlocking.join()
    db.close_all()

    assert deleted["security_events"] == 1
