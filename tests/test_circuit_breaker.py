"""A server that is away is left alone until it answers."""

import threading

import pytest

from runtime.circuit_breaker import CircuitBreaker
from tests.servers import wait_until


def test_a_server_that_failed_is_away_until_it_answers():
    answers = iter([ConnectionError, None])

    def ask():
        if (failure := next(answers)) is not None:
            raise failure

    breaker = CircuitBreaker("server", ask)
    breaker.trip("it failed")

    assert breaker.is_open
    wait_until(lambda: not breaker.is_open, 10, "it is back")
    assert list(answers) == []


def test_with_no_thread_to_ask_it_the_next_request_tries_again(monkeypatch: pytest.MonkeyPatch):
    def none_left(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    breaker = CircuitBreaker("server", lambda: None)
    breaker.trip("it failed")

    assert not breaker.is_open
