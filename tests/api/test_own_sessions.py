"""/auth/sessions as their owner sees them: the list, ending one, ending the others, new devices."""

import uuid
from datetime import timedelta

import pytest
from flask import Flask

from runtime.models.sessions import Session
from runtime.models.users import User
from tests.conftest import PASSWORD, Outbox, Person, at_once, instant

HOME, AWAY = "198.51.100.1", "203.0.113.66"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Safari/604.1"
LAPTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0.0.0 Safari/537.36"
SUBJECT = "新设备上登录"


def sign_in(app: Flask, network: str, user_agent: str = LAPTOP, password: str = PASSWORD) -> Person:
    """Alice on some device; without tokens if the password was wrong."""
    person = Person(app.test_client(), network, "alice@example.org")
    body = {"email": person.email, "password": password}
    answer = person.post("/auth/sessions", body, headers={"User-Agent": user_agent})
    person.tokens = answer.json if answer.status_code == 200 else {}
    return person


def listed(person: Person) -> list[dict]:
    answer = person.get("/auth/sessions")
    assert answer.status_code == 200
    return answer.json["sessions"]


def is_signed_in(person: Person) -> bool:
    return person.get("/users/me").status_code == 200


def end(person: Person, scope: str, token: str | None = None):
    body = {"refresh_token": token or person.tokens["refresh_token"], "scope": scope}
    return person.delete("/auth/sessions", body)


# The list


def test_one_sees_ones_sessions_the_newest_first(app: Flask, alice: Person):
    phone = sign_in(app, AWAY, PHONE)
    sessions = listed(phone)

    assert sessions[0].keys() == {
        *("id", "created_at", "device", "network"),
        *("last_used_at", "last_device", "last_network", "is_current"),
    }
    assert [(each["device"], each["network"], each["is_current"]) for each in sessions] == [
        ("Safari · iPhone", AWAY, True),
        (None, alice.network, False),
    ]
    assert [each["is_current"] for each in listed(alice)] == [False, True]


def test_a_session_was_used_last_when_it_was_refreshed(alice: Person, clock):
    clock.advance(minutes=50)
    alice.tokens = alice.refresh().json
    clock.advance(minutes=50)
    [session] = listed(alice)

    assert (instant(session["last_used_at"]) - instant(session["created_at"])).seconds == 3000


def test_sessions_that_are_over_are_not_in_the_list(app: Flask, alice: Person, clock):
    sign_in(app, HOME)
    clock.advance(days=29)
    end(sign_in(app, HOME), "this")
    alice.tokens = alice.refresh().json
    clock.advance(days=2)
    alice.tokens = alice.refresh().json

    assert len(listed(alice)) == 1


def test_a_session_of_a_year_ago_is_not_in_the_list(app: Flask, alice: Person, clock):
    with app.app_context():
        Session.update(created_at=clock.now() - timedelta(days=365)).execute()
    laptop = sign_in(app, HOME)

    assert len(listed(laptop)) == 1


def test_nobody_sees_anybody_elses(alice: Person, charlie: Person):
    assert {each["id"] for each in listed(alice)}.isdisjoint(each["id"] for each in listed(charlie))


def test_the_list_comes_in_pages(app: Flask, alice: Person):
    for _ in range(4):
        sign_in(app, HOME)
    first = alice.get("/auth/sessions", query_string={"limit": 3}).json
    query = {"limit": 3, "cursor": first["next_cursor"]}
    second = alice.get("/auth/sessions", query_string=query).json

    assert (len(first["sessions"]), len(second["sessions"])) == (3, 2)
    assert first["sessions"] + second["sessions"] == listed(alice)
    assert second["next_cursor"] is None


def test_the_list_is_for_who_is_signed_in(stranger: Person):
    assert stranger.get("/auth/sessions").status_code == 401
    assert stranger.delete(f"/auth/sessions/{uuid.uuid4()}").status_code == 401


# Ending one


def test_one_ends_a_session_by_its_id(app: Flask, alice: Person):
    phone = sign_in(app, AWAY, PHONE)
    answer = alice.delete(f"/auth/sessions/{listed(alice)[0]['id']}")

    assert (answer.status_code, answer.data) == (204, b"")
    assert not any(is_signed_in(phone) for _ in range(10))
    assert phone.refresh().status_code == 401
    assert is_signed_in(alice)
    assert len(listed(alice)) == 1


