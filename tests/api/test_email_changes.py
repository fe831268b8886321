"""/users/me/email, and /auth/email-restorations"""

import re
from collections.abc import Callable

import pytest
from flask import Flask

from runtime.models.codes import EmailChange, Recovery, SignUp
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import erasures, users
from tests.conftest import PASSWORD, Outbox, Person, at_once

NEW = "new@example.org"
OLD = "alice@example.org"
ELSEWHERE, THIRD = "203.0.113.66", "192.0.2.30"
WRONG = "验证码无效或已过期"
USED_UP = "验证码已输错太多次，不再有效，请重新开始"


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


def at(app: Flask, network: str) -> Person:
    return Person(app.test_client(), network)


def ask(person: Person, email=NEW, password=PASSWORD, **more):
    body = {"email": email, "current_password": password, **more}
    return person.post("/users/me/email", body)


def verify(person: Person, code: str, email=NEW):
    return person.post("/users/me/email/verify", {"email": email, "token": code})


def restore(person: Person, token: str):
    return person.post("/auth/email-restorations", {"token": token})


def sign_in(person: Person, email: str, password=PASSWORD):
    return person.post("/auth/sessions", {"email": email, "password": password})


def change(person: Person, outbox: Outbox, email=NEW):
    assert ask(person, email).status_code == 202
    answer = verify(person, outbox.code(email), email)
    assert answer.status_code == 200
    person.tokens = answer.json
    return answer


def way_back(outbox: Outbox, email=OLD, number=-1) -> str:
    """The token in a mail to an old address, the last one that has one unless told."""
    found = [re.search(r"撤销码：(\S+)", text) for text in outbox.texts(email)]
    return [match[1] for match in found if match][number]


def other_than(*known: str) -> str:
    return next(code for code in map("{:06}".format, range(10)) if code not in known)


def email_of(app: Flask, username="alice") -> str:
    with app.app_context():
        return User.find_by_username(username).email


# The way it is meant to go


def test_a_mailed_code_changes_the_address(app, alice: Person, outbox: Outbox):
    asked = ask(alice, "New@Example.org")
    assert email_of(app) == OLD
    answer = verify(alice, outbox.code("New@Example.org"), "new@example.ORG")

    assert (asked.status_code, asked.json) == (202, {"email": "New@Example.org"})
    assert answer.status_code == 200
    assert answer.json["user"] == {"id": alice.id, "email": "New@Example.org"}
    alice.tokens = answer.json
    own = alice.get("/auth/users", query_string={"email": "new@example.org"}).json
    assert own["email_confirmed_at"]
    assert sign_in(at(app, THIRD), NEW).status_code == 200
    assert sign_in(at(app, THIRD), OLD).status_code == 401


def test_every_token_made_before_is_dead_and_the_answers_are_good(app, alice, bob, outbox: Outbox):
    other, thief = at(app, THIRD), at(app, THIRD)
    other.tokens = sign_in(other, OLD).json
    thief.tokens = dict(alice.tokens)
    change(alice, outbox)

    for each in (other, thief):
        for _ in range(4):
            assert each.get("/users/me").status_code == 401
            assert each.get("/users/me/export").status_code == 401
            assert each.refresh().status_code == 401
    assert alice.get("/users/me").status_code == 200
    assert len(alice.get("/auth/sessions").json["sessions"]) == 1
    assert alice.refresh().json["user"]["email"] == NEW
    assert bob.get("/users/me").status_code == 200


def test_the_old_address_is_told_when_it_is_asked_for_and_when_it_is_done(
    alice: Person, outbox: Outbox
):
    ask(alice)
    [asked] = outbox.texts(OLD)
    verify(alice, outbox.code(NEW))
    [_, done] = outbox.texts(OLD)

    for text in (asked, done):
        assert NEW in text
        assert "撤销码" in text
        assert f"网络：{alice.network}" in text
        assert not re.search(r"验证码：", text)
    assert "撤销码" not in "".join(outbox.texts(NEW))


def test_the_journal_says_so(alice: Person, outbox: Outbox):
    ask(alice)
    verify(alice, other_than(outbox.code(NEW)))
    alice.tokens = verify(alice, outbox.code(NEW)).json
    outbox.mails()

    kinds = {event["type"] for event in alice.get("/users/me/events").json["events"]}
    assert {"email_change_requested", "code_refused", "email_changed"} <= kinds


