"""No answer, no limit and no time tells who has an account, for every kind of address.

Each is asked as often as the limits let it, and further; and the time of 400 requests is put to a
rank test.
"""

import math
import random
import time
from collections.abc import Callable

import pytest
from flask import Flask

from runtime import clock as runtime_clock
from runtime.caller import Caller
from runtime.limits.rates import RESENDS_PER_ADDRESS, limiter
from runtime.models.codes import SignUp
from runtime.models.users import User
from runtime.services.accounts import erasures, sessions, users
from tests.conftest import PASSWORD, Person
from tests.quick import quick_hash

REQUESTS = 400
P = 0.01


@pytest.fixture
def no_limits(settings: dict) -> None:
    """They would answer for most of the requests. Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


def sign_up(person: Person, email: str):
    body = {"username": f"u{random.getrandbits(64):x}", "email": email, "password": PASSWORD}
    return person.post("/auth/verifications", body)


def resend(person: Person, email: str):
    return person.post("/auth/verifications/resend", {"email": email})


def verify(person: Person, email: str):
    return person.post("/auth/verifications/verify", {"email": email, "token": "123456"})


def sign_in(person: Person, email: str):
    return person.post("/auth/sessions", {"email": email, "password": "not the password"})


def recover(person: Person, email: str):
    return person.post("/auth/recoveries", {"email": email})


def verify_recovery(person: Person, email: str):
    body = {"email": email, "token": "123456", "password": "another password"}
    return person.post("/auth/recoveries/verify", body)


def change_email(person: Person, email: str):
    body = {"email": email, "current_password": PASSWORD}
    return person.post("/users/me/email", body)


ASK = {
    sign_up: 202,
    resend: 204,
    verify: 401,
    sign_in: 401,
    recover: 202,
    verify_recovery: 401,
    change_email: 202,
}


def make_waiting(email: str) -> None:
    SignUp.create(
        email=email,
        username="waits",
        password_hash="-",
        network="192.0.2.1",
        code_hash="-",
        code_expires_at=runtime_clock.now(),
    )


def make_known(email: str) -> User:
    username = f"u{random.getrandbits(64):x}"
    word = quick_hash(PASSWORD)
    user = User.create(username=username, email=email, password_hash=word)
    sessions.start(user, Caller("192.0.2.1"))
    return user


KINDS = {
    "waiting": make_waiting,
    "known": make_known,
    "disabled": lambda email: users.disable(make_known(email)),
    "deleted": lambda email: erasures.erase(make_known(email)),
}


@pytest.fixture
def addresses(app: Flask) -> list[str]:
    """One of every kind, equally long; the first is unknown."""
    emails = [f"person{number}@example.org" for number in range(1 + len(KINDS))]
    with app.app_context():
        for make, email in zip(KINDS.values(), emails[1:], strict=True):
            make(email)
    return emails


def told(answer, email: str) -> tuple:
    """All that an answer says but for ids and times."""
    varies = ("X-Request-ID", "Retry-After")
    headers = [header if header[0] not in varies else header[0] for header in answer.headers]
    return answer.status_code, headers, answer.text.replace(email, "…")


# How many each limit lets through, from one network and from many; a session counts as one.
FROM_ONE = {
    sign_up: 4,
    resend: 1,
    verify: 3,
    sign_in: 10,
    recover: 8,
    verify_recovery: 3,
    change_email: 6,
}
FROM_MANY = FROM_ONE | {
    sign_up: 8,
    verify: 5,
    sign_in: 100,
    recover: 8,
    verify_recovery: 5,
    change_email: 8,
}


@pytest.mark.parametrize("places", [FROM_ONE, FROM_MANY], ids=["one network", "many"])
@pytest.mark.parametrize("ask", ASK, ids=lambda ask: ask.__name__)
def test_answers_and_limits_do_not_tell_an_address_from_an_unknown_one(
    app: Flask, member, ground, addresses: list[str], ask: Callable, places: dict
):
    """All are asked in turn, until the limits have answered twice."""
    rounds = places[ask] + 2
    assert rounds > 2 and len(addresses) > 1
    networks = [f"198.51.{number}.1" for number in range(max(rounds, len(addresses)))]
    people = [Person(app.test_client(), network) for network in networks]
    if ask is change_email:
        people = [member(f"asker{number}", network) for number, network in enumerate(networks)]

    for number in range(rounds):
        # Each address has an asker of its own, or each round one for all addresses.
        askers = people if places is FROM_ONE else [people[number]] * len(addresses)
        answers = [ask(asker, email) for asker, email in zip(askers, addresses, strict=False)]
        first, *others = [told(*each) for each in zip(answers, addresses, strict=True)]
        assert all(other == first for other in others)
        waits = [int(answer.headers.get("Retry-After", 0)) for answer in answers]
        assert max(waits) - min(waits) <= 1
        assert first[0] == (ASK[ask] if number < places[ask] else 429)


@pytest.mark.parametrize(("has_opened", "a_day"), [(False, 4), (True, 7)])
def test_the_resends_of_a_day_do_not_tell_either(
    app: Flask, addresses: list[str], has_opened: bool, a_day: int
):
    """Asked for a minute apart, by somebody with a sign-up of their own there, or without."""
    person = Person(app.test_client(), "198.51.100.1")
    assert len(addresses) > 1
    for email in addresses * has_opened:
        assert sign_up(person, email).status_code == 202

    def ask(email: str) -> tuple:
        with app.app_context():
            limiter.clear(RESENDS_PER_ADDRESS, email)
        return told(resend(person, email), email)

    for number in range(a_day + 2):
        first, *others = map(ask, addresses)
        assert all(other == first for other in others)
        assert first[0] == (204 if number < a_day else 429)


def p_value(some: list[float], others: list[float]) -> float:
    """Mann and Whitney's: how likely such ranks are if both are drawn from one distribution."""
    larger = sum((a > b) + (a == b) / 2 for a in some for b in others)
    m, n = len(some), len(others)
    deviation = math.sqrt(m * n * (m + n + 1) / 12)
    return math.erfc(abs(larger - m * n / 2) / deviation / math.sqrt(2))


