"""gunicorn's settings: `gunicorn -c python:runtime.server wsgi:app`."""

import gc
import itertools
import logging
import os
import resource
import sys

from runtime.config.load import load
from runtime.config.misspelt import misspelt
from runtime.config.settings import ConfigError
from runtime.gunicorn import metrics_folder

# Until the service is loaded: next to nothing of that is garbage, and the collector would look
# through all of it again and again, a tenth of the time that a start takes.
gc.disable()

try:
    settings = load(os.environ)
except ConfigError as error:
    sys.exit(str(error))

metrics_refusal = None
if settings["METRICS_TOKEN"]:
    metrics_refusal = metrics_folder.make(settings["INSTANCE_PATH"], settings["WEB_CONCURRENCY"])

# Only now, since prometheus-client looks for the folder when it is imported.
from runtime import logs, metrics  # noqa: E402
from runtime.database.start import demand_database  # noqa: E402
from runtime.gunicorn import bounds, refusals, worker  # noqa: E402
from runtime.gunicorn.port import demand_port  # noqa: E402


def connections_for(threads: int) -> int:
    """How many clients a worker holds: far more than it has threads, for most are idle.

    Half of the files a process may open at most; the database and the model need some too.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = threads + 1000
    return wanted if files == resource.RLIM_INFINITY else min(wanted, files // 2)


def on_starting(server):
    """Stop at what would keep the service from working. gunicorn calls it before it listens."""
    try:
        demand_port(os.environ, settings["PORT"])
        away = settings["DATABASE_URL"] and demand_database(settings["DATABASE_URL"])
    except ConfigError as error:
        sys.exit(str(error))
    if away:
        # psycopg leaves the connection that it gave up open, in a cycle, for the workers to share.
        gc.collect()
        server.log.warning("DATABASE_URL cannot be reached, 503 until it can: %s", away)
    for name, meant in misspelt(os.environ):
        server.log.warning("%s is no setting: is %s meant?", name, meant)


def when_ready(server):
    """Say where to look. gunicorn calls it once, before the first worker is forked."""
    extensions = getattr(server.app.wsgi(), "extensions", {})
    if api := extensions.get("api"):
        api.write()  # once, for all workers
    # What is there now stays for ever: a collection that looked through it would write to every
    # page that the workers share.
    gc.freeze()
    gc.enable()
    port = server.LISTENERS[0].getsockname()[1]
    server.log.info("Everything is explained at http://127.0.0.1:%d/api/v1/docs", port)
    if settings["PAGE"]:
        server.log.info("Open http://127.0.0.1:%d/ to try it in a browser", port)
    if agent := extensions.get("agent"):
        server.log.info("Chats are answered by %s", agent.provider.name)
    if settings["DATABASE_URL"] and not settings["SMTP_URL"]:
        server.log.warning("SMTP_URL is not set: mail goes to a folder, and to nobody")
    if workers > 1 and not settings["REDIS_URL"]:
        server.log.warning("REDIS_URL is not set: limits hold for each worker, not for all")
    if metrics_refusal:
        logs.event("metrics_not_shared", level=logging.WARNING, error=metrics_refusal)


def pre_fork(server, starting):
    """Give the worker the first number that none of the others has.

    Its metrics stand there, and how many connections it has.
    """
    taken = {each.place for each in server.WORKERS.values()}
    starting.place = next(place for place in itertools.count() if place not in taken)
    metrics_folder.reserve(starting.place)
    starting.connection_counts.put(starting.place, 0)


def post_fork(server, starting):
    """Count at the worker's place. gunicorn calls it in the worker, before all else."""
    metrics.count_at(starting.place)


def post_worker_init(begun):
    """Start what works beside the requests. gunicorn calls it in the worker, the service loaded."""
    if purger := begun.extensions.get("purger"):
        purger.start()


def child_exit(server, gone):
    """Forget what a worker held. gunicorn calls it in the master, however the worker ended."""
    metrics_folder.forget_gauges(gone.place)
    gone.connection_counts.leave(gone.place)


def on_exit(server):
    """Leave no files. gunicorn calls it in the master, when its workers are gone."""
    metrics_folder.delete()


def worker_exit(server, stopping):
    """End what runs, record and send what waits.

    gunicorn calls it after SIGTERM, when runs have had their time, and after Ctrl-C alike.
    """
    extensions = stopping.extensions
    if "agent" in extensions and stopping.interrupts_at is None:
        extensions["agent"].journal.interrupt(bounds.QUIT_SECONDS)
    if "refusals" in extensions:
        extensions["refusals"].flush()
    if "mail" in extensions:
        extensions["mail"].drain(bounds.DRAIN_SECONDS)


refusals.readers[:] = settings["CORS_ORIGINS"]
worker_class = worker.Worker
workers = settings["WEB_CONCURRENCY"]
threads = settings["WEB_THREADS"]
worker_connections = connections_for(threads)

# IPv4 alone: on a socket for both, every IPv4 client's address would read ::ffff:192.0.2.1.
bind = f"0.0.0.0:{settings['PORT']}"

# Longer than any router keeps an idle connection (nginx 60 s, Heroku 90 s), so that it is the
# router who closes and none of its requests meets a closed connection.
keepalive = 95
graceful_timeout = bounds.STOP_SECONDS

# Loaded once and shared by the workers: two of them take 85 MB instead of 117, and a worker that
# died is there again in milliseconds. The application opens connections and threads at their first
# use: before the fork they would be shared or lost.
preload_app = True

# No recycling: it would cut runs short, which may take minutes. gunicorn forks the next worker only
# when the old one is gone, and ends a worker that a run still holds `graceful_timeout` and
# `timeout` later, 50 s in all; with one worker, the default, nothing is served until then.
max_requests = 0

# The socket is one file in the home directory, shared with other services there.
control_socket_disable = True

# With SO_REUSEPORT the connections that wait for a worker are reset when it stops.
reuse_port = False

# sendfile() would wait past SO_SNDTIMEO for a client that does not read.
sendfile = False

# X-Forwarded-* is the application's, by TRUSTED_PROXIES; by default gunicorn believes it, and
# a SCRIPT_NAME header, from this machine.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

accesslog = None  # the application writes a line for each request itself
errorlog = "-"