def test_the_links_lead_where_redirect_to_says_and_home(
    settings, serve, member, ground, outbox: Outbox
):
    places = {"REDIRECT_ALLOWLIST": "https://app.example.org", "APP_URL": "https://home.example/"}
    app = serve({**settings, **places})
    alice = member("alice")
    alice.client = app.test_client()
    assert ask(alice, redirect_to="https://evil.example/").status_code == 422
    ask(alice, redirect_to="https://app.example.org/email")

    [to_new], [to_old] = outbox.texts(NEW), outbox.texts(OLD)
    there, home = "https://app.example.org/email?email=", "https://home.example/?email="
    assert f"{there}new%40example.org&token={outbox.code(NEW)}" in to_new.splitlines()
    assert f"{home}alice%40example.org&restoration={way_back(outbox)}" in to_old.splitlines()
    assert "app.example.org" not in to_old


def test_a_wrong_password_changes_nothing(app, alice: Person, outbox: Outbox):
    answer = ask(alice, password="not the password")

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["#/current_password"]
    assert outbox.mails() == []
    assert alice.get("/users/me").status_code == 200


@pytest.mark.parametrize("email", [OLD, OLD.upper()])
def test_ones_own_address_is_no_other(alice: Person, email: str):
    answer = ask(alice, email)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["#/email"]


def test_nobody_changes_an_address_without_a_token(stranger: Person):
    assert ask(stranger).status_code == 401
    assert verify(stranger, "123456").status_code == 401


# What a code is good for


def test_only_who_asked_can_use_the_code(alice, bob: Person, outbox: Outbox):
    ask(alice)
    code = outbox.code(NEW)

    assert verify(bob, code).status_code == 422
    assert verify(alice, code, OLD).status_code == 422
    answer = verify(alice, code)
    assert answer.status_code == 200
    alice.tokens = answer.json
    assert verify(alice, code).status_code == 422


def test_a_code_is_good_for_nothing_else(app, alice: Person, outbox: Outbox):
    ask(alice)
    code = outbox.code(NEW)
    other = at(app, THIRD)
    other.post("/auth/recoveries", {"email": OLD})
    for_recovery = outbox.code(OLD)

    body = {"email": NEW, "token": code, "password": "another password"}
    assert other.post("/auth/recoveries/verify", body).status_code == 401
    body = {"email": NEW, "token": code}
    assert other.post("/auth/verifications/verify", body).status_code == 401
    assert verify(alice, for_recovery).status_code == 422
    assert verify(alice, for_recovery, OLD).status_code == 422


def test_a_code_can_be_tried_five_times(alice: Person, outbox: Outbox):
    ask(alice)
    code = outbox.code(NEW)

    answers = [verify(alice, other_than(code)) for _ in range(5)] + [verify(alice, code)]

    assert [answer.status_code for answer in answers] == [422] * 6
    assert {answer.json["errors"][0]["pointer"] for answer in answers} == {"#/token"}
    sentences = [answer.json["detail"] for answer in answers]
    assert sentences == [WRONG] * 4 + [USED_UP] * 2
    assert ask(alice).status_code == 202
    assert verify(alice, outbox.code(NEW)).status_code == 200


def test_a_code_is_good_for_ten_minutes(alice: Person, outbox: Outbox, clock):
    ask(alice)
    code = outbox.code(NEW)
    clock.advance(minutes=10)

    assert verify(alice, code).status_code == 422


def test_guesses_of_many_accounts_at_one_address_are_bounded(
    no_limits, app, member, outbox: Outbox
):
    """Eleven may open what can be tried there, also without limits: five tries each."""
    people = [member(f"eve{number}", f"192.0.2.{number}") for number in range(16)]
    for person in people:
        ask(person)
    codes = re.findall(r"验证码：(\d{6})", "".join(outbox.texts(NEW)))
    sentences = [verify(p, other_than(*codes)).json["detail"] for p in people for _ in range(8)]

    assert sentences.count(WRONG) == 11 * 4
    assert sentences.count(USED_UP) == 11 * 4 + 5 * 8


@pytest.mark.parametrize(
    "shut",
    [
        lambda app, alice: alice.request(
            "PUT",
            "/users/me/password",
            json={"current_password": PASSWORD, "password": "another password"},
        ),
        lambda app, alice: recovered(app, alice),
    ],
    ids=["password", "recovery"],
)
def test_a_code_is_dead_once_the_password_was_replaced(app, alice, outbox, shut: Callable):
    ask(alice)
    code = outbox.code(NEW)
    alice.outbox = outbox
    shut(app, alice)
    if alice.get("/users/me").status_code == 401:
        alice.tokens = sign_in(at(app, THIRD), OLD, "another password").json

    assert verify(alice, code).status_code == 422
    assert email_of(app) == OLD


