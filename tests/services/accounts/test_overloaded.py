"""A server that has no place for one more hash: it refuses at once, and that costs no try."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.errors import Overloaded, TooManyRequests, WrongCredentials, WrongPassword
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import credentials, recoveries, sign_ins
from tests.conftest import PASSWORD, Outbox, Person
from tests.quick import QuickPasswords

NETWORK = "203.0.113.66"
ELSEWHERE = "198.51.100.7"

pytestmark = pytest.mark.in_process("its passwords are busy because the test says so")


@pytest.fixture
def passwords(app: Flask) -> QuickPasswords:
    """One place, and nobody waits."""
    app.extensions["passwords"] = QuickPasswords(1, 0)
    return app.extensions["passwords"]


@pytest.fixture
def session(app: Flask, alice: Person, passwords) -> Iterator[Session]:
    with app.app_context():
        yield Session.find_live(Session.get().id)


@contextmanager
def busy(passwords: QuickPasswords) -> Iterator[None]:
    """Somebody else's hash goes on for as long as the block."""
    has_begun, may_end = Event(), Event()

    def work() -> None:
        has_begun.set()
        may_end.wait()

    thread = Thread(target=passwords._queue.run, args=("192.0.2.1", work))
    thread.start()
    has_begun.wait()
    try:
        yield
    finally:
        may_end.set()
        thread.join()


def refused(ask: Callable, error: type[Exception], times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(error) as raised:
            ask()
        assert raised.type is error


def test_a_sign_in_that_found_no_place_costs_no_try(session: Session, passwords):
    def sign_in(password=PASSWORD, **more):
        return sign_ins.sign_in(session.user.email, password, caller=Caller(NETWORK), **more)

    with busy(passwords):
        refused(sign_in, Overloaded, 20)
    refused(lambda: sign_in("not the password"), WrongCredentials, 10)
    with busy(passwords):
        refused(sign_in, TooManyRequests, 20)


def test_a_known_device_that_found_no_place_has_its_tries_too(alice, session: Session, passwords):
    def sign_in(password=PASSWORD, token=alice.tokens["refresh_token"]):
        return sign_ins.sign_in(
            session.user.email, password, caller=Caller(NETWORK), refresh_token=token
        )

    with busy(passwords):
        refused(sign_in, Overloaded, 20)
    # Ten as a known device, and then ten as anybody.
    refused(lambda: sign_in("not the password"), WrongCredentials, 20)
    refused(sign_in, TooManyRequests)


def test_a_current_password_that_found_no_place_costs_no_try(session: Session, passwords):
    def demand(password=PASSWORD):
        credentials.demand_password(session, password, Caller(NETWORK))

    with busy(passwords):
        refused(demand, Overloaded, 20)
    refused(lambda: demand("not the password"), WrongPassword, 10)
    refused(demand, TooManyRequests)


@pytest.mark.parametrize("network", [NETWORK, ELSEWHERE])
def test_a_right_code_that_found_no_place_costs_no_try(
    session: Session, passwords, outbox: Outbox, network: str
):
    email = session.user.email
    recoveries.begin(email=email, redirect_to=None, caller=Caller(NETWORK))

    def recover():
        code, caller = outbox.code(email), Caller(network)
        return recoveries.verify(email=email, code=code, password="set anew", caller=caller)

    with busy(passwords):
        refused(recover, Overloaded, 12)

    assert recover().user.id == User.get().id
