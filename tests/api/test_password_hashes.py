"""Hashes of other systems, and the places for hashing, as HTTP meets them."""

import threading

import pytest
from flask import Flask

from runtime.models.users import User
from runtime.security.passwords import Passwords
from tests.conftest import PASSWORD, Outbox, Person
from tests.servers import wait_until

FOREIGN = [
    "",
    "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
    "pbkdf2_sha256$600000$salt$5TTcjPRVJYxq6wcKNKOhbDCI5RHIwkGFYsTtLfTSnXg=",
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWA",
    "scrypt:3:8:1$salt$00",
    "\u0663$\u0663$\u0663",
]


@pytest.fixture(params=FOREIGN)
def imported(request, app: Flask, alice: Person) -> Person:
    """Alice, whose hash was made by another system."""
    with app.app_context():
        User.update(password_hash=request.param).execute()
    return alice


def sign_in(person: Person, password: str = PASSWORD):
    return person.post("/auth/sessions", {"email": "alice@example.org", "password": password})


def test_a_hash_of_another_system_is_a_wrong_password(imported: Person, stranger: Person):
    answer = sign_in(stranger)

    assert (answer.status_code, answer.json["detail"]) == (401, "邮箱或密码错误")


def test_a_hash_of_another_system_is_no_current_password(imported: Person):
    asked = [
        imported.request(
            "PUT",
            "/users/me/password",
            json={"current_password": PASSWORD, "password": "a new one"},
        ),
        imported.post(
            "/users/me/email", {"email": "new@example.org", "current_password": PASSWORD}
        ),
        imported.delete("/users/me", {"current_password": PASSWORD}),
    ]

    for answer in asked:
        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "#/current_password"


def test_an_account_with_a_hash_of_another_system_can_be_recovered(
    imported: Person, stranger: Person, outbox: Outbox
):
    stranger.post("/auth/recoveries", {"email": imported.email})
    body = {"email": imported.email, "token": outbox.code(imported.email), "password": "a new one"}

    assert stranger.post("/auth/recoveries/verify", body).status_code == 200
    assert sign_in(stranger, "a new one").status_code == 200


class HeldPasswords(Passwords):
    """Hashes nothing until it is told to go on."""

    def __init__(self):
        super().__init__(2)
        self.go_on = threading.Event()

    def _run(self, network: str, function, *arguments):
        def held(*arguments):
            self.go_on.wait(30)
            return function(*arguments)

        return super()._run(network, held, *arguments)


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


@pytest.mark.in_process("its passwords wait until the test says so")
def test_a_network_that_floods_the_hashes_leaves_the_others_their_places(
    no_limits, app: Flask, alice: Person
):
    app.extensions["passwords"] = passwords = HeldPasswords()
    answers = {"flood": [], "others": []}

    def ask(who: str, network: str) -> threading.Thread:
        person = Person(app.test_client(), network)
        thread = threading.Thread(target=lambda: answers[who].append(sign_in(person, "pässword")))
        thread.start()
        return thread

    threads = [ask("flood", "203.0.113.66") for _ in range(24)]
    try:
        wait_until(lambda: len(answers["flood"]) == 6, 10, "the flood has every place")
        threads += [ask("others", f"192.0.2.{number}") for number in range(12)]
        wait_until(lambda: len(answers["flood"]) == 18, 10, "the others have places")
    finally:
        passwords.go_on.set()
        for thread in threads:
            thread.join()

    assert [answer.status_code for answer in answers["others"]] == [401] * 12
    assert [answer.status_code for answer in answers["flood"][:18]] == [429] * 18
