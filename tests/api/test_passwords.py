"""/users/me/password"""

from itertools import pairwise

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.errors import InvalidAccessToken
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import password_changes, sessions, users
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


def test_a_password_can_be_changed(app: Flask, alice: Person):
    answer = change(alice)

    assert answer.status_code == 200
    assert answer.json.keys() == {
        *("access_token", "refresh_token", "expires_in"),
        "token_type",
        "user",
    }
    assert answer.json["user"] == {"id": alice.id, "email": alice.email}
    assert sign_in(elsewhere(app), PASSWORD).status_code == 401
    assert sign_in(elsewhere(app), NEW).status_code == 200


def test_every_token_made_before_is_dead_and_the_answers_are_good(
    app: Flask, alice: Person, bob: Person
):
    """Those of the session that asked too: they may have been copied."""
    other = elsewhere(app)
    other.tokens = sign_in(other, PASSWORD).json
    copied = dict(alice.tokens)
    alice.tokens = alice.refresh().json
    fresh = change(alice).json
    thieves = [elsewhere(app), elsewhere(app), other]
    thieves[0].tokens, thieves[1].tokens = copied, alice.tokens

    for thief in thieves:
        for _ in range(4):
            assert thief.get("/users/me").status_code == 401
            assert thief.get("/users/me/export").status_code == 401
            assert thief.refresh().status_code == 401
    alice.tokens = fresh
    assert alice.get("/users/me").status_code == 200
    assert alice.refresh().status_code == 200
    assert bob.get("/users/me").status_code == 200


def test_an_old_token_that_comes_back_ends_not_the_fresh_session(alice: Person, clock):
    """Another tab holds it, and is no thief."""
    old = alice.tokens["refresh_token"]
    alice.tokens = change(alice).json
    for seconds in (0, 11, 3600):
        clock.advance(seconds=seconds)
        assert alice.refresh(old).status_code == 401

    alice.tokens = alice.refresh().json
    assert alice.get("/users/me").status_code == 200


def test_a_change_leaves_one_session_where_it_was_asked_for(alice: Person):
    alice.tokens = change(alice).json

    [session] = alice.get("/auth/sessions").json["sessions"]
    assert (session["network"], session["is_current"]) == (alice.network, True)
    [event, *_] = alice.get("/users/me/events").json["events"]
    assert (event["type"], event["session_id"]) == ("password_changed", session["id"])


def test_a_session_that_ended_meanwhile_changes_no_password(app: Flask, alice: Person):
    """Its owner ended it while a thief's new password was hashed."""
    with app.app_context():
        session = Session.find_live(Session.get().id)
        sessions.end(alice.tokens["refresh_token"], caller=Caller(alice.network))

        with pytest.raises(InvalidAccessToken):
            password_changes.change(
                session, current_password=PASSWORD, password=NEW, caller=Caller(alice.network)
            )
    assert sign_in(elsewhere(app), PASSWORD).status_code == 200


def test_a_change_beside_refreshes_and_sign_ins_leaves_its_own_session(app: Flask, alice: Person):
    """Many rounds: what comes before the change is dead by then, what comes after is refused.

    A sign-in that renews the hash first has the change refused, and asked for again.
    """
    words = [PASSWORD, *(f"password number {number}" for number in range(6))]
    assert len(words) > 1
    for old, new in pairwise(words):
        token = alice.tokens["refresh_token"]
        guests = [elsewhere(app) for _ in range(4)]
        calls = [lambda old=old, new=new: change(alice, new, old)]
        calls += [lambda p=p, t=token: p.refresh(t) for p in guests[:2]]
        calls += [lambda p=p, old=old: sign_in(p, old) for p in guests[2:]]
        changed, *others = at_once(*calls)

        assert {answer.status_code for answer in others} <= {200, 401}
        if changed.status_code == 422:
            changed = change(alice, new, old)
        assert changed.status_code == 200
        for guest, answer in zip(guests, others, strict=True):
            guest.tokens = answer.json if answer.status_code == 200 else {}
            assert guest.get("/users/me").status_code == 401
        alice.tokens = changed.json
        assert len(alice.get("/auth/sessions").json["sessions"]) == 1


def test_the_owner_is_told_and_reads_of_it(alice: Person, outbox: Outbox):
    alice.tokens = change(alice).json

    [notice] = outbox.texts(alice.email)
    assert "设置了新密码" in notice
    assert alice.network in notice
    [event, *_] = alice.get("/users/me/events").json["events"]
    assert (event["type"], event["network"]) == ("password_changed", alice.network)


def test_a_wrong_password_changes_nothing_and_signs_nobody_out(app, alice, outbox: Outbox):
    answer = change(alice, current="not the password")

    assert answer.status_code == 422
    [error] = answer.json["errors"]
    assert (error["pointer"], error["detail"]) == ("#/current_password", "当前密码错误")
    assert alice.get("/users/me").status_code == 200
    assert sign_in(elsewhere(app), PASSWORD).status_code == 200
    assert outbox.texts(alice.email)[:-1] == []  # but of the sign-in


def test_stolen_tokens_guess_no_password(app: Flask, alice: Person):
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


def test_a_code_is_dead_once_the_password_was_changed(app, alice: Person, outbox: Outbox):
    elsewhere(app).post("/auth/recoveries", {"email": alice.email})
    code = outbox.code(alice.email)
    change(alice)

    body = {"email": alice.email, "token": code, "password": "a third one"}
    assert elsewhere(app).post("/auth/recoveries/verify", body).status_code == 401


def test_two_changes_at_once_have_one_outcome(app: Flask, alice: Person):
    """Of two who know the password the second does not know it any more."""
    with app.app_context():
        pair = sessions.start(User.find_by_email(alice.email), Caller("192.0.2.30"))
    tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    people = [alice, Person(app.test_client(), "192.0.2.30", tokens=tokens)]

    answers = at_once(
        lambda: change(people[0], "the first password"),
        lambda: change(people[1], "the second password"),
    )

    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) in ([200, 401], [200, 422])
    won = statuses.index(200)
    people[won].tokens = answers[won].json
    assert people[won].get("/users/me").status_code == 200
    assert people[1 - won].get("/users/me").status_code == 401
    opens = ["the first password", "the second password"][won]
    assert sign_in(elsewhere(app), opens).status_code == 200


def test_a_change_and_a_recovery_at_once_have_one_password(app, alice, outbox):
    elsewhere(app).post("/auth/recoveries", {"email": alice.email})
    code = outbox.code(alice.email)
    body = {"email": alice.email, "token": code, "password": "the recovered one"}

    changed, recovered = at_once(
        lambda: change(alice, "the changed one"),
        lambda: elsewhere(app).post("/auth/recoveries/verify", body),
    )

    statuses = (changed.status_code, recovered.status_code)
    assert statuses in ((200, 401), (422, 200), (401, 200))
    opens = "the recovered one" if recovered.status_code == 200 else "the changed one"
    assert sign_in(elsewhere(app), opens).status_code == 200
    with app.app_context():
        live = Session.select().where(Session.ended_at.is_null())
        assert live.count() == 2  # whoever won, and the sign-in


def test_a_disabled_account_changes_no_password(app: Flask, alice: Person):
    with app.app_context():
        users.disable(User.find_by_email(alice.email))

    assert change(alice).status_code == 401
