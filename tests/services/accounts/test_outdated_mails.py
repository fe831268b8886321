"""Codes that are asked for at once: the mails come in any order, and none has a stale code."""

from collections.abc import Callable, Iterator
from email.message import EmailMessage

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.models.codes import SignUp
from runtime.services.accounts import email_changes, recoveries, verifications
from runtime.services.accounts.sessions import authenticate
from tests.conftest import PASSWORD, Outbox, Person
from tests.smtp_server import wait_until

NEW = "new@example.org"
NETWORK = "203.0.113.66"

pytestmark = pytest.mark.in_process("its mail server is away because the test says so")


class Away:
    """A transport that fails until it is back."""

    def __init__(self, transport):
        self._transport = transport
        self.is_back = False
        self.tried = 0

    def deliver(self, message: EmailMessage, name: str) -> None:
        self.tried += 1
        if not self.is_back:
            raise OSError
        self._transport.deliver(message, name)


@pytest.fixture
def away(app: Flask) -> Iterator[Away]:
    with app.app_context():
        mail = app.extensions["mail"]
        mail._first_delay_seconds = mail._longest_delay_seconds = 0.05
        mail._pause_seconds = 0
        mail._transport = Away(mail._transport)
        yield mail._transport


def sign_up(alice: Person) -> str:
    verifications.begin(
        username="newcomer", email=NEW, password=PASSWORD, redirect_to=None, caller=Caller(NETWORK)
    )
    return NEW


def recover(alice: Person) -> str:
    recoveries.begin(email=alice.email, redirect_to=None, caller=Caller(NETWORK))
    return alice.email


def change_address(alice: Person) -> str:
    session = authenticate(alice.tokens["access_token"])
    email_changes.begin(
        session, email=NEW, current_password=PASSWORD, redirect_to=None, caller=Caller(NETWORK)
    )
    return NEW


def is_told_that_an_account_exists(alice: Person) -> str:
    verifications.begin(
        username="newcomer",
        email=alice.email,
        password=PASSWORD,
        redirect_to=None,
        caller=Caller(NETWORK),
    )
    return alice.email


@pytest.mark.parametrize("ask", [sign_up, recover, change_address, is_told_that_an_account_exists])
def test_of_mails_that_wait_for_the_server_the_last_alone_is_sent(
    app: Flask, alice: Person, outbox: Outbox, away: Away, ask: Callable[[Person], str]
):
    before = {address: len(outbox.texts(address)) for address in (alice.email, NEW)}
    for _ in range(4):
        tried = away.tried
        email = ask(alice)
        assert wait_until(lambda tried=tried: away.tried > tried)
    away.is_back = True

    assert len(outbox.texts(email)) == before[email] + 1


def test_a_code_that_was_used_is_mailed_no_more(
    app: Flask, alice: Person, outbox: Outbox, away: Away
):
    sign_up(alice)
    assert wait_until(lambda: away.tried)
    SignUp.void(SignUp.email == NEW)
    away.is_back = True

    assert outbox.texts(NEW) == []