def recovered(app: Flask, alice: Person) -> None:
    other = at(app, THIRD)
    other.post("/auth/recoveries", {"email": OLD})
    body = {"email": OLD, "token": alice.outbox.code(OLD), "password": "another password"}
    assert other.post("/auth/recoveries/verify", body).status_code == 200


def test_all_other_codes_are_dead_once_the_address_was_changed(app, alice, outbox: Outbox):
    at(app, THIRD).post("/auth/recoveries", {"email": OLD})
    for_recovery = outbox.code(OLD)
    details = {"username": "ada", "email": NEW, "password": PASSWORD}
    at(app, THIRD).post("/auth/verifications", details)
    for_sign_up = outbox.code(NEW)
    ask(alice, "third@example.org")
    for_third = outbox.code("third@example.org")
    change(alice, outbox)

    body = {"email": OLD, "token": for_recovery, "password": "another password"}
    assert at(app, THIRD).post("/auth/recoveries/verify", body).status_code == 401
    body = {"email": NEW, "token": for_sign_up}
    assert at(app, THIRD).post("/auth/verifications/verify", body).status_code == 401
    assert verify(alice, for_third, "third@example.org").status_code == 422


# Nobody learns whether an address has an account


@pytest.fixture
def kinds(app: Flask, member, bob: Person) -> list[str]:
    """Addresses of every kind, equally long."""
    waits = {"username": "wai", "email": "wai@example.org", "password": PASSWORD}
    at(app, THIRD).post("/auth/verifications", waits)
    for name in ("shu", "gon"):
        member(name)
    with app.app_context():
        users.disable(User.find_by_email("shu@example.org"))
        erasures.erase(User.find_by_email("gon@example.org"))
    return [f"{name}@example.org" for name in ("bob", "wai", "nob", "shu", "gon")]


def test_all_addresses_get_the_same_answers_and_meet_the_same_limits(kinds, member, ground, app):
    people = [member(f"asker{number}", f"192.0.3.{number}") for number in range(5)]

    def story(person: Person, email: str) -> list[tuple]:
        answers = [verify(person, "123456", email)]
        answers += [ask(person, email) for _ in range(8)]
        answers += [verify(person, "123456", email) for _ in range(4)]
        return [
            (
                answer.status_code,
                [each for each in answer.headers if each[0] != "X-Request-ID"],
                answer.text.replace(email, "…"),
            )
            for answer in answers
        ]

    stories = [story(person, email) for person, email in zip(people, kinds, strict=True)]

    def without_waits(story: list) -> list:
        return [(status, len(headers), text) for status, headers, text in story]

    assert all(without_waits(each) == without_waits(stories[0]) for each in stories)
    assert [status for status, *_ in stories[0]][:9] == [422, *[202] * 6, 429, 429]


def test_the_owner_of_the_address_is_told_and_gets_no_code(alice, bob, outbox: Outbox):
    ask(alice, bob.email)

    [text] = outbox.texts(bob.email)
    assert "已经有账号" in text
    assert not re.search(r"\b\d{6}\b", text)


def test_an_address_that_was_taken_meanwhile_is_as_a_wrong_code(app, alice, member, outbox: Outbox):
    ask(alice)
    code = outbox.code(NEW)
    with app.app_context():
        User.create(username="quick", email=NEW.upper(), password_hash="-")
    wrong, right = verify(alice, other_than(code)), verify(alice, code)

    assert (right.status_code, right.data) == (wrong.status_code, wrong.data)
    assert right.json["detail"] == WRONG
    assert email_of(app) == OLD
    assert alice.get("/users/me").status_code == 200


def test_two_accounts_that_change_to_one_address_at_once_give_it_to_one(
    app, alice: Person, bob: Person, outbox: Outbox
):
    mailed = {}
    for person in (alice, bob):
        ask(person)
        mailed[person.email] = outbox.code(NEW)

    answers = at_once(*(lambda p=p: verify(p, mailed[p.email]) for p in (alice, bob)))

    assert sorted(answer.status_code for answer in answers) == [200, 422]
    assert sorted([email_of(app) == NEW, email_of(app, "bob") == NEW]) == [False, True]