def test_one_may_end_the_session_that_asks(alice: Person):
    assert alice.delete(f"/auth/sessions/{listed(alice)[0]['id']}").status_code == 204
    assert not is_signed_in(alice)


def test_somebody_elses_session_is_not_found(alice: Person, charlie: Person):
    hers = alice.delete(f"/auth/sessions/{listed(charlie)[0]['id']}")
    nobodys = alice.delete(f"/auth/sessions/{uuid.uuid4()}")

    for answer in (hers, nobodys):
        assert (answer.status_code, answer.json["detail"]) == (404, "会话不存在或已结束")
    assert is_signed_in(charlie)


def test_a_session_that_is_over_is_not_found(app: Flask, alice: Person, clock):
    ended, ran_out = sign_in(app, HOME), sign_in(app, HOME)
    ids = [session["id"] for session in listed(alice) if not session["is_current"]]
    end(ended, "this")
    clock.advance(days=29)
    alice.tokens = alice.refresh().json
    clock.advance(days=2)
    alice.tokens = alice.refresh().json

    assert len(ids) == 2
    for session_id in ids:
        assert alice.delete(f"/auth/sessions/{session_id}").status_code == 404
    assert not is_signed_in(ran_out)


def test_of_ends_at_once_one_ends_it(app: Flask, alice: Person):
    sign_in(app, AWAY)
    path = f"/auth/sessions/{listed(alice)[0]['id']}"
    answers = at_once(*[lambda: alice.delete(path)] * 8)

    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 7


@pytest.mark.parametrize("text", ["x", "3f1c1a526c1e4b439f0e0a3c5a0c2f11", "%00", "٣"])
def test_what_is_no_id_is_nobodys(alice: Person, text: str):
    assert alice.delete(f"/auth/sessions/{text}").status_code == 404


def test_a_routes_own_name_is_no_id(alice: Person):
    answer = alice.delete("/auth/sessions/refresh")

    assert answer.status_code == 405
    assert "DELETE" not in answer.headers["Allow"]


# Ending the others, or all


@pytest.mark.parametrize(
    ("scope", "left"), [("this", (False, True)), ("others", (True, False)), ("all", (False, False))]
)
def test_a_scope_says_which_sessions_end(
    app: Flask, alice: Person, bob: Person, scope: str, left: tuple
):
    phone, laptop = sign_in(app, AWAY, PHONE), sign_in(app, HOME)
    answer = end(phone, scope)

    assert (answer.status_code, answer.data) == (204, b"")
    assert (is_signed_in(phone), is_signed_in(laptop)) == left
    assert is_signed_in(alice) == left[1]
    assert (laptop.refresh().status_code == 200) == left[1]
    assert is_signed_in(bob)


def test_without_a_scope_one_session_ends(app: Flask, alice: Person):
    phone = sign_in(app, AWAY, PHONE)
    phone.delete("/auth/sessions", {"refresh_token": phone.tokens["refresh_token"]})

    assert (is_signed_in(phone), is_signed_in(alice)) == (False, True)


@pytest.mark.parametrize("scope", ["others", "all"])
def test_an_old_token_ends_no_session_but_its_own(app: Flask, alice: Person, scope: str):
    phone = sign_in(app, AWAY, PHONE)
    old = phone.tokens["refresh_token"]
    phone.tokens = phone.refresh().json
    phone.tokens = phone.refresh().json

    assert end(phone, scope, old).status_code == 204
    assert (is_signed_in(phone), is_signed_in(alice)) == (False, True)


@pytest.mark.parametrize("scope", ["others", "all"])
def test_a_token_that_may_still_be_a_retry_ends_them(app: Flask, alice: Person, scope: str):
    """The answer to its refresh was lost, and the client has no newer one."""
    phone = sign_in(app, AWAY, PHONE)
    phone.refresh()

    assert end(phone, scope).status_code == 204
    assert not is_signed_in(alice)


@pytest.mark.parametrize("scope", ["this", "others", "all"])
def test_a_token_of_an_ended_session_ends_none(app: Flask, alice: Person, scope: str):
    phone = sign_in(app, AWAY, PHONE)
    end(phone, "this")

    assert end(phone, scope).status_code == 204
    assert end(phone, scope, "x").status_code == 204
    assert is_signed_in(alice)


