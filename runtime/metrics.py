"""What the service counts, for Prometheus to fetch: nothing of a person, few values a label.

Without METRICS_TOKEN nothing is counted, and the library, which takes 35 ms and 2.6 MB of each
worker, is not even loaded. A process by itself counts in its memory. gunicorn's workers count in
files that they share, so that each can answer for all of them; see `share`.
"""

import atexit
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path

from flask import Flask

from runtime import logs
from runtime.errors import Failure

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A health check takes less than the first, a run of the agent more than the last.
REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# What else a client calls its method is one.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metric:
    """A name, a sentence, and a series for each value its labels have had.

    `known` are values of a single label that are shown from the start, as 0: Prometheus sees an
    increase only from a value it has seen.
    """

    kind: str
    options: dict = {}

    def __init__(self, name: str, sentence: str, *labels: str, known: tuple[str, ...] = ()):
        self.name = name
        self._sentence = sentence
        self._labels = labels
        self._known = known
        self._metric = None
        METRICS.append(self)

    def start(self, library, registry) -> None:
        """Begin to count, from 0, with the library's own metric behind this one."""
        kind = getattr(library, self.kind)
        self._metric = kind(
            self.name, self._sentence, self._labels, registry=registry, **self.options
        )
        # The library's own way to a series costs as much as counting does.
        self._series = {} if self._labels else {(): self._metric}
        for value in self._known:
            self._find(value)

    def stop(self) -> None:
        """Count nothing any more."""
        self._metric = None

    def _find(self, *values):
        if values not in self._series:
            self._series[values] = self._metric.labels(*values)
        return self._series[values]


class Counter(Metric):
    """Only ever grows."""

    kind = "Counter"

    def inc(self, *values: str | int, by: int = 1) -> None:
        """Count `by` more for these values of the labels."""
        if self._metric:
            self._find(*values).inc(by)

    def outcomes(self, function: Callable) -> Callable:
        """The function, its calls counted by how they end: `succeeded` or the failure's code."""

        @wraps(function)
        def counted(*arguments, **options):
            outcome = "error"
            try:
                result = function(*arguments, **options)
                outcome = "succeeded"
            except Failure as failure:
                outcome = failure.code
                raise
            finally:
                self.inc(outcome)
            return result

        return counted


class Gauge(Metric):
    """How many there are now, in all live workers together."""

    kind = "Gauge"
    options = {"multiprocess_mode": "livesum"}

    def inc(self) -> None:
        if self._metric:
            self._metric.inc()

    def dec(self) -> None:
        if self._metric:
            self._metric.dec()


class Histogram(Metric):
    """How many took how many seconds."""

    kind = "Histogram"

    def __init__(self, name: str, sentence: str, *labels: str, bounds: tuple[float, ...]):
        super().__init__(name, sentence, *labels)
        self.options = {"buckets": bounds}

    def observe(self, seconds: float, *values: str) -> None:
        if self._metric:
            self._find(*values).observe(seconds)

    def timed(self, function: Callable) -> Callable:
        """The function, with the time of each call observed."""

        @wraps(function)
        def observed(*arguments, **options):
            if not self._metric:
                return function(*arguments, **options)
            began_at = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.observe(time.perf_counter() - began_at)

        return observed

    def waited(self, function: Callable) -> Callable:
        """The function, to be called once: what is observed is the time until then."""
        queued_at = time.perf_counter()

        def begun(*arguments, **options):
            self.observe(time.perf_counter() - queued_at)
            return function(*arguments, **options)

        return begun


METRICS: list[Metric] = []

requests = Counter(
    "http_requests_total", "Requests answered by the application.", "method", "route", "status"
)
request_duration = Histogram(
    "http_request_duration_seconds",
    "From a request's arrival at the application to its answer's head.",
    "route",
    bounds=REQUEST_BOUNDS,
)
requests_refused = Counter(
    "http_requests_refused_total", "Requests refused before the application saw them.", "status"
)
limits_reached = Counter("limits_reached_total", "Refusals by the limit that was reached.", "limit")
sign_ins = Counter(
    "sign_ins_total",
    "Sign-ins with a password, by outcome.",
    "outcome",
    known=("succeeded", "wrong_credentials", "too_many_requests", "overloaded"),
)
refreshes = Counter(
    "sessions_refreshed_total",
    "Exchanges of a refresh token, by outcome.",
    "outcome",
    known=("succeeded", "invalid_refresh_token"),
)
refresh_tokens_reused = Counter(
    "refresh_tokens_reused_total", "Sessions ended because a rotated refresh token came back."
)
security_events = Counter(
    "security_events_total",
    "Events in the journals of accounts, by type.",
    "type",
    known=("signed_in", "sign_in_refused", "code_refused"),
)
codes_sent = Counter("codes_sent_total", "Codes put into a mail.")
codes_checked = Counter(
    "codes_checked_total",
    "Codes that somebody entered, by outcome.",
    "outcome",
    known=("succeeded", "invalid_code", "code_used_up", "too_many_requests"),
)
mails = Counter(
    "mails_total",
    "Mails that left the queue, or found no room in it, by outcome.",
    "outcome",
    known=("sent", "refused", "expired", "outdated", "dropped"),
)
mail_failures = Counter("mail_failures_total", "Tries to send a mail that failed; more follow.")
mail_queue = Gauge("mail_queue", "Mails that wait or are just being sent.")
runs = Counter(
    "runs_total",
    "Runs of the agent that ended: finished, or the error's code.",
    "outcome",
    known=("finished",),
)
run_tokens = Counter(
    "run_tokens_total",
    "Tokens that runs used, as the model's server counts them.",
    "kind",
    known=("input", "output"),
)
purged_rows = Counter("purged_rows_total", "Rows deleted because they had run out.", "table")
database_pool_wait = Histogram(
    "database_pool_wait_seconds",
    "How long a thread waited for a connection to the database.",
    bounds=WAIT_BOUNDS,
)
password_hash_wait = Histogram(
    "password_hash_wait_seconds",
    "How long a password waited for its turn to be hashed.",
    bounds=WAIT_BOUNDS,
)


