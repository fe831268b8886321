"""Whether the database and the store answer, both asked at once, a second each."""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from flask import current_app

from .. import logs
from ..db import release
from ..models import User
from ..store import store

TIMEOUT_SECONDS = 1.0


def check() -> dict:
    """Each service's status and how many milliseconds it took to answer, or to be given up."""
    probes = {
        "redis": _Probe("redis", store.ping),
        "database": _Probe("database", _ask_database),
    }
    services = {name: probe.result() for name, probe in probes.items()}
    if store.mode == "embedded":
        services["redis"]["mode"] = "embedded"
    healthy = all(service["status"] == "healthy" for service in services.values())
    return {"status": "healthy" if healthy else "unhealthy", "services": services}


class _Probe:
    """One question on a thread of its own, which may outlive the answer we give."""

    def __init__(self, service: str, ask: Callable[[], None]):
        self._service = service
        self._ask = ask
        self._app = current_app._get_current_object()
        self._began_at = time.monotonic()
        self._ended_at: float | None = None
        # The context has the request's id, for the log.
        run = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> dict:
        self._thread.join(max(0, self._began_at + TIMEOUT_SECONDS - time.monotonic()))
        healthy = self._ended_at is not None
        seconds = (self._ended_at or time.monotonic()) - self._began_at
        return {
            "status": "healthy" if healthy else "unhealthy",
            "latency_ms": round(seconds * 1000, 2),
        }

    def _run(self) -> None:
        try:
            with self._app.app_context():
                self._ask()
            self._ended_at = time.monotonic()
        except Exception as error:  # Whatever it is, the service does not answer.
            logs.event("health_probe_failed", service=self._service, reason=type(error).__name__)


def _ask_database() -> None:
    """Of a table: a database that was never migrated is of no use."""
    try:
        User.select(User.id).limit(1).execute()
    finally:
        release()
