"""What the service counts, for Prometheus to fetch: nothing of a person, few values a label.

A process by itself counts in its memory. Where RUNTIME_METRICS_FOLDER names a folder, each process
counts in files there, and any of them can show the sums (prometheus-client's multiprocess mode).
`runtime.gunicorn.metrics_folder` makes it for gunicorn's workers. The library's own variable is not
read: it may be another program's.
"""

import os
from collections.abc import Callable
from functools import cache, wraps

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from runtime.errors import Failure

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# A health check takes less than the first, a run of the agent more than the last.
REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# All other methods count as `other`: a client may invent any number of them.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

_registry = CollectorRegistry()
_place: int | str = "master"
# When each series began cannot be added up.
disable_created_metrics()
if folder := os.environ.get("RUNTIME_METRICS_FOLDER"):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    # By place, not by process id: a worker that crashes every minute leaves no files behind.
    values.ValueClass = values.MultiProcessValue(lambda: _place)
    MultiProcessCollector(_registry)
    _own = None
else:
    values.ValueClass = values.MutexValue
    _own = _registry


def count_at(place: int) -> None:
    """Go on where an earlier process at this place left off; call it in a forked worker."""
    global _place
    _place = place


def text() -> bytes:
    """All metrics in Prometheus' text form, those of all workers added up."""
    return generate_latest(_registry)


def scope() -> str:
    """Whose counts this process knows: those of the whole `machine`, or of its own `process`."""
    return "process" if _own else "machine"


def sums(name: str) -> dict[tuple[str, ...], float]:
    """A metric of all that `scope` tells, added up, by the values of its labels."""
    samples = [each for family in _registry.collect() for each in family.samples]
    return {tuple(each.labels.values()): each.value for each in samples if each.name == name}


def _counter(name: str, help_text: str, *labels: str, known: tuple[str, ...] = ()) -> Counter:
    """A counter; the `known` values of its label are shown from the start, as 0.

    Prometheus sees an increase only from a value it has seen.
    """
    counter = Counter(name, help_text, labels, registry=_own)
    for value in known:
        counter.labels(value)
    return counter


requests = _counter(
    "http_requests_total", "Requests answered by the application.", "method", "route", "status"
)
request_duration = Histogram(
    "http_request_duration_seconds",
    "From a request's arrival at the application to its answer's head.",
    ["route"],
    buckets=REQUEST_BOUNDS,
    registry=_own,
)
requests_refused = _counter(
    "http_requests_refused_total", "Requests refused before the application saw them.", "status"
)
limits_reached = _counter(
    "limits_reached_total", "Refusals by the limit that was reached.", "limit"
)
sign_ins = _counter(
    "sign_ins_total",
    "Sign-ins with a password, by outcome.",
    "outcome",
    known=("succeeded", "wrong_credentials", "too_many_requests", "overloaded"),
)
refreshes = _counter(
    "sessions_refreshed_total",
    "Exchanges of a refresh token, by outcome.",
    "outcome",
    known=("succeeded", "invalid_refresh_token"),
)
refresh_tokens_reused = _counter(
    "refresh_tokens_reused_total", "Sessions ended because a rotated refresh token came back."
)
security_events = _counter(
    "security_events_total",
    "Events in the journals of accounts, by type.",
    "type",
    known=("signed_in", "sign_in_refused", "code_refused"),
)
codes_sent = _counter("codes_sent_total", "Codes put into a mail.")
codes_checked = _counter(
    "codes_checked_total",
    "Codes that somebody entered, by outcome.",
    "outcome",
    known=("succeeded", "invalid_code", "code_used_up", "too_many_requests"),
)
mails = _counter(
    "mails_total",
    "Mails that left the queue, or found no room in it, by outcome.",
    "outcome",
    known=("sent", "refused", "expired", "outdated", "dropped"),
)
mail_failures = _counter("mail_failures_total", "Tries to send a mail that failed; more follow.")
mail_queue = Gauge(
    "mail_queue",
    "Mails that wait or are just being sent.",
    multiprocess_mode="livesum",
    registry=_own,
)
runs = _counter(
    "runs_total",
    "Runs of the agent that ended: finished, or the error's code.",
    "outcome",
    known=("finished",),
)
run_tokens = _counter(
    "run_tokens_total",
    "Tokens that runs used, as the model's server counts them.",
    "kind",
    known=("input", "output"),
)
purged_rows = _counter("purged_rows_total", "Rows deleted because they had run out.", "table")
database_pool_wait = Histogram(
    "database_pool_wait_seconds",
    "How long a thread waited for a connection to the database.",
    buckets=WAIT_BOUNDS,
    registry=_own,
)
password_hash_wait = Histogram(
    "password_hash_wait_seconds",
    "How long a password waited for its turn to be hashed.",
    buckets=WAIT_BOUNDS,
    registry=_own,
)


def count_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count an answered request; `route` is its rule, None for a path that has none."""
    counter, duration = _request_metrics(
        method if method in METHODS else "other", route or "none", status
    )
    counter.inc()
    duration.observe(seconds)


@cache
def _request_metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Those with these labels, which the library looks up under a lock each time."""
    return requests.labels(method, route, status), request_duration.labels(route)


def count_outcomes(counter: Counter) -> Callable[[Callable], Callable]:
    """Decorate a function: its calls are counted as `succeeded`, or with the failure's code."""

    def decorate(function: Callable) -> Callable:
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
                counter.labels(outcome).inc()
            return result

        return counted

    return decorate