def test_a_change_and_a_sign_up_at_once_give_the_address_to_one(app, alice: Person, outbox: Outbox):
    for number in range(5):
        email = f"new{number}@example.org"
        ask(alice, email)
        for_change = outbox.code(email)
        newcomer = at(app, f"192.0.2.{number}")
        details = {"username": f"newcomer{number}", "email": email, "password": PASSWORD}
        newcomer.post("/auth/verifications", details)
        body = {"email": email, "token": outbox.code(email)}

        answers = at_once(
            lambda email=email, code=for_change: verify(alice, code, email),
            lambda body=body, p=newcomer: p.post("/auth/verifications/verify", body),
        )

        assert sorted(answer.status_code for answer in answers) in ([200, 401], [200, 422])
        if answers[0].status_code == 200:
            alice.tokens = answers[0].json


def test_one_code_many_times_at_once_changes_the_address_once(app, alice, outbox: Outbox):
    ask(alice)
    code = outbox.code(NEW)

    answers = at_once(*(lambda: verify(alice, code) for _ in range(10)))

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 1
    # The session of who comes last has ended by then.
    assert set(statuses) <= {200, 401, 422, 429}


# The way back


def test_the_old_address_takes_the_account_back(app, alice: Person, outbox: Outbox):
    change(alice, outbox)
    owner = at(app, ELSEWHERE)

    answer = restore(owner, way_back(outbox))

    assert (answer.status_code, answer.data) == (204, b"")
    assert email_of(app) == OLD
    assert alice.get("/users/me").status_code == 401
    assert alice.refresh().status_code == 401
    for email in (OLD, NEW):
        assert sign_in(at(app, THIRD), email).status_code == 401
        assert "已恢复" in [mail["Subject"] for mail in outbox.mails() if mail["To"] == email][-1]
    owner.post("/auth/recoveries", {"email": OLD})
    body = {"email": OLD, "token": outbox.code(OLD), "password": "another password"}
    owner.tokens = owner.post("/auth/recoveries/verify", body).json
    kinds = [event["type"] for event in owner.get("/users/me/events").json["events"]]
    assert "email_change_undone" in kinds


def test_the_key_of_either_mail_leads_back_and_once(app, alice, outbox: Outbox):
    change(alice, outbox)
    first, second = (way_back(outbox, number=number) for number in (0, 1))

    assert restore(at(app, THIRD), first).status_code == 204
    again = restore(at(app, THIRD), second)
    assert (again.status_code, again.json["detail"]) == (401, WRONG)


def test_a_neighbours_wrong_codes_do_not_close_the_way_back(app, alice, outbox: Outbox):
    change(alice, outbox)
    neighbour = at(app, ELSEWHERE)
    for number in range(101):
        body = {"email": f"u{number}@example.org", "token": "000000"}
        answer = neighbour.post("/auth/verifications/verify", body)
    assert answer.status_code == 429
    assert {restore(neighbour, f"{number}.x").status_code for number in range(110)} == {401}

    assert restore(at(app, ELSEWHERE), way_back(outbox)).status_code == 204


def test_a_change_asked_for_again_is_the_same_with_a_new_code(app, alice, outbox: Outbox):
    for _ in range(3):
        ask(alice)
    with app.app_context():
        assert EmailChange.select().count() == 1
    assert verify(alice, outbox.code(NEW)).status_code == 200
    assert restore(at(app, THIRD), way_back(outbox, number=0)).status_code == 204


def test_a_change_that_still_waits_can_be_stopped(app, alice: Person, outbox: Outbox):
    ask(alice)
    code = outbox.code(NEW)
    assert restore(at(app, THIRD), way_back(outbox)).status_code == 204

    alice.tokens = {}
    assert sign_in(alice, OLD).status_code == 401
    with app.app_context():
        assert Session.select().where(Session.ended_at.is_null()).count() == 0
        assert EmailChange.select().count() == 0
    assert email_of(app) == OLD
    assert code


def test_a_thief_who_changes_it_again_is_undone_by_the_first_key(app, alice, outbox):
    """And has no key that leads back in turn, nor does another password help."""
    change(alice, outbox)
    change(alice, outbox, "third@example.org")
    body = {"current_password": PASSWORD, "password": "the thief's own"}
    assert alice.request("PUT", "/users/me/password", json=body).status_code == 200
    thiefs = way_back(outbox, NEW)

    assert restore(at(app, THIRD), way_back(outbox)).status_code == 204
    assert email_of(app) == OLD
    assert restore(at(app, THIRD), thiefs).status_code == 401
    assert email_of(app) == OLD


def test_an_earlier_key_outlives_a_later_one(app, alice: Person, outbox: Outbox):
    change(alice, outbox)
    change(alice, outbox, "third@example.org")

    assert restore(at(app, THIRD), way_back(outbox, NEW)).status_code == 204
    assert email_of(app) == NEW
    assert restore(at(app, THIRD), way_back(outbox)).status_code == 204
    assert email_of(app) == OLD


