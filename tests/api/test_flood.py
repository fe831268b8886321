"""Strangers on many networks who try passwords at one account, and its owner among them."""

import pytest
from flask import Flask

from runtime.models.users import User
from runtime.services import purge
from runtime.services.accounts import credentials, erasures, users
from tests.conftest import PASSWORD, Outbox, Person
from tests.quick import quick_hash

NEW_NETWORK = "203.0.113.7"
OTHER_PASSWORD = "another horse entirely"


@pytest.fixture
def settings(settings: dict) -> dict:
    """A router stands in front, and says who asks."""
    return {**settings, "TRUSTED_PROXIES": "1"}


def sign_in(person: Person, network: str, email: str, password: str = PASSWORD, **more):
    body = {"email": email, "password": password, **more}
    return person.post("/auth/sessions", body, headers={"X-Forwarded-For": network})


def flood(stranger: Person, email: str) -> list[int]:
    """What strangers are told, each on a network of their own, until the account is shut to all."""
    statuses = []
    while 429 not in statuses:
        network = f"192.0.2.{len(statuses)}"
        statuses.append(sign_in(stranger, network, email, "not the password").status_code)
    return statuses


def test_a_device_that_has_signed_in_before_gets_in_through_a_flood(
    alice: Person, stranger: Person
):
    assert flood(stranger, alice.email) == [401] * 100 + [429]
    phone = stranger

    assert sign_in(phone, NEW_NETWORK, alice.email).status_code == 429
    token = {"refresh_token": alice.tokens["refresh_token"]}
    assert sign_in(phone, NEW_NETWORK, alice.email, **token).status_code == 200
    assert alice.refresh().status_code == 200, "the token that was shown is as good as before"


def test_so_it_does_on_a_network_that_is_flooded_too(alice: Person, stranger: Person):
    for number in range(300):
        sign_in(stranger, NEW_NETWORK, f"nobody{number}@example.org", "not the password")
    token = {"refresh_token": alice.tokens["refresh_token"]}

    assert sign_in(stranger, NEW_NETWORK, alice.email).status_code == 429
    assert sign_in(stranger, NEW_NETWORK, alice.email, **token).status_code == 200


@pytest.mark.parametrize("network_too", [False, True], ids=["account", "network too"])
def test_who_has_nothing_left_but_the_mailbox_recovers_through_a_flood(
    app: Flask, alice: Person, stranger: Person, outbox: Outbox, network_too: bool
):
    """With another device on another network, where strangers may be as well; they never rest."""
    owner = Person(app.test_client())
    flood(stranger, alice.email)
    for number in range(300 if network_too else 0):
        sign_in(stranger, NEW_NETWORK, f"nobody{number}@example.org", "not the password")

    def ask(path: str, **body: str):
        headers = {"X-Forwarded-For": NEW_NETWORK, "User-Agent": "Nokia3310/1.0"}
        for number in range(20):
            sign_in(stranger, f"192.0.3.{number}", alice.email, "not the password")
        return owner.post(path, {"email": alice.email, **body}, headers=headers)

    assert ask("/auth/sessions", password=PASSWORD).status_code == 429
    assert ask("/auth/recoveries").status_code == 202
    code = outbox.code(alice.email)
    answer = ask("/auth/recoveries/verify", token=code, password=OTHER_PASSWORD)

    assert answer.status_code == 200
    owner.tokens = answer.json
    assert owner.get("/users/me").json["username"] == "alice"
    token = {"refresh_token": answer.json["refresh_token"]}
    assert ask("/auth/sessions", password=OTHER_PASSWORD, **token).status_code == 200
    if not network_too:
        assert ask("/auth/sessions", password=OTHER_PASSWORD).status_code == 200


def test_a_token_of_a_session_that_has_ended_will_do(alice: Person, stranger: Person):
    token = {"refresh_token": alice.tokens["refresh_token"]}
    alice.refresh()
    alice.delete("/auth/sessions", token)
    flood(stranger, alice.email)

    assert sign_in(stranger, NEW_NETWORK, alice.email, **token).status_code == 200


def test_it_stands_in_for_no_password(alice: Person, stranger: Person):
    token = {"refresh_token": alice.tokens["refresh_token"]}

    assert sign_in(stranger, NEW_NETWORK, alice.email, "a guess", **token).status_code == 401


