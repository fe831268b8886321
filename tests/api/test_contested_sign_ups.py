"""Somebody else signs up with one's own address and username, from wherever and whenever."""

import re
from itertools import product

import pytest
from flask import Flask

from runtime.models.codes import SignUp
from runtime.models.users import User
from tests.api.test_verifications import (
    EMAIL,
    OWNER,
    STRANGER,
    THIRD,
    at,
    codes,
    resend,
    sign_in,
    sign_up,
)
from tests.api.test_verifications import verify as enter
from tests.conftest import Outbox, Person, at_once
from tests.quick import BusyPasswords

OWN, OTHERS = "the owner's own words", "the stranger's words"


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


def codes_in(texts: list[str]) -> list[str]:
    return re.findall(r"验证码：(\d{6})", "\n".join(texts))


def opens(app: Flask, email: str, password: str) -> bool:
    with app.app_context():
        user = User.find_by_email(email)
    return app.extensions["passwords"].verify(password, user.password_hash)


def recovered(person: Person, outbox: Outbox, email=EMAIL, password="set by recovery"):
    person.post("/auth/recoveries", {"email": email})
    body = {"email": email, "token": outbox.code(email), "password": password}
    return person.post("/auth/recoveries/verify", body)


# Who asks again, where the codes are entered, and whose is first.
CASES = list(product(["", "SO"], [OWNER, THIRD], ["ada", "ADA"]))


@pytest.mark.parametrize("order", ["OS", "SO", "OSO", "SOS"])
@pytest.mark.parametrize(
    ("network", "password"),
    [(STRANGER, OTHERS), (OWNER, OTHERS), (STRANGER, OWN)],
    ids=["elsewhere", "same network", "same password"],
)
def test_an_account_of_a_contested_name_begins_without_a_password(
    no_limits, app, outbox: Outbox, order: str, network: str, password: str
):
    """In every order of asking, for either code, entered on either network."""
    for number, (resends, place, first) in enumerate(CASES):
        email, name = f"ada{number}@example.org", f"ada_{number}"
        people = {"O": at(app, OWNER), "S": at(app, network)}
        for who in order:
            case = str.upper if who == "S" else str
            word = OWN if who == "O" else password
            assert sign_up(people[who], case(name), email, word).status_code == 202
        for who in resends:
            resend(people[who], email)
            outbox.mails()
        mailed = codes(outbox, email)
        chosen = sorted(mailed, key=lambda each: not each.startswith(first))
        entered = [enter(at(app, place), mailed[each], email) for each in chosen]
        assert len(chosen) == 2
        [pair] = [answer.json for answer in entered if answer.status_code == 200]

        assert not opens(app, email, OWN)
        assert not opens(app, email, password)
        assert at(app, place).get("/users/me", headers=bearer(pair)).status_code == 200
        assert "没有密码" in outbox.mails()[-1]["Subject"]


def bearer(pair: dict) -> dict:
    return {"Authorization": f"Bearer {pair['access_token']}"}


def test_a_recovery_sets_the_password_that_such_an_account_has_not(app, outbox: Outbox):
    owner, stranger = at(app, OWNER), at(app, STRANGER)
    sign_up(stranger, "ada", EMAIL, OTHERS)
    sign_up(owner, "ada", EMAIL, OWN)
    owner.tokens = enter(owner, outbox.code(EMAIL)).json

    for word in (OWN, OTHERS):
        answer = sign_in(at(app, THIRD), EMAIL, word)
        assert (answer.status_code, answer.json["detail"]) == (401, "邮箱或密码错误")
    for method, path, more in [
        ("PUT", "/users/me/password", {"password": "another horse"}),
        ("POST", "/users/me/email", {"email": "new@example.org"}),
        ("DELETE", "/users/me", {}),
    ]:
        answer = owner.request(method, path, json={"current_password": OWN, **more})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json["errors"]] == ["#/current_password"]
        assert "忘记密码" in answer.json["detail"]
    assert recovered(at(app, THIRD), outbox).status_code == 200
    assert sign_in(at(app, THIRD), EMAIL, "set by recovery").status_code == 200


def test_another_username_contests_nothing(app, outbox: Outbox):
    owner = at(app, OWNER)
    sign_up(at(app, STRANGER), "eve", EMAIL, OTHERS)
    sign_up(owner, "ada", EMAIL, OWN)

    assert enter(owner, outbox.code(EMAIL)).status_code == 200
    assert opens(app, EMAIL, OWN)


