"""What we override of gunicorn, and use of its insides: an upgrade that changes it is seen here."""

import inspect

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

from runtime.gunicorn.connection import Connection, close_at_once
from runtime.gunicorn.method_queue import MethodQueue
from runtime.gunicorn.worker import Worker

OVERRIDDEN = {
    ThreadWorker: {
        "__init__",
        "_cap_keepalive",
        "_keepalive_after",
        "accept",
        "finish_request",
        "handle",
        "handle_error",
        "handle_request",
        "init_process",
        "load_wsgi",
        "murder_pending",
        "on_client_socket_readable",
        "on_pending_socket_readable",
        "run",
        "set_accept_enabled",
        "wait_for_and_dispatch_events",
    },
    TConn: {"__init__", "init"},
    PollableMethodQueue: {"close"},
}
OURS = {ThreadWorker: Worker, TConn: Connection, PollableMethodQueue: MethodQueue}
# Called or read by name, not overridden; those of `__init__` are found on a worker that is made.
USED = {
    "_accepting",
    "alive",
    "cfg",
    "keepalived_conns",
    "pending_conns",
    "poller",
    "sockets",
    "worker_connections",
    "wsgi",
}


@pytest.mark.parametrize("theirs", OURS)
def test_no_more_is_overridden_than_is_listed(theirs: type):
    written = {
        name
        for kind in OURS[theirs].__mro__
        if kind.__module__.startswith("runtime.")
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and hasattr(theirs, name)
    }
    assert written == OVERRIDDEN[theirs]


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        (theirs, name)
        for theirs, names in OVERRIDDEN.items()
        for name in sorted(names - {"__init__"})
    ],
)
def test_what_is_overridden_is_called_the_same_way(theirs: type, name: str):
    ours, its = getattr(OURS[theirs], name), getattr(theirs, name)
    assert len(inspect.signature(ours).parameters) == len(inspect.signature(its).parameters)


def test_what_is_used_of_a_worker_is_still_there():
    source = inspect.getsource(ThreadWorker) + inspect.getsource(ThreadWorker.__mro__[1])
    assert not {name for name in USED if f"self.{name}" not in source}


def test_the_loop_still_calls_what_it_is_overridden_for():
    source = inspect.getsource(ThreadWorker)
    for name in ("_cap_keepalive", "_keepalive_after", "murder_pending", "set_accept_enabled"):
        assert f"self.{name}(" in source.replace(f"def {name}(", "")


def test_a_request_still_says_that_its_client_waits_for_100_continue():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    parser = get_parser(Config(), iter([head]), ("127.0.0.1", 1))
    assert next(parser)._expected_100_continue


def test_connections_are_closed_by_ours():
    assert util.close_graceful is close_at_once
