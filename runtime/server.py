"""gunicorn's settings: `gunicorn -c python:runtime.server wsgi:app`."""

import os
import resource
import sys

from runtime import worker
from runtime.config import ConfigError, load


def connections_for(threads: int) -> int:
    """How many clients a worker holds: far more than it has threads, for most are idle.

    Half of the files a process may open at most; the database and the model need some too.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = threads + 1000
    return wanted if files == resource.RLIM_INFINITY else min(wanted, files // 2)


def when_ready(server):
    port = server.LISTENERS[0].getsockname()[1]
    server.log.info("Everything is explained at http://127.0.0.1:%d/api/v1/docs", port)


def worker_exit(server, stopping):
    """Send the mail that is queued. gunicorn calls it after SIGTERM and after Ctrl-C alike."""
    mail = getattr(getattr(stopping, "wsgi", None), "extensions", {}).get("mail")
    if mail:
        mail.drain(worker.DRAIN_SECONDS)


try:
    settings = load(os.environ)
except ConfigError as error:
    sys.exit(str(error))

worker_class = worker.Worker
workers = settings["WEB_CONCURRENCY"]
threads = settings["WEB_THREADS"]
worker_connections = connections_for(threads)

# IPv4 alone: on a socket for both, every IPv4 client's address would read ::ffff:192.0.2.1.
bind = f"0.0.0.0:{settings['PORT']}"

# Longer than any router keeps an idle connection (nginx 60 s, Heroku 90 s), so that it is the
# router who closes and none of its requests meets a closed connection.
keepalive = 95
graceful_timeout = worker.STOP_SECONDS

# Each worker loads the application itself: a database connection or a thread that is there
# before the fork would be shared or lost after it.
preload_app = False

# No recycling: a worker that retires accepts nothing until its longest request is over, and
# with one worker, the default, nobody else does.
max_requests = 0

# The socket is one file in the home directory, shared by whatever else runs there.
control_socket_disable = True

# With SO_REUSEPORT the connections that wait for a worker are reset when it stops.
reuse_port = False

# sendfile() would wait past SO_SNDTIMEO for a client that does not read.
sendfile = False

# X-Forwarded-* is the application's, by TRUSTED_PROXIES; by default gunicorn believes it, and
# a SCRIPT_NAME header, from this machine.
forwarded_allow_ips = ""
secure_scheme_headers = {}
forwarder_headers = ""

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

accesslog = None  # the application writes a line for each request itself
errorlog = "-"
