"""The strongest guesser we can think of, at the codes of recoveries."""

import pytest
from flask import Flask

from runtime.errors import InvalidCode, TooManyRequests
from runtime.services import recoveries
from tests.conftest import Person
from tests.quick import QuickPasswords
from tests.services.test_verifications import CountingTokens, most_in_a_day

OWNER = "198.51.100.10"


@pytest.fixture
def settings(settings: dict) -> dict:
    """Nothing here may rest on the limits, which can be lifted."""
    return {**settings, "RATE_LIMITS": "off"}


@pytest.fixture
def counting(app: Flask, quick) -> CountingTokens:
    app.extensions["passwords"] = QuickPasswords()
    app.extensions["tokens"] = CountingTokens([app.config["SECRET_KEY"]])
    return app.extensions["tokens"]


def begin(email: str, network: str) -> None:
    recoveries.begin(email=email, redirect_to=None, network=network, language="en")


def is_compared(email: str, network: str) -> bool:
    """Guess once; False when it was refused without a look."""
    guess = {"code": "000000", "password": "another password"}
    try:
        recoveries.verify(email=email, network=network, **guess)
    except InvalidCode:
        return True
    except TooManyRequests:
        return False
    raise AssertionError("guessed: one in a million")


def test_guessing_without_rest_is_bounded(app: Flask, counting, alice: Person, clock):
    """Two days of it: recoveries from ever new networks, several each, and all tries there are."""
    with app.app_context():
        networks = 0
        for step in range(2 * 24):
            refused = False
            while not refused:
                networks += 1
                network = f"10.{networks >> 16}.{networks >> 8 & 255}.{networks & 255}"
                for _ in range(1 + networks % 3):
                    begin(alice.email, network)
                refused = not is_compared(alice.email, network)
                while is_compared(alice.email, network):
                    pass
            while is_compared(alice.email, f"192.0.2.{step}"):
                pass
            clock.advance(hours=1)

    instants = [instant for instant, _ in counting.compared]
    assert 60 < most_in_a_day(instants) < 100


def test_who_asks_for_codes_again_and_again_gets_no_more_tries(app, counting, alice, clock):
    """One network, and a new code for every try, a day and a half."""
    with app.app_context():
        for _ in range(36):
            begin(alice.email, OWNER)
            while is_compared(alice.email, OWNER):
                pass
            clock.advance(hours=1)

    # Its own pool in a day, and then everybody's, with two codes each.
    instants = [instant for instant, _ in counting.compared]
    assert most_in_a_day(instants) <= (10 + 16) + 2 * (5 + 4)