def test_the_way_back_is_open_for_seven_days(app, alice: Person, outbox: Outbox, clock):
    change(alice, outbox)
    clock.advance(days=7, minutes=-1)
    assert restore(at(app, THIRD), way_back(outbox)).status_code == 204


def test_the_way_back_closes_after_seven_days(app, alice: Person, outbox: Outbox, clock):
    change(alice, outbox)
    clock.advance(days=7, minutes=11)
    assert restore(at(app, THIRD), way_back(outbox)).status_code == 401


def test_an_old_address_that_somebody_else_has_by_now_is_not_taken_from_them(
    app, alice: Person, outbox: Outbox
):
    change(alice, outbox)
    with app.app_context():
        User.create(username="quick", email=OLD, password_hash="-")

    assert restore(at(app, THIRD), way_back(outbox)).status_code == 401
    assert email_of(app) == NEW
    assert alice.get("/users/me").status_code == 200


@pytest.mark.parametrize("shut", [users.disable, erasures.erase])
def test_the_way_back_is_closed_to_a_shut_account(app, alice, outbox: Outbox, shut):
    change(alice, outbox)
    with app.app_context():
        shut(User.find_by_email(NEW))

    assert restore(at(app, THIRD), way_back(outbox)).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "a.b", "7d0e6f0a6df54f4f9a7c6f7b0b6b0f7e.AAAA", "é"])
def test_a_key_that_means_nothing_is_refused(stranger: Person, token: str):
    assert restore(stranger, token).status_code == 401


def test_no_other_token_leads_back(alice: Person, outbox: Outbox, stranger: Person):
    change(alice, outbox)

    for token in (alice.tokens["access_token"], alice.tokens["refresh_token"]):
        assert restore(stranger, token).status_code == 401


def test_a_change_and_its_way_back_at_once_end_at_the_old_address(
    no_limits, app, member, outbox: Outbox
):
    for number in range(10):
        person = member(f"ada{number}")
        new = f"new{number}@example.org"
        ask(person, new)
        code, token = outbox.code(new), way_back(outbox, person.email)

        verified, restored = at_once(
            lambda p=person, code=code, new=new: verify(p, code, new),
            lambda token=token: restore(at(app, THIRD), token),
        )

        assert restored.status_code == 204
        assert verified.status_code in (200, 401, 422)
        assert email_of(app, f"ada{number}") == person.email
        assert person.get("/users/me").status_code == 401


def test_the_keys_of_owner_and_thief_at_once_end_at_the_owners(
    no_limits, app, member, outbox: Outbox
):
    for number in range(10):
        person = member(f"ada{number}")
        stolen, further = f"stolen{number}@example.org", f"further{number}@example.org"
        change(person, outbox, stolen)
        change(person, outbox, further)
        keys = way_back(outbox, person.email), way_back(outbox, stolen)

        answers = at_once(*(lambda key=key: restore(at(app, THIRD), key) for key in keys))

        assert answers[0].status_code == 204
        assert answers[1].status_code in (204, 401)
        assert email_of(app, f"ada{number}") == person.email


def test_an_erased_account_leaves_none_of_its_addresses(app, alice, bob, outbox: Outbox):
    at(app, THIRD).post("/auth/recoveries", {"email": OLD})
    change(alice, outbox)
    at(app, THIRD).post("/auth/recoveries", {"email": NEW})
    ask(bob, NEW)
    outbox.mails()
    with app.app_context():
        erasures.erase(User.find_by_email(NEW))

        left = [str(list(kind.select().dicts())) for kind in (EmailChange, Recovery, SignUp)]
    assert not [email for email in (OLD, NEW) if email in "".join(left)]


def test_who_asked_four_times_and_mistypes_has_tries_left(app, alice, outbox: Outbox):
    for _ in range(4):
        assert ask(alice).status_code == 202
        code = outbox.code(NEW)

    assert [verify(alice, other_than(code)).status_code for _ in range(4)] == [422] * 4
    assert verify(alice, code).status_code == 200


def test_many_accounts_on_one_network_keep_nobody_from_an_address(
    no_limits, app, member, alice, outbox: Outbox
):
    others = [member(f"ada{number}", ELSEWHERE) for number in range(45)]
    for person in others:
        assert ask(person).status_code == 202
        for _ in range(2):
            assert verify(person, "000000").status_code in (422, 429)

    assert ask(alice).status_code == 202
    assert verify(alice, outbox.code(NEW)).status_code == 200
