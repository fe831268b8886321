"""Passwords: hash and check, only so many at once as this process has cores to itself.

One hash takes about 190 ms of a core and 32 MiB. It releases the interpreter's lock, so that
without a bound two hundred sign-ins at once would take 6 GiB.
"""

import os
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import cast

from flask import current_app
from werkzeug.local import LocalProxy
from werkzeug.security import check_password_hash, generate_password_hash

from runtime import metrics
from runtime.errors import Overloaded
from runtime.security.fair_queue import FairQueue, QueueFull

# OWASP's Password Storage Cheat Sheet: N=2^15, r=8, p=3.
METHOD = "scrypt:32768:8:3"
# A few wait their turn, about a second and a half on two cores; the rest are told at once.
QUEUE = 16
RETRY_AFTER_SECONDS = 2
NICENESS = 10
# A hash that another system made may ask for any amount of work and memory. At most eight times
# our work is done; of the parameters that OWASP names, N=2^17 with r=8 take the most, 128 MiB.
MAX_SCRYPT_WORK = 8 * 32768 * 8 * 3
MAX_SCRYPT_BYTES = 130 * 2**20
MAX_PBKDF2_ITERATIONS = 2_000_000
# What werkzeug makes: method, salt and digest.
_HASH = re.compile(
    r"(?:scrypt(?::(?P<n>\d{1,9}):(?P<r>\d{1,9}):(?P<p>\d{1,9}))?"
    r"|pbkdf2(?::\w{1,20}(?::(?P<iterations>\d{1,9}))?)?)"
    r"\$[!-#%-~]+\$[0-9a-f]+",
    re.ASCII,
)


class Passwords:
    """Hashes on `workers` threads of its own; `queue` more may wait.

    Places are shared out by network, so that a flood from one leaves the others theirs. `method`
    is the hash's, as werkzeug writes it.
    """

    def __init__(self, workers: int, queue: int = QUEUE, method: str = METHOD):
        self._queue = FairQueue(workers, queue, "passwords", _yield_to_requests)
        self._method = method
        # Checked in place of an unknown account's, so that both take the same time.
        self._dummy = f"{method}${secrets.token_urlsafe(12)}${secrets.token_hex(64)}"

    def hash(self, password: str, network: str = "") -> str:
        """A salted hash to keep. Raises Overloaded."""
        return self._run(network, generate_password_hash, normalized(password), self._method)

    def verify(
        self,
        password: str,
        password_hash: str | None,
        network: str = "",
        *,
        count: Callable[[], None] | None = None,
    ) -> bool:
        """Whether `password_hash` is of this password. Raises Overloaded.

        `count` is called once there is a place, before the password is looked at: a try is
        counted, and a request that found no place is no try. What it raises ends the try.
        `None` (no such account), and a hash that another system made, check a dummy hash instead:
        they take the same time, and no password matches them.
        """
        kept = password_hash if password_hash and _is_verifiable(password_hash) else self._dummy
        # On a thread of ours; its log lines are the request's.
        counting = count and partial(copy_context().run, count)
        return self._run(network, _matches_any, kept, _forms(password), self._dummy, counting)

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return not password_hash.startswith(f"{self._method}$")

    def _run(self, network: str, function, *arguments):
        queued_at = time.perf_counter()

        def begin():
            metrics.password_hash_wait.observe(time.perf_counter() - queued_at)
            return function(*arguments)

        try:
            return self._queue.run(network, begin)
        except QueueFull as error:
            metrics.limits_reached.labels("passwords").inc()
            raise Overloaded(RETRY_AFTER_SECONDS) from error


def normalized(password: str) -> str:
    """The one form of a password that two keyboards may type differently (Unicode's NFC)."""
    return unicodedata.normalize("NFC", password)


def _forms(password: str) -> list[str]:
    """The forms to try, at most two: the normalised form, and what an earlier release hashed.

    That release hashed what was typed: as it is typed now or, if that is the normalised form, with
    its accents apart. Every account has both tried, those too whose hash cannot be so old: if they
    were quicker, the time would tell which addresses have an account.
    """
    composed = normalized(password)
    other = password if password != composed else unicodedata.normalize("NFD", password)
    return [*dict.fromkeys((composed, other))]


def _matches_any(
    password_hash: str, passwords: Sequence[str], dummy: str, count: Callable[[], None] | None
) -> bool:
    if count:
        count()
    return any(_matches(password_hash, password, dummy) for password in passwords)


def _matches(password_hash: str, password: str, dummy: str) -> bool:
    try:
        return check_password_hash(password_hash, password)
    except ValueError:  # Parameters that its algorithm does not take, or an unknown algorithm.
        check_password_hash(dummy, password)
        return False


def _is_verifiable(password_hash: str) -> bool:
    """Whether this is a hash of werkzeug's form that takes bounded time and memory to check."""
    found = _HASH.fullmatch(password_hash)
    if not found:
        return False
    if found["n"]:
        n, r, p = (int(found[name]) for name in "nrp")
        # RFC 7914 §2: a vector of N blocks and one of p, each of 128 r bytes.
        return n * r * p <= MAX_SCRYPT_WORK and 128 * r * (n + p) <= MAX_SCRYPT_BYTES
    return int(found["iterations"] or 0) <= MAX_PBKDF2_ITERATIONS


def _yield_to_requests() -> None:
    """Let the threads that answer requests go first; Linux has a niceness for each thread."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def init_app(app) -> None:
    """As many hashes at once as there are cores, shared out among the worker processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    app.extensions["passwords"] = Passwords(max(1, cores // app.config["WEB_CONCURRENCY"]))


passwords = cast(Passwords, LocalProxy(lambda: current_app.extensions["passwords"]))
