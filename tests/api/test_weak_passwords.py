"""Which passwords an account may have from now on, wherever it gets one."""

import json
import time
import unicodedata
from collections.abc import Callable

import pytest
from flask import Flask

from runtime.models.users import User
from tests.conftest import PASSWORD, Outbox, Person
from tests.quick import quick_hash

COMMON = "密码太常见，请换一个更难猜的"
OWN = "密码不能是自己的用户名或邮箱"


def sign_up(person: Person, outbox: Outbox, password: str):
    person.tokens = {}
    body = {"username": "ada_l", "email": "ada.lovelace@example.org", "password": password}
    return person.post("/auth/verifications", body)


def recover(person: Person, outbox: Outbox, password: str):
    person.tokens = {}
    person.post("/auth/recoveries", {"email": "ada.lovelace@example.org"})
    code = outbox.code("ada.lovelace@example.org")
    body = {"email": "ada.lovelace@example.org", "token": code, "password": password}
    return person.post("/auth/recoveries/verify", body)


def change(person: Person, outbox: Outbox, password: str):
    body = {"current_password": PASSWORD, "password": password}
    return person.request("PUT", "/users/me/password", json=body)


WAYS = pytest.mark.parametrize("way", [sign_up, recover, change])


@pytest.fixture
def ada(app: Flask, member: Callable, way: Callable) -> Person:
    """Signs up, or has an account already."""
    if way is sign_up:
        return Person(app.test_client())
    person = member("ada_l")
    with app.app_context():
        User.update(email="ada.lovelace@example.org", password_hash=quick_hash(PASSWORD)).execute()
    return person


@WAYS
@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("123456", COMMON),
        ("PassWord1", COMMON),
        ("ada_l1815", OWN),
        ("Ada.Lovelace!", OWN),
        ("ada.lovelace@example.org", OWN),
    ],
)
def test_a_weak_password_is_refused_with_a_sentence(ada, outbox, way, password, why):
    answer = way(ada, outbox, password)

    assert answer.status_code == 422
    assert answer.json["detail"] == why
    [error] = answer.json["errors"]
    assert (error["pointer"], error["detail"]) == ("#/password", why)
    assert error["code"] == answer.json["code"] in ("common_password", "own_name_as_password")


@WAYS
@pytest.mark.parametrize("password", ["correct horse", "lovelace and ada", "密码密码密码"])
def test_others_are_taken(ada: Person, outbox: Outbox, way: Callable, password: str):
    assert way(ada, outbox, password).status_code in (200, 202, 204)


@WAYS
def test_the_sentence_speaks_english_too(ada: Person, outbox: Outbox, way: Callable):
    ada.language = "en"

    assert "among the first that are guessed" in way(ada, outbox, "123456").json["detail"]


@pytest.fixture
def longer(settings: dict) -> None:
    """Asked for before `app`."""
    settings["PASSWORD_MIN_LENGTH"] = "12"


@WAYS
def test_a_setting_asks_for_more_characters(longer, ada: Person, outbox: Outbox, way: Callable):
    answer = way(ada, outbox, "eleven char")

    assert answer.status_code == 422
    [error] = answer.json["errors"]
    assert error == {
        "pointer": "#/password",
        "code": "too_short",
        "detail": "至少需要 12 个字符",
    }
    assert way(ada, outbox, "twelve chars").status_code in (200, 202, 204)


def test_whoever_has_a_weak_password_goes_on_signing_in(longer, app: Flask, alice: Person):
    with app.app_context():
        User.update(password_hash=quick_hash("123456")).execute()

    body = {"email": alice.email, "password": "123456"}
    assert alice.post("/auth/sessions", body).status_code == 200
    body = {"current_password": "123456", "password": "twelve characters"}
    assert alice.request("PUT", "/users/me/password", json=body).status_code == 200


def test_a_refused_password_uses_up_no_code(app: Flask, alice: Person, outbox: Outbox):
    owner = Person(app.test_client(), "192.0.2.30")
    owner.post("/auth/recoveries", {"email": alice.email})
    body = {"email": alice.email, "token": outbox.code(alice.email)}
    for _ in range(8):
        refused = owner.post("/auth/recoveries/verify", {**body, "password": "123456"})
        assert refused.status_code == 422

    answer = owner.post("/auth/recoveries/verify", {**body, "password": "a good one"})
    assert answer.status_code == 200


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_two_keyboards_type_one_password(app: Flask, outbox: Outbox, forms: tuple):
    first, second = (unicodedata.normalize(form, "é" * 100) for form in forms)
    ada = Person(app.test_client())
    assert sign_up(ada, outbox, first).status_code == 202
    body = {
        "email": "ada.lovelace@example.org",
        "token": outbox.code("ada.lovelace@example.org"),
    }
    ada.post("/auth/verifications/verify", body)

    for password in (first, second):
        body = {"email": "ada.lovelace@example.org", "password": password}
        assert ada.post("/auth/sessions", body).status_code == 200


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_password_is_as_long_as_it_looks(app: Flask, outbox: Outbox, form: str):
    ada = Person(app.test_client())

    assert sign_up(ada, outbox, unicodedata.normalize(form, "éèêëñ")).status_code == 422
    assert sign_up(ada, outbox, unicodedata.normalize(form, "éèêëñü")).status_code == 202
    assert sign_up(ada, outbox, unicodedata.normalize(form, "é" * 128)).status_code == 202
    assert sign_up(ada, outbox, unicodedata.normalize(form, "é" * 129)).status_code == 422


@pytest.mark.parametrize(
    ("accents", "status", "code"),
    [(3_000, 422, "invalid_parameters"), (260_000, 413, "content_too_large")],
)
def test_a_password_of_many_accents_costs_nobody_anything(
    stranger: Person, accents: int, status: int, code: str
):
    """To put a megabyte in order takes CPython half a minute; it runs nothing else meanwhile."""
    body = {"email": "ada@example.org", "password": "a" + "\u0301\u0316" * accents}
    text = json.dumps(body, ensure_ascii=False).encode()
    began = time.monotonic()
    answer = stranger.post("/auth/sessions", data=text, content_type="application/json")

    assert time.monotonic() - began < 20
    assert (answer.status_code, answer.json["code"]) == (status, code)