def test_a_sign_up_for_another_address_contests_nothing(app, outbox: Outbox):
    owner = at(app, OWNER)
    sign_up(at(app, STRANGER), "ada", "eve@example.org", OTHERS)
    sign_up(owner, "ada", EMAIL, OWN)

    assert enter(owner, outbox.code(EMAIL)).status_code == 200
    assert opens(app, EMAIL, OWN)


@pytest.mark.parametrize("waits", [{"hours": 23}, {"minutes": 11}])
def test_a_sign_up_stays_contested_when_the_other_has_run_out(
    app, outbox: Outbox, clock, waits: dict
):
    """Its owner asks for the codes again, and takes the stranger's for their own."""
    stranger = at(app, STRANGER)
    sign_up(at(app, OWNER), "ada", EMAIL, OWN)
    clock.advance(**waits)
    sign_up(stranger, "Ada", EMAIL, OTHERS)
    clock.advance(hours=2)
    resend(at(app, THIRD))

    code = outbox.code(EMAIL, "Ada")
    assert enter(at(app, THIRD), code).status_code == 200
    assert not opens(app, EMAIL, OTHERS)


def test_a_sign_up_of_another_day_contests_nothing(app, outbox: Outbox, clock):
    """Its code could not be entered any more."""
    sign_up(at(app, STRANGER), "ada", EMAIL, OTHERS)
    clock.advance(hours=25)
    owner = at(app, OWNER)
    sign_up(owner, "ada", EMAIL, OWN)

    assert enter(owner, outbox.code(EMAIL)).status_code == 200
    assert opens(app, EMAIL, OWN)


def test_a_sign_up_that_an_earlier_release_began_contests(app, outbox: Outbox):
    sign_up(at(app, STRANGER), "ada", EMAIL, OTHERS)
    with app.app_context():
        SignUp.update(asked_hash=None).execute()
    owner = at(app, OWNER)
    sign_up(owner, "ada", EMAIL, OWN)

    assert enter(owner, outbox.code(EMAIL)).status_code == 200
    assert not opens(app, EMAIL, OWN)


# The same person


def test_five_presses_are_one_sign_up_with_one_code_that_works(app, outbox: Outbox):
    owner = at(app, OWNER)
    for name in ("ada", "Ada", "ADA", "ada", "Ada"):
        assert sign_up(owner, name, EMAIL.upper() if name == "ADA" else EMAIL).status_code == 202
        mailed = codes_in(outbox.texts(EMAIL) + outbox.texts(EMAIL.upper()))
    *stale, code = codes_in(outbox.texts(EMAIL))
    assert len(mailed) == 5

    with app.app_context():
        assert SignUp.select().count() == 1
    for wrong in stale[:2]:
        assert wrong == code or enter(owner, wrong).status_code == 401
    with app.app_context():
        assert SignUp.get().tries_left >= 3
    assert enter(owner, code).status_code == 200
    assert owner.get("/users/Ada", headers=bearer(sign_in(owner).json)).json["username"] == "Ada"


@pytest.mark.parametrize("number", range(3))
def test_presses_at_once_are_one_sign_up(no_limits, app, outbox: Outbox, number):
    owner = at(app, OWNER)
    answers = at_once(*(lambda: sign_up(owner) for _ in range(8)))

    assert {answer.status_code for answer in answers} == {202}
    with app.app_context():
        assert SignUp.select().count() == 1
    mailed = dict.fromkeys(codes_in(outbox.texts(EMAIL)))
    assert len(mailed) > 1
    with app.app_context():
        SignUp.update(tries_left=100).execute()
    assert [enter(owner, code).status_code for code in mailed].count(200) == 1


def test_who_asks_again_keeps_their_password(app, outbox: Outbox):
    """From the first network of a day to the last code, tries used up meanwhile."""
    owner = at(app, OWNER)
    sign_up(owner, "ada", EMAIL, OWN)
    for _ in range(5):
        enter(owner, "000000")
    sign_up(owner, "ada", EMAIL, OWN)

    assert enter(owner, outbox.code(EMAIL)).status_code == 200
    assert opens(app, EMAIL, OWN)


