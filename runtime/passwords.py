"""Passwords: hash and check, only so many at once as this process has cores to itself.

One hash takes about 190 ms of a core and 32 MiB. It releases the interpreter's lock, so that
without a bound two hundred sign-ins at once would take 6 GiB.
"""

import os
import secrets
import threading
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from flask import current_app
from werkzeug.local import LocalProxy
from werkzeug.security import check_password_hash, generate_password_hash

from . import metrics
from .errors import Overloaded

# OWASP's Password Storage Cheat Sheet: N=2^15, r=8, p=3.
METHOD = "scrypt:32768:8:3"
# A few wait their turn, about a second and a half on two cores; the rest are told at once.
QUEUE = 16
RETRY_AFTER_SECONDS = 2
NICENESS = 10


class Passwords:
    """Hashes on `workers` threads of its own; `queue` more may wait."""

    def __init__(self, workers: int, queue: int = QUEUE):
        self._executor = ThreadPoolExecutor(workers, "passwords", initializer=_yield_to_requests)
        self._places = threading.BoundedSemaphore(workers + queue)
        # Checked in place of an unknown account's, so that both take the same time.
        self._nobody = self.nobodys()

    @staticmethod
    def nobodys() -> str:
        """What is kept of a password that nobody has."""
        return f"{METHOD}${secrets.token_urlsafe(12)}${secrets.token_hex(64)}"

    def hash(self, password: str) -> str:
        """A salted hash to keep. Raises Overloaded."""
        return self._run(generate_password_hash, normalized(password), METHOD)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether the hash is this password's; None, nobody's, costs as much. Raises Overloaded.

        An earlier release hashed a password as it was typed, and where it was typed decides
        whether its accents came apart, all or some: one that has several forms is tried in each.
        """
        apart = unicodedata.normalize("NFD", password)
        forms = dict.fromkeys((normalized(password), password, apart))
        return self._run(_matches_any, password_hash or self._nobody, [*forms])

    def _run(self, function, *arguments):
        if not self._places.acquire(blocking=False):
            metrics.limits_reached.inc("passwords")
            raise Overloaded(RETRY_AFTER_SECONDS)
        try:
            begun = metrics.password_hash_wait.waited(function)
            return self._executor.submit(begun, *arguments).result()
        finally:
            self._places.release()


def normalized(password: str) -> str:
    """The one form of a password that two keyboards may type differently (Unicode's NFC)."""
    return unicodedata.normalize("NFC", password)


def _matches_any(password_hash: str, passwords: Sequence[str]) -> bool:
    return any(check_password_hash(password_hash, password) for password in passwords)


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return not password_hash.startswith(f"{METHOD}$")


def _yield_to_requests() -> None:
    """Let the threads that answer requests go first; Linux has a niceness for each thread."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def init_app(app) -> None:
    """As many hashes at once as there are cores, shared out among the worker processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    app.extensions["passwords"] = Passwords(max(1, cores // app.config["WEB_CONCURRENCY"]))


passwords: Passwords = LocalProxy(lambda: current_app.extensions["passwords"])