def observe_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count an answered request; `route` is its rule, None for a path that has none."""
    route = route or "none"
    requests.inc(method if method in METHODS else "other", route, status)
    request_duration.observe(seconds, route)


class _Shared:
    """Where the workers of this service count: its folder, and this process's place in it.

    `refusal` is why they have no folder though they should, `app` whose metrics are shown.
    """

    folder: Path | None = None
    refusal: OSError | None = None
    app: Flask | None = None
    master = 0
    place: int | str = "master"


# A place's files, by the names that the library gives them, and more than what it writes into
# each: 100 bytes of a gauge, 90 kB of histograms when every route has been asked.
FILE_BYTES = {"counter": 256 << 10, "histogram": 256 << 10, "gauge_livesum": 4 << 10}


def share(workers: int) -> None:
    """Let so many workers that this process forks count together, from 0.

    In memory if the system has room there, for a disk is slower; else with its temporary files.
    Where neither has room each worker counts for itself, and the log says so.
    """
    _Shared.master = os.getpid()
    for parent in ("/dev/shm", None):
        try:
            _Shared.folder = Path(tempfile.mkdtemp(prefix="runtime-metrics-", dir=parent))
            atexit.register(_end_share, _Shared.folder)
            for place in ("master", *range(workers)):
                _reserve(place)
            _Shared.refusal = None
            return
        except OSError as error:
            if _Shared.folder:
                shutil.rmtree(_Shared.folder, ignore_errors=True)
            _Shared.folder, _Shared.refusal = None, error


def _reserve(place: int | str) -> None:
    """Make the files of a place, unless they are there. Raises OSError when there is no room.

    The library writes by mmap into files that are mostly holes: where there is no room for a
    page, the kernel ends the process (SIGBUS). What is written here is there to be written over.
    """
    for kind, size in FILE_BYTES.items():
        file = _Shared.folder / f"{kind}_{place}.db"
        if not file.exists():
            # Whoever adds up reads every .db, and an empty one is an error.
            draft = file.with_suffix(".new")
            draft.write_bytes(bytes(size))
            draft.rename(file)


def _end_share(folder: Path) -> None:
    """Leave no files behind when the master exits, or a worker whose master was killed."""
    if _Shared.master == os.getpid() or _Shared.master != os.getppid():
        shutil.rmtree(folder, ignore_errors=True)


def take_place(place: int) -> None:
    """Fork a worker next: it counts where one of this number, which is gone, left off.

    With a place for each worker there is, not for each there ever was, one that crashes every
    minute fills no memory. A worker that can have no place counts for itself; it serves.
    """
    _Shared.master = os.getpid()
    _Shared.place = place
    if _Shared.folder is None:
        return
    try:
        # systemd clears it away when its owner logs out (RemoveIPC).
        _Shared.folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(_Shared.folder):
            raise PermissionError(f"{_Shared.folder} is somebody else's")
        leave_place(place)
        _reserve(place)
    except OSError as error:
        _Shared.folder, _Shared.refusal = None, error
        if _Shared.app:
            init_app(_Shared.app)


def leave_place(place: int) -> None:
    """The worker of this number is gone: what it counted stays, what it held does not."""
    if _Shared.folder and _is_ours(_Shared.folder):
        with suppress(OSError):
            for gauges in _Shared.folder.glob(f"gauge_live*_{place}.db"):
                gauges.unlink()


def _is_ours(folder: Path) -> bool:
    """Whether it is this user's folder: where everybody may write, anybody may have made it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def init_app(app: Flask) -> None:
    """Count from now on if there is a METRICS_TOKEN; the application made last has the metrics."""
    _Shared.app = app
    for metric in METRICS:
        metric.stop()
    if app.config["METRICS_TOKEN"]:
        app.extensions["metrics"] = _start()
    if _Shared.refusal:
        logs.event("metrics_not_shared", level=logging.WARNING, error=str(_Shared.refusal))


def _start():
    """Start every metric; the library's registry that collects them."""
    import prometheus_client
    from prometheus_client import multiprocess, values

    # When each series began is no news, and cannot be added up.
    prometheus_client.disable_created_metrics()
    registry = prometheus_client.CollectorRegistry()
    if _Shared.folder is None:
        values.ValueClass = values.MutexValue
    else:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_Shared.folder)
        values.ValueClass = values.MultiProcessValue(lambda: _Shared.place)
        multiprocess.MultiProcessCollector(registry, str(_Shared.folder))
    for metric in METRICS:
        metric.start(prometheus_client, None if _Shared.folder else registry)
    return registry


def text(app: Flask) -> bytes:
    """All metrics in Prometheus' text form, those of all workers added up."""
    from prometheus_client import generate_latest

    if _Shared.folder and not _is_ours(_Shared.folder):
        return b""  # until a new worker has made it, or counts for itself
    return generate_latest(app.extensions["metrics"])
