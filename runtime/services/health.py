"""Whether the database and the store answer: both asked at once, once a second for all who ask."""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from flask import Flask, current_app

from runtime import logs
from runtime.database.base import release
from runtime.limits.store import store
from runtime.models.users import User

TIMEOUT_SECONDS = 1.0
# An answer is given again for so long.
KEPT_SECONDS = 1.0
# While services are asked anew, an answer of up to this age is given at once, without a wait.
STALE_SECONDS = 3.0


def check() -> dict:
    """Each service's status and how many milliseconds it took to answer, or to be given up."""
    extensions = current_app.extensions
    if "health" not in extensions:
        extensions.setdefault("health", Checks(current_app._get_current_object()))
    return extensions["health"].latest()


class Checks:
    """The last answer of all services, made by one of those who ask."""

    def __init__(self, app: Flask):
        self._services = {
            "redis": _Service(app, "redis", lambda: store.ping()),
            "database": _Service(app, "database", _ask_database),
        }
        self._is_embedded = app.extensions["store"].mode == "embedded"
        self._asking = threading.Lock()
        self._kept_answer: tuple[float, dict] | None = None

    def latest(self) -> dict:
        """An answer that is a second old at most, or a few while a newer one is being made."""
        if answer := self._kept(KEPT_SECONDS):
            return answer
        if not self._asking.acquire(blocking=False):
            if answer := self._kept(STALE_SECONDS):
                return answer
            self._asking.acquire()
        try:
            # Another thread may have asked while this one waited.
            return self._kept(KEPT_SECONDS) or self._ask()
        finally:
            self._asking.release()

    def _kept(self, seconds: float) -> dict | None:
        if self._kept_answer is None:
            return None
        answered_at, answer = self._kept_answer
        return answer if time.monotonic() - answered_at < seconds else None

    def _ask(self) -> dict:
        for service in self._services.values():
            service.begin()
        services = {name: service.result() for name, service in self._services.items()}
        if self._is_embedded:
            services["redis"]["mode"] = "embedded"
        healthy = all(service["status"] == "healthy" for service in services.values())
        answer = {"status": "healthy" if healthy else "unhealthy", "services": services}
        self._kept_answer = time.monotonic(), answer
        return answer


class _Service:
    """One service, asked on a thread of its own: one at most, however long it hangs."""

    def __init__(self, app: Flask, name: str, ask: Callable[[], None]):
        self._app = app
        self._name = name
        self._ask = ask
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._ended_at: float | None = None

    def begin(self) -> None:
        """Ask, unless the question before has no answer yet: then that one is waited for."""
        if self._thread and self._thread.is_alive():
            return
        self._began_at, self._ended_at = time.monotonic(), None
        # The context has the request's id, for the log.
        run = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name=f"health-{self._name}", daemon=True)
        self._thread.start()

    def result(self) -> dict:
        """Wait until it has answered, a second at most."""
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
        except Exception as error:  # Any failure: the service does not answer.
            logs.event("health_probe_failed", service=self._name, reason=type(error).__name__)


def _ask_database() -> None:
    """Of a table: a database that was never migrated is of no use."""
    try:
        User.select(User.id).limit(1).execute()
    finally:
        release()