def test_whoever_stole_it_guesses_ten_times(alice: Person, stranger: Person):
    flood(stranger, alice.email)
    token = {"refresh_token": alice.tokens["refresh_token"]}
    networks = [f"198.18.0.{number}" for number in range(12)]
    guesses = [sign_in(stranger, each, alice.email, "a guess", **token) for each in networks]

    assert [guess.status_code for guess in guesses] == [401] * 10 + [429] * 2


def test_one_that_was_stolen_locks_no_other_device_out(alice: Person, stranger: Person):
    stolen = {"refresh_token": sign_in(alice, alice.network, alice.email).json["refresh_token"]}
    flood(stranger, alice.email)
    for _ in range(12):
        sign_in(stranger, NEW_NETWORK, alice.email, "a guess", **stolen)
    token = {"refresh_token": alice.tokens["refresh_token"]}

    assert sign_in(alice, "198.18.0.1", alice.email, **token).status_code == 200


def test_new_sessions_bring_no_endless_tries(alice: Person, stranger: Person):
    """Or one who has an account could have passwords hashed without end."""
    flood(stranger, alice.email)
    token, statuses = alice.tokens["refresh_token"], []
    while 429 not in statuses:
        answer = sign_in(stranger, NEW_NETWORK, alice.email, refresh_token=token)
        statuses.append(answer.status_code)
        token = answer.json.get("refresh_token", token)

    # From the first on the network is one that the account has signed in from.
    assert 30 < len(statuses) <= 331


def test_anybody_elses_token_is_worth_nothing(alice: Person, bob: Person, stranger: Person):
    flood(stranger, alice.email)

    for token in (bob.tokens["refresh_token"], alice.tokens["access_token"], "nonsense", "", None):
        answer = sign_in(stranger, NEW_NETWORK, alice.email, refresh_token=token)
        assert answer.status_code == 429, token


@pytest.mark.parametrize(
    "shut",
    [
        lambda user: credentials.replace_password(user, user.password_hash),
        lambda user: (users.disable(user), users.enable(user)),
    ],
    ids=["another password", "disabled"],
)
def test_it_is_worth_nothing_once_its_session_was_ended_for_its_owner(
    app: Flask, alice: Person, stranger: Person, shut
):
    """Signed out or not: a thief's tokens use up no tries of a device that signs in afterwards."""
    stolen = [alice.tokens["refresh_token"]]
    stolen += [sign_in(alice, alice.network, alice.email).json["refresh_token"] for _ in range(3)]
    alice.delete("/auth/sessions", {"refresh_token": stolen[-1]})
    with app.app_context():
        shut(User.get())
    known = {"refresh_token": sign_in(alice, "198.18.0.1", alice.email).json["refresh_token"]}
    flood(stranger, alice.email)
    for token in stolen:
        for host in range(12):
            network = f"198.18.1.{host}"
            guess = sign_in(stranger, network, alice.email, "a guess", refresh_token=token)
            assert guess.status_code == 429

    assert sign_in(stranger, NEW_NETWORK, alice.email, **known).status_code == 200


def test_it_is_worth_nothing_once_the_account_is_disabled_or_erased(
    app: Flask, alice: Person, stranger: Person
):
    flood(stranger, alice.email)
    token = {"refresh_token": alice.tokens["refresh_token"]}
    with app.app_context():
        users.disable(User.get())
    assert sign_in(stranger, NEW_NETWORK, alice.email, **token).status_code == 429

    with app.app_context():
        erasures.erase(User.get())
        user = users.create("alice", alice.email, PASSWORD)
        User.update(password_hash=quick_hash(PASSWORD)).where(User.id == user.id).execute()
    assert sign_in(stranger, NEW_NETWORK, alice.email, **token).status_code == 429


def test_it_is_worth_nothing_once_its_session_is_forgotten(
    app: Flask, alice: Person, stranger: Person, clock
):
    clock.advance(days=121)
    with app.app_context():
        assert purge.purge()["sessions"] == 1
    flood(stranger, alice.email)

    token = {"refresh_token": alice.tokens["refresh_token"]}
    assert sign_in(stranger, NEW_NETWORK, alice.email, **token).status_code == 429


def test_with_a_token_an_unknown_address_is_told_the_same(
    alice: Person, bob: Person, stranger: Person
):
    token = {"refresh_token": bob.tokens["refresh_token"]}

    def told(email: str) -> list[tuple[int, bytes]]:
        answers = [
            sign_in(stranger, f"198.18.{len(email)}.1", email, "a guess", **token)
            for _ in range(12)
        ]
        return [(answer.status_code, answer.data) for answer in answers]

    assert told("nobody@example.org") == told(alice.email)
