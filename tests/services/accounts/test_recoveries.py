"""The strongest guesser we can think of, at the codes of recoveries."""

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.errors import CodeUsedUp, InvalidCode, TooManyRequests
from runtime.models.codes import Recovery
from runtime.services.accounts import codes, recoveries
from tests.conftest import Outbox, Person
from tests.quick import QuickPasswords
from tests.services.accounts.test_verifications import CountingTokens, most_in_a_day

OWNER = "198.51.100.10"


@pytest.fixture
def settings(settings: dict) -> dict:
    """Nothing here may rest on the limits, which can be lifted."""
    return {**settings, "RATE_LIMITS": "off"}


@pytest.fixture
def counting(app: Flask) -> CountingTokens:
    app.extensions["passwords"] = QuickPasswords()
    app.extensions["tokens"] = CountingTokens([app.config["SECRET_KEY"]])
    return app.extensions["tokens"]


def begin(email: str, network: str) -> None:
    recoveries.begin(email=email, redirect_to=None, caller=Caller(network, language="en"))


def is_compared(email: str, network: str) -> bool:
    """Guess once; False when no further guess will be looked at."""
    guess = {"code": "000000", "password": "another password"}
    try:
        recoveries.verify(email=email, caller=Caller(network), **guess)
    except (CodeUsedUp, TooManyRequests):
        return False
    except InvalidCode:
        return True
    raise AssertionError("guessed: one in a million")


def test_guessing_without_rest_is_bounded(app: Flask, counting, alice: Person, clock):
    """Two days of it: recoveries from ever new networks, the account's own too, several each."""
    with app.app_context():
        for step in range(2 * 12):
            networks = [f"10.0.{step}.{number}" for number in range(3)] + [alice.network]
            for network in networks:
                for _ in range(2):
                    begin(alice.email, network)
                    while is_compared(alice.email, network):
                        pass
            for elsewhere in (f"192.0.2.{step}", f"192.0.3.{step}"):
                while is_compared(alice.email, elsewhere):
                    pass
            clock.advance(hours=2)

    instants = [instant for instant, _ in counting.compared]
    assert (11 + 3) * 5 <= most_in_a_day(instants) <= (11 + 3) * 5 + 14


def test_who_asks_for_codes_again_and_again_gets_no_more_tries(app, counting, alice, clock):
    """One network, and a new code for every try, a day and a half."""
    with app.app_context():
        for _ in range(36):
            begin(alice.email, OWNER)
            while is_compared(alice.email, OWNER):
                pass
            clock.advance(hours=1)

    instants = [instant for instant, _ in counting.compared]
    assert most_in_a_day(instants) <= 4 * 5


def test_a_code_that_was_replaced_before_its_mail_is_made_is_not_mailed(
    app: Flask, alice: Person, outbox: Outbox
):
    """Mails of one moment arrive in any order: the last must not have a code from before."""
    with app.app_context():
        begin(alice.email, OWNER)
        replaced = Recovery.get()
        code = codes.renew(replaced)
        recoveries._mail_code(replaced, code, Caller(OWNER))

    assert len(outbox.texts(alice.email)) == 1
    assert outbox.code(alice.email) != code