def test_the_rank_test_finds_a_difference_and_nothing_else():
    draw = random.Random(7)
    some, others = ([draw.gauss(0, 1) for _ in range(200)] for _ in range(2))

    assert p_value(some, others) > P
    assert p_value(some, [each + 0.5 for each in others]) < P


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ask", ASK, ids=lambda ask: ask.__name__)
def test_time_does_not_tell_an_address_from_an_unknown_one(
    no_limits, app: Flask, alice: Person, ground, ask: Callable, kind: str
):
    """What is no chance is seen again: it takes two measurements, each of 400 requests."""
    values = []
    for attempt in range(2):
        values.append(measure(app, alice, ground, ask, kind, f"{kind}{attempt}"))
        print(ask.__name__, kind, values)
        if values[-1] > P:
            return
    raise AssertionError(f"{ask.__name__} tells {kind} addresses: p = {values}")


def measure(app: Flask, alice: Person, ground, ask: Callable, kind: str, name: str) -> float:
    pairs = [(f"{name}a{n:03}@example.org", f"{name}b{n:03}@example.org") for n in range(200)]
    with app.app_context():
        for email, _unknown in pairs:
            KINDS[kind](email)
    ground.settle()
    person = Person(app.test_client(), "203.0.113.66", tokens=alice.tokens)
    if ask is not change_email:
        person.tokens = {}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for email, unknown in pairs:
        for address in random.sample((email, unknown), 2):
            began = time.perf_counter()
            answer = ask(person, address)
            seconds[address == email].append(time.perf_counter() - began)
            assert answer.status_code == ASK[ask]
    assert sum(map(len, seconds.values())) == REQUESTS
    return p_value(seconds[True], seconds[False])
