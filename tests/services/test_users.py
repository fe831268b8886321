"""What operators do to accounts, and what happens to them in the middle of a request."""

from threading import Event, Thread

import pytest
from flask import Flask

from runtime.db import db, release
from runtime.errors import WrongCredentials
from runtime.models import Session, User
from runtime.services import sessions, users
from tests.conftest import PASSWORD, Person, at_once


def found(person: Person) -> User:
    return User.find_by_email(person.email)


def sign_in(person: Person, password: str = PASSWORD):
    return person.post("/auth/sessions", {"email": person.email, "password": password})


def test_a_disabled_account_is_refused_at_once_with_every_token(app: Flask, alice: Person):
    assert alice.get("/users/me").status_code == 200
    with app.app_context():
        assert users.disable(found(alice)) == 1

    answers = [alice.get("/users/me") for _ in range(10)]
    answers += [alice.get("/users/alice"), alice.patch("/users/me", {}), alice.chat("hello")]
    assert {answer.status_code for answer in answers} == {401}
    assert alice.refresh().status_code == 401


def test_signing_in_tells_a_disabled_account_nothing(
    app: Flask, alice: Person, bob: Person, quick, stranger: Person
):
    with app.app_context():
        users.disable(found(alice))
    alice.network = bob.network = stranger.network

    def told(answer) -> tuple:
        headers = [(name, value) for name, value in answer.headers if name != "X-Request-ID"]
        return answer.status_code, headers, answer.data

    right, wrong = told(sign_in(alice)), told(sign_in(bob, "not the password"))
    assert right == wrong


def test_the_right_password_of_a_disabled_account_counts_as_a_wrong_one(
    app: Flask, alice: Person, quick
):
    with app.app_context():
        users.disable(found(alice))

    assert [sign_in(alice).status_code for _ in range(11)] == [401] * 10 + [429]


def test_an_enabled_account_signs_in_again_and_keeps_its_sessions_ended(
    app: Flask, alice: Person, quick
):
    with app.app_context():
        users.disable(found(alice))
        users.enable(found(alice))

    assert alice.get("/users/me").status_code == 401
    assert alice.refresh().status_code == 401
    assert sign_in(alice).status_code == 200


def test_disabling_ends_nobody_elses_session(app: Flask, alice: Person, bob: Person):
    with app.app_context():
        users.disable(found(alice))

    assert bob.get("/users/me").status_code == 200


def test_no_session_is_started_on_an_account_disabled_meanwhile(app: Flask, alice: Person):
    """The password was looked at before, the session comes after."""
    with app.app_context():
        user = found(alice)
        users.disable(user)

        with pytest.raises(WrongCredentials):
            sessions.start(user, alice.network)
        assert Session.select().where(Session.ended_at.is_null()).count() == 0


def test_no_session_is_started_on_an_account_deleted_meanwhile(app: Flask, alice: Person):
    with app.app_context():
        user = found(alice)
        User.delete().execute()

        with pytest.raises(WrongCredentials):
            sessions.start(user, alice.network)


def test_whoever_disables_waits_for_a_sign_in_that_is_under_way(app: Flask, alice: Person):
    """It has noted the sign-in, and its session is not there yet."""
    is_noted, may_go_on = Event(), Event()

    def start() -> None:
        with app.app_context(), db.atomic():
            sessions._note_sign_in(user)
            is_noted.set()
            may_go_on.wait(5)
            Session.begin(user, alice.network)

    def disable() -> None:
        with app.app_context():
            users.disable(user)

    with app.app_context():
        user = found(alice)
        release()
    threads = [Thread(target=start), Thread(target=disable)]
    threads[0].start()
    is_noted.wait(5)
    threads[1].start()
    threads[1].join(0.3)
    may_go_on.set()
    for thread in threads:
        thread.join()

    with app.app_context():
        assert Session.select().where(Session.ended_at.is_null()).count() == 0


def test_of_sign_ins_and_a_disabling_at_once_no_session_is_left(app: Flask, member):
    def call(function, *arguments):
        with app.app_context():
            try:
                return function(*arguments)
            except WrongCredentials:
                return None

    for number in range(10):
        person = member(f"person{number}")
        with app.app_context():
            user = found(person)
            release()
        starts = [lambda u=user: call(sessions.start, u, "192.0.2.1")] * 5
        at_once(*starts, lambda u=user: call(users.disable, u))

    with app.app_context():
        assert Session.select().where(Session.ended_at.is_null()).count() == 0