@pytest.mark.parametrize("scope", ["", "THIS", "this ", "none", None, 1, ["all"]])
def test_a_scope_that_makes_no_sense_is_refused(alice: Person, scope):
    body = {"refresh_token": alice.tokens["refresh_token"], "scope": scope}
    answer = alice.delete("/auth/sessions", body)

    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "#/scope"
    assert is_signed_in(alice)


# Devices that were not seen before


def notices(outbox: Outbox) -> list[str]:
    assert all(SUBJECT in mail["Subject"] for mail in outbox.mails())
    return outbox.texts("alice@example.org")


def test_a_new_device_is_told_by_mail(app: Flask, alice: Person, outbox: Outbox, clock):
    sign_in(app, AWAY, PHONE)

    [text] = notices(outbox)
    assert "设备：Safari · iPhone" in text
    assert f"网络：{AWAY}" in text
    assert f"时间：{clock.now():%Y-%m-%d %H:%M} UTC" in text
    assert "修改密码" in text


def test_a_known_device_is_not_told_again(app: Flask, alice: Person, outbox: Outbox):
    for _ in range(3):
        end(sign_in(app, AWAY, PHONE), "this")
    sign_in(app, AWAY, PHONE.replace("18_1", "19_0"))

    assert len(notices(outbox)) == 1


@pytest.mark.parametrize(("network", "user_agent"), [(HOME, LAPTOP), (AWAY, PHONE)])
def test_neither_the_network_nor_the_name_alone_makes_a_device_known(
    app: Flask, alice: Person, outbox: Outbox, network: str, user_agent: str
):
    with app.app_context():
        Session.update(network=HOME, device="Safari · iPhone").execute()
    sign_in(app, network, user_agent)

    assert len(notices(outbox)) == 1


def test_a_wrong_password_is_told_to_nobody_by_mail(app: Flask, alice: Person, outbox: Outbox):
    sign_in(app, AWAY, password="not the password")

    assert notices(outbox) == []


def test_the_first_sign_in_of_an_account_is_no_news(app: Flask, alice: Person, outbox: Outbox):
    with app.app_context():
        Session.delete().execute()
        User.update(signed_in_at=None).execute()
    sign_in(app, AWAY)
    assert notices(outbox) == []

    sign_in(app, "192.0.2.1")
    assert len(notices(outbox)) == 1


def test_a_sign_in_after_a_sign_up_elsewhere_is_news(app: Flask, alice: Person, outbox: Outbox):
    person = Person(app.test_client(), HOME)
    details = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}
    person.post("/auth/verifications", details)
    code = {"email": "ada@example.org", "token": outbox.code("ada@example.org")}
    assert person.post("/auth/verifications/verify", code).status_code == 200
    assert len(outbox.mails()) == 1

    person.network = AWAY
    person.post("/auth/sessions", {"email": "ada@example.org", "password": PASSWORD})
    assert SUBJECT in outbox.mails()[-1]["Subject"]


def test_an_account_whose_sessions_were_all_forgotten_has_no_known_device(
    app: Flask, alice: Person, outbox: Outbox
):
    with app.app_context():
        Session.delete().execute()
    sign_in(app, alice.network)

    assert len(notices(outbox)) == 1


def test_a_client_that_names_no_device_makes_no_other_known(
    app: Flask, alice: Person, outbox: Outbox
):
    """Else one request without a User-Agent would make a thief on the same network known."""
    sign_in(app, AWAY, "")
    assert len(notices(outbox)) == 1
    sign_in(app, AWAY, "")
    assert len(notices(outbox)) == 1

    sign_in(app, AWAY, PHONE)
    assert len(notices(outbox)) == 2


def test_an_app_with_a_dot_in_its_name_is_a_device(app: Flask, alice: Person):
    sign_in(app, AWAY, "com.example.Notes/2.1 (Android)")

    assert listed(alice)[0]["device"] == "com-example-Notes · Android"


def test_the_mail_is_in_the_owners_language_whoever_signed_in(
    app: Flask, alice: Person, outbox: Outbox
):
    with app.app_context():
        User.update(language="en").execute()
    body = {"email": alice.email, "password": PASSWORD}
    Person(app.test_client(), AWAY, language="zh").post(
        "/auth/sessions", body, headers={"User-Agent": ""}
    )

    [text] = outbox.texts(alice.email)
    assert "Device: unknown" in text
    assert "change your password" in text