def test_the_newest_press_says_where_the_link_leads(settings, serve, ground, outbox: Outbox):
    app = serve({**settings, "REDIRECT_ALLOWLIST": "https://app.example.org"})
    owner = at(app, OWNER)
    sign_up(owner, redirect_to="https://app.example.org/one")
    sign_up(owner, redirect_to="https://app.example.org/two")
    resend(owner)

    assert "https://app.example.org/two?" in outbox.texts(EMAIL)[-1]


# What the mails say


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_mail_with_codes_says_who_asked_for_each(app, outbox: Outbox, clock, language):
    agents = {OWNER: "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0", STRANGER: "curl/8"}
    for network, agent in agents.items():
        person = at(app, network)
        person.language = language
        body = {"username": "ada", "email": EMAIL, "password": f"words from {network}"}
        person.post("/auth/verifications", body, headers={"User-Agent": agent})
    both = at(app, THIRD)
    both.language = language
    resend(both)

    owners, strangers, all_ = outbox.texts(EMAIL)
    when = f"{clock.now():%Y-%m-%d %H:%M} UTC"
    for words in (OWNER, "Firefox · Windows", when, "ada"):
        assert words in owners and words in all_
    for words in (STRANGER, "curl", when, "ada"):
        assert words in strangers and words in all_
    assert OWNER not in strangers and STRANGER not in owners


def test_a_resend_mails_ones_own_alone_and_of_others_the_newest_of_each(app, outbox: Outbox):
    owner = at(app, OWNER)
    sign_up(owner, "ada", EMAIL)
    for number in range(4):
        sign_up(at(app, STRANGER), f"eve{number}", EMAIL)
    for number in range(3):
        sign_up(at(app, f"192.0.2.{number}"), f"mallory{number}", EMAIL)
    before = len(outbox.texts(EMAIL))
    assert resend(owner).status_code == 204
    [own] = outbox.texts(EMAIL)[before:]

    assert re.findall(r"用户名：(\w+)", own) == ["ada"]


def test_nobody_keeps_another_network_out_of_a_mail(app, outbox: Outbox):
    owner = at(app, OWNER)
    sign_up(owner, "ada", EMAIL)
    for number in range(4):
        sign_up(at(app, STRANGER), f"eve{number}", EMAIL)
    assert resend(at(app, THIRD)).status_code == 204
    text = outbox.texts(EMAIL)[-1]

    assert re.findall(r"用户名：(\w+)", text) == ["eve3", "ada"]
    assert enter(at(app, THIRD), outbox.code(EMAIL, "ada")).status_code == 200


def test_no_mail_grows_with_what_strangers_ask_for(no_limits, app, outbox: Outbox):
    for number in range(9):
        sign_up(at(app, f"192.0.2.{number}"), f"mallory{number}", EMAIL)
    resend(at(app, THIRD))

    assert len(codes_in(outbox.texts(EMAIL)[-1:])) == 3


@pytest.mark.in_process("its passwords are busy because the test says so")
@pytest.mark.parametrize("refusal", ["limit", "busy"])
def test_an_owner_whose_sign_up_is_refused_never_has_the_strangers_password(
    app, outbox: Outbox, refusal: str
):
    """They ask for the codes again, and take the stranger's for their own."""
    owner = at(app, OWNER)
    app.extensions["passwords"] = passwords = BusyPasswords()
    passwords.busy = False
    if refusal == "limit":
        # As much as may be opened at an address in two days.
        for number, network in enumerate([1] * 4 + [2] * 4 + [3, 4]):
            sign_up(at(app, f"203.0.113.{network}"), f"eve{number}", EMAIL, OTHERS)
    sign_up(at(app, STRANGER), "ada", EMAIL, OTHERS)
    passwords.busy = refusal == "busy"
    assert sign_up(owner, "Ada", EMAIL, OWN).status_code == 429

    assert resend(owner).status_code == 204

    assert enter(owner, outbox.code(EMAIL, "ada")).status_code == 200
    assert not opens(app, EMAIL, OTHERS)


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_who_asks_again_and_is_refused_keeps_their_password(app, outbox: Outbox):
    owner = at(app, OWNER)
    sign_up(owner, "ada", EMAIL, OWN)
    app.extensions["passwords"] = BusyPasswords()
    assert sign_up(owner, "ada", EMAIL, OWN).status_code == 429

    assert enter(owner, outbox.code(EMAIL)).status_code == 200
    assert opens(app, EMAIL, OWN)
