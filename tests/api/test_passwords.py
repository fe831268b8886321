"""/users/me/password"""

import pytest
from flask import Flask

from runtime.models import Session, User
from runtime.services import sessions, users
from tests.conftest import PASSWORD, Outbox, Person, at_once

NEW = "another horse entirely"


def change(person: Person, password=NEW, current=PASSWORD):
    body = {"current_password": current, "password": password}
    return person.request("PUT", "/users/me/password", json=body)


def sign_in(person: Person, password: str):
    person.tokens = {}
    return person.post("/auth/sessions", {"email": "alice@example.org", "password": password})


def elsewhere(app: Flask, network="192.0.2.30") -> Person:
    return Person(app.test_client(), network, "alice@example.org")


def test_a_password_can_be_changed(app: Flask, quick, alice: Person):
    answer = change(alice)

    assert (answer.status_code, answer.data) == (204, b"")
    assert sign_in(elsewhere(app), PASSWORD).status_code == 401
    assert sign_in(elsewhere(app), NEW).status_code == 200


def test_this_session_goes_on_and_all_others_end(app: Flask, quick, alice: Person, bob: Person):
    other = elsewhere(app)
    other.tokens = sign_in(other, PASSWORD).json
    change(alice)

    assert other.get("/users/me").status_code == 401
    assert other.refresh().status_code == 401
    assert alice.get("/users/me").status_code == 200
    assert alice.refresh().status_code == 200
    assert bob.get("/users/me").status_code == 200


def test_the_owner_is_told_and_reads_of_it(quick, alice: Person, outbox: Outbox):
    change(alice)

    [notice] = outbox.texts(alice.email)
    assert "设置了新密码" in notice
    assert alice.network in notice
    [event, *_] = alice.get("/users/me/events").json["events"]
    assert (event["type"], event["network"]) == ("password_changed", alice.network)


def test_a_wrong_password_changes_nothing_and_signs_nobody_out(app, quick, alice, outbox: Outbox):
    answer = change(alice, current="not the password")

    assert answer.status_code == 422
    [error] = answer.json["errors"]
    assert (error["pointer"], error["detail"]) == ("#/current_password", "当前密码错误")
    assert alice.get("/users/me").status_code == 200
    assert sign_in(elsewhere(app), PASSWORD).status_code == 200
    assert outbox.texts(alice.email)[:-1] == []  # but of the sign-in


def test_stolen_tokens_guess_no_password(app: Flask, quick, alice: Person):
    thieves = [Person(alice.client, f"192.0.2.{n}", tokens=alice.tokens) for n in range(12)]

    statuses = [change(thief, current="a guess").status_code for thief in thieves]

    assert statuses == [422] * 10 + [429] * 2
    assert sign_in(elsewhere(app), PASSWORD).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"password": "12345"}, "#/password"),
        ({"password": "x" * 129}, "#/password"),
        ({"current_password": None}, "#/current_password"),
        ({"email": "ada@example.org"}, "#/email"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(alice: Person, body: dict, pointer: str):
    given = {"current_password": PASSWORD, "password": NEW, **body}
    answer = alice.request("PUT", "/users/me/password", json=given)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


def test_nobody_changes_a_password_without_a_token(stranger: Person):
    assert change(stranger).status_code == 401


def test_a_code_is_dead_once_the_password_was_changed(app, quick, alice: Person, outbox: Outbox):
    elsewhere(app).post("/auth/recoveries", {"email": alice.email})
    code = outbox.code(alice.email)
    change(alice)

    body = {"email": alice.email, "token": code, "password": "a third one"}
    assert elsewhere(app).post("/auth/recoveries/verify", body).status_code == 401


def test_two_changes_at_once_have_one_outcome(app: Flask, quick, alice: Person):
    """Of two who know the password the second does not know it any more."""
    with app.app_context():
        pair = sessions.start(User.find_by_email(alice.email), "192.0.2.30")
    tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    people = [alice, Person(app.test_client(), "192.0.2.30", tokens=tokens)]

    answers = at_once(
        lambda: change(people[0], "the first password"),
        lambda: change(people[1], "the second password"),
    )

    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) in ([204, 401], [204, 422])
    won = statuses.index(204)
    assert people[won].get("/users/me").status_code == 200
    assert people[1 - won].get("/users/me").status_code == 401
    opens = ["the first password", "the second password"][won]
    assert sign_in(elsewhere(app), opens).status_code == 200


def test_a_change_and_a_recovery_at_once_have_one_password(app, quick, alice, outbox):
    elsewhere(app).post("/auth/recoveries", {"email": alice.email})
    code = outbox.code(alice.email)
    body = {"email": alice.email, "token": code, "password": "the recovered one"}

    changed, recovered = at_once(
        lambda: change(alice, "the changed one"),
        lambda: elsewhere(app).post("/auth/recoveries/verify", body),
    )

    statuses = (changed.status_code, recovered.status_code)
    assert statuses in ((204, 401), (422, 200), (401, 200))
    opens = "the recovered one" if recovered.status_code == 200 else "the changed one"
    assert sign_in(elsewhere(app), opens).status_code == 200
    with app.app_context():
        live = Session.select().where(Session.ended_at.is_null())
        assert live.count() == 2  # whoever won, and the sign-in


def test_a_disabled_account_changes_no_password(app: Flask, quick, alice: Person):
    with app.app_context():
        users.disable(User.find_by_email(alice.email))

    assert change(alice).status_code == 401
