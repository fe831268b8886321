"""Which language an account's mails are in: its owner's, whoever causes them."""

import re

import pytest
from flask import Flask

from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services import closures
from tests.conftest import PASSWORD, Outbox, Person


def language_of(app: Flask, person: Person) -> str | None:
    with app.app_context():
        return User.find_by_email(person.email).language


def sign_in(person: Person, **kwargs) -> None:
    answer = person.post("/auth/sessions", {"email": person.email, "password": PASSWORD}, **kwargs)
    assert answer.status_code == 200
    person.tokens = answer.json


def is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


@pytest.fixture
def alice(app: Flask, alice: Person) -> Person:
    """Speaks Chinese, and uses the device that she began the account on."""
    alice.language = "zh-CN"
    with app.app_context():
        Session.update(device="Werkzeug").execute()
    return alice


@pytest.fixture
def thief(app: Flask, alice: Person) -> Person:
    """Knows Alice's password, and speaks English."""
    return Person(app.test_client(), "203.0.113.66", alice.email, language="en")


def test_what_a_thief_does_is_told_in_the_owners_language(
    app: Flask, alice: Person, thief: Person, outbox: Outbox
):
    sign_in(alice)
    sign_in(thief)
    thief.refresh()
    change = {"email": "thief@example.org", "current_password": PASSWORD}
    assert thief.post("/users/me/email", change).status_code == 202
    assert not is_chinese(outbox.texts("thief@example.org")[0])
    new = {"current_password": PASSWORD, "password": "another horse"}
    assert thief.request("PUT", "/users/me/password", json=new).status_code == 200

    new_device, email_change, new_password = outbox.texts(alice.email)
    assert all(map(is_chinese, (new_device, email_change, new_password)))
    assert language_of(app, alice) == "zh"


def test_a_stranger_who_uses_an_address_does_not_choose_its_owners_language(
    app: Flask, alice: Person, bob: Person, outbox: Outbox
):
    sign_in(alice)
    bob.language = "en"
    body = {"username": "eve", "email": alice.email, "password": PASSWORD}
    assert bob.post("/auth/verifications", body).status_code == 202
    assert bob.post("/auth/verifications/resend", {"email": alice.email}).status_code == 204
    assert bob.post("/auth/recoveries", {"email": alice.email}).status_code == 202
    change = {"email": alice.email, "current_password": PASSWORD}
    assert bob.post("/users/me/email", change).status_code == 202

    texts = outbox.texts(alice.email)
    assert len(texts) == 4
    assert all(map(is_chinese, texts))


def test_the_language_is_that_of_the_sign_up(app: Flask, stranger: Person, outbox: Outbox):
    stranger.email, stranger.language = "ada@example.org", "en"
    body = {"username": "ada", "email": stranger.email, "password": PASSWORD}
    stranger.post("/auth/verifications", body)
    proof = {"email": stranger.email, "token": outbox.code(stranger.email)}
    assert stranger.post("/auth/verifications/verify", proof).status_code == 200

    assert language_of(app, stranger) == "en"
    stranger.language = "zh"
    stranger.network = "192.0.2.99"
    sign_in(stranger)
    assert not is_chinese(outbox.texts(stranger.email)[-1])


def test_it_follows_sign_ins_and_refreshes_where_the_account_was_used_before(
    app: Flask, alice: Person
):
    for language in ("en", "zh", "en"):
        alice.language = language
        sign_in(alice)
        assert language_of(app, alice) == language
    alice.language = "zh"
    assert alice.refresh().status_code == 200
    assert language_of(app, alice) == "zh"


@pytest.mark.parametrize("accepted", [None, "*", "fr", "fr, *;q=0.5"])
def test_a_client_that_states_no_language_teaches_none(
    app: Flask, alice: Person, accepted: str | None
):
    alice.language = "en"
    sign_in(alice)
    alice.language = accepted
    sign_in(alice)
    alice.refresh()

    assert language_of(app, alice) == "en"


def test_a_client_that_names_no_device_makes_no_other_known(app: Flask, alice: Person):
    with app.app_context():
        Session.update(device=None).execute()
        User.update(language="zh").execute()
    thief = Person(app.test_client(), alice.network, alice.email, language="en")

    sign_in(thief, headers={"User-Agent": "curl/8"})
    answer = thief.post(
        "/auth/sessions/refresh",
        {"refresh_token": thief.tokens["refresh_token"]},
        headers={"User-Agent": "curl/8"},
    )

    assert answer.status_code == 200
    assert language_of(app, alice) == "zh"


def test_a_stolen_refresh_token_teaches_no_language(app: Flask, alice: Person):
    sign_in(alice)
    assert language_of(app, alice) == "zh"
    elsewhere = Person(app.test_client(), "203.0.113.66", tokens=alice.tokens, language="en")

    assert elsewhere.refresh().status_code == 200

    assert language_of(app, alice) == "zh"


def test_a_device_that_is_new_on_the_owners_network_teaches_no_language(app: Flask, alice: Person):
    """Though a session was begun there by a client that named no device."""
    with app.app_context():
        Session.update(device=None).execute()
    thief = Person(app.test_client(), alice.network, alice.email, language="en")
    sign_in(thief)

    assert thief.refresh().status_code == 200

    assert language_of(app, alice) is None


def test_a_recovery_is_in_the_owners_language_and_teaches_the_new_one(
    app: Flask, alice: Person, outbox: Outbox
):
    sign_in(alice)
    alice.language, alice.tokens = "en", {}
    alice.post("/auth/recoveries", {"email": alice.email})
    assert is_chinese(outbox.texts(alice.email)[-1])
    proof = {"email": alice.email, "token": outbox.code(alice.email), "password": "another horse"}
    assert alice.post("/auth/recoveries/verify", proof).status_code == 200

    assert is_chinese(outbox.texts(alice.email)[-1])
    assert language_of(app, alice) == "en"


def test_while_it_is_not_known_a_code_is_in_the_language_of_who_asks(
    app: Flask, alice: Person, outbox: Outbox
):
    alice.language = "en"
    assert language_of(app, alice) is None

    alice.post("/auth/recoveries", {"email": alice.email})

    assert not is_chinese(outbox.texts(alice.email)[-1])


def test_who_deletes_an_account_is_told_once_more(
    app: Flask, alice: Person, outbox: Outbox, settings: dict
):
    alice.language = "en"
    sign_in(alice)
    alice.language = "zh"

    assert alice.delete("/users/me", {"current_password": PASSWORD}).status_code == 204

    [text] = outbox.texts(alice.email)
    assert "account alice was deleted" in text
    assert f"Network: {alice.network}" in text
    assert "http" not in text


def test_who_is_erased_by_an_operator_is_told_too(app: Flask, alice: Person, outbox: Outbox):
    with app.app_context():
        closures.erase(User.find_by_email(alice.email))

    [text] = outbox.texts(alice.email)
    assert "账号 alice 及其全部内容已删除" in text
    assert "网络" not in text


def test_a_refused_deletion_mails_nothing(alice: Person, outbox: Outbox):
    assert alice.delete("/users/me", {"current_password": "not the one"}).status_code == 422

    assert outbox.mails() == []
