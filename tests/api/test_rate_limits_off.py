"""RATE_LIMITS=off, for load tests: what it lifts, and what it does not."""

from uuid import uuid4

import pytest
from flask import Flask
from limits import RateLimitItem

from runtime.errors import TooManyRequests
from runtime.limits import rates
from runtime.limits.rates import limiter
from runtime.services.chats.agent import RUNS_AT_ONCE
from tests.conftest import PASSWORD, Outbox, Person

LIMITS = [name for name, value in vars(rates).items() if isinstance(value, RateLimitItem)]


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    return {**settings, "RATE_LIMITS": "off"}


@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_counts(app: Flask, name: str):
    limit = getattr(rates, name)
    with app.app_context():
        for _ in range(limit.amount + 1):
            limiter.spend(limit, "ada")
        limiter.check(limit, "ada")


def test_a_code_is_mailed_again_at_once(stranger: Person, outbox: Outbox):
    stranger.post(
        "/auth/verifications",
        {"username": "ada", "email": "ada@example.org", "password": PASSWORD},
    )
    again = [
        stranger.post("/auth/verifications/resend", {"email": "ada@example.org"}) for _ in range(6)
    ]

    assert [answer.status_code for answer in again] == [204] * 6
    assert len(outbox.texts("ada@example.org")) == 7


def test_wrong_passwords_shut_nobody_out(alice: Person, stranger: Person):
    wrong = {"email": alice.email, "password": "wrong horse"}

    assert {stranger.post("/auth/sessions", wrong).status_code for _ in range(12)} == {401}


def test_one_exports_as_often_as_one_likes(alice: Person):
    assert {alice.get("/users/me/export").status_code for _ in range(7)} == {200}


@pytest.mark.in_process("counts what one process holds")
@pytest.mark.parametrize(
    ("name", "total"), [("places", RUNS_AT_ONCE), ("streams", RUNS_AT_ONCE), ("seats", 48)]
)
def test_one_user_may_have_all_the_room_of_a_process_and_no_more(app: Flask, name: str, total: int):
    places, load_test = getattr(app.extensions["agent"], name), uuid4()
    for _ in range(total):
        places.take(load_test)
    with pytest.raises(TooManyRequests):
        places.take(uuid4())


def test_wrong_codes_stay_bounded(stranger: Person):
    body = {"email": "nobody@example.org", "token": "000000"}
    tried = [stranger.post("/auth/verifications/verify", body).status_code for _ in range(7)]

    # One network's part of what all may try from elsewhere.
    assert tried == [401] * 3 + [429] * 4
