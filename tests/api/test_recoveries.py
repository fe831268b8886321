"""/auth/recoveries"""

import re
from collections.abc import Callable

import pytest
from flask import Flask

from runtime.models.codes import Recovery
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import erasures, users
from tests.conftest import PASSWORD, Log, Outbox, Person, at_once
from tests.quick import BusyPasswords, quick_hash

NEW = "another horse entirely"
OWNER, STRANGER, THIRD = "198.51.100.10", "203.0.113.66", "192.0.2.30"


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


@pytest.fixture
def owner(app: Flask, alice: Person) -> Person:
    """Alice, on a network that she has not signed in from, without a token."""
    return Person(app.test_client(), OWNER, alice.email)


def at(app: Flask, network: str) -> Person:
    return Person(app.test_client(), network)


def recover(person: Person, email="alice@example.org", **more):
    return person.post("/auth/recoveries", {"email": email, **more})


def verify(person: Person, code: str, email="alice@example.org", password=NEW):
    body = {"email": email, "token": code, "password": password}
    return person.post("/auth/recoveries/verify", body)


def sign_in(person: Person, password: str, email="alice@example.org"):
    return person.post("/auth/sessions", {"email": email, "password": password})


def other_than(*known: str) -> str:
    return next(code for code in map("{:06}".format, range(10)) if code not in known)


# The way it is meant to go


def test_a_mailed_code_sets_a_password_and_signs_in(owner: Person, outbox: Outbox):
    asked = recover(owner, "Alice@Example.org")
    answer = verify(owner, outbox.code("alice@example.org"))

    assert (asked.status_code, asked.json) == (202, {"email": "Alice@Example.org"})
    assert answer.status_code == 200
    assert answer.json.keys() == {
        "access_token",
        "refresh_token",
        "expires_in",
        "token_type",
        "user",
    }
    owner.tokens = answer.json
    assert owner.get("/users/me").json["username"] == "alice"
    owner.tokens = {}
    assert sign_in(owner, NEW).status_code == 200
    assert sign_in(owner, PASSWORD).status_code == 401


def test_a_recovery_ends_every_session(alice: Person, owner: Person, outbox: Outbox):
    other = Person(alice.client, THIRD, tokens=sign_in(owner, PASSWORD).json)
    recover(owner)
    verify(owner, outbox.code(alice.email))

    for person in (alice, other):
        assert person.get("/users/me").status_code == 401
        assert person.refresh().status_code == 401


def test_the_owner_is_told_and_reads_of_it(owner: Person, outbox: Outbox):
    recover(owner)
    owner.tokens = verify(owner, outbox.code(owner.email)).json

    notice = outbox.texts(owner.email)[-1]
    assert "设置了新密码" in notice
    assert OWNER in notice
    [event, *_] = owner.get("/users/me/events").json["events"]
    assert (event["type"], event["network"]) == ("password_reset", OWNER)


def test_the_mail_says_who_asked_and_leads_where_redirect_to_says(
    settings: dict, serve: Callable, member, outbox: Outbox
):
    app = serve({**settings, "REDIRECT_ALLOWLIST": "https://app.example.org"})
    member("alice")
    asker = at(app, STRANGER)
    asker.language = "en"

    assert recover(asker, redirect_to="https://evil.example/").status_code == 422
    recover(asker, redirect_to="https://app.example.org/recover?a=1")

    [text] = outbox.texts("alice@example.org")
    code = outbox.code("alice@example.org")
    link = f"https://app.example.org/recover?a=1&email=alice%40example.org&token={code}"
    assert link in text.splitlines()
    assert STRANGER in text
    assert "Username: alice" in text


def test_codes_are_mailed_to_the_address_that_the_account_has(owner: Person, outbox: Outbox):
    """Two that differ in case alone may be two mailboxes."""
    recover(owner, "ALICE@EXAMPLE.ORG")

    assert [mail["To"] for mail in outbox.mails()] == ["alice@example.org"]


NONSENSE = [
    ({"password": "12345"}, "#/password"),
    ({"password": "x" * 129}, "#/password"),
    ({"password": None}, "#/password"),
    ({"token": "12345"}, "#/token"),
    ({"email": "alice"}, "#/email"),
    ({"username": "alice"}, "#/username"),
]


@pytest.mark.parametrize(("change", "pointer"), NONSENSE)
def test_a_recovery_that_makes_no_sense_is_refused(app: Flask, owner: Person, change, pointer):
    body = {"email": owner.email, "token": "123456", "password": NEW, **change}
    answer = owner.post("/auth/recoveries/verify", body)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


# What a code is good for


def test_a_code_is_good_once(owner: Person, outbox: Outbox):
    recover(owner)
    code = outbox.code(owner.email)

    assert [verify(owner, code).status_code for _ in range(2)] == [200, 401]


def test_a_code_is_good_for_ten_minutes(no_limits, app, owner, outbox: Outbox, clock):
    recover(owner)
    code = outbox.code(owner.email)
    clock.advance(minutes=10)
    assert verify(owner, code).status_code == 401

    recover(owner)
    clock.advance(minutes=9, seconds=59)
    assert verify(owner, outbox.code(owner.email)).status_code == 200


def test_a_recovery_makes_all_other_codes_worthless(app, owner: Person, outbox: Outbox):
    recover(owner)
    first = outbox.code(owner.email)
    recover(at(app, THIRD))
    second = outbox.code(owner.email)

    assert verify(owner, first).status_code == 200
    assert verify(at(app, THIRD), second).status_code == 401
    assert verify(at(app, STRANGER), second).status_code == 401


def test_a_code_is_good_for_nothing_else(no_limits, app, owner, outbox: Outbox):
    """Neither is one that was mailed for a sign-up good for a recovery."""
    details = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}
    recover(owner)
    for_recovery = outbox.code(owner.email)
    owner.post("/auth/verifications", details)
    for_sign_up = outbox.code("ada@example.org")
    owner.post("/auth/verifications", {**details, "username": "adele", "email": owner.email})
    recover(owner, "ada@example.org")

    body = {"email": owner.email, "token": for_recovery}
    assert owner.post("/auth/verifications/verify", body).status_code == 401
    assert verify(owner, for_sign_up, "ada@example.org").status_code == 401
    assert verify(owner, for_sign_up).status_code == 401
    assert verify(owner, for_recovery).status_code == 200


def test_a_code_can_be_tried_five_times(owner: Person, outbox: Outbox):
    recover(owner)
    code = outbox.code(owner.email)

    assert [verify(owner, other_than(code)).status_code for _ in range(5)] == [401] * 5
    assert verify(owner, code).status_code == 401


def test_strangers_use_up_nothing_that_the_owner_needs(app, owner, outbox: Outbox):
    recover(owner)
    code = outbox.code(owner.email)
    for host in range(1, 20):
        opener = at(app, f"203.0.113.{host}")
        assert recover(opener).status_code in (202, 429)
        for person in (opener, at(app, f"192.0.2.{host}")):
            for _ in range(6):
                assert verify(person, other_than(code)).status_code in (401, 429)

    assert verify(owner, code).status_code == 200


def test_tries_at_other_codes_are_counted_apart(no_limits, app, owner, outbox: Outbox):
    """Who burns the tries at a sign-up has burnt none at a recovery of the same address."""
    recover(owner)
    code = outbox.code(owner.email)
    wrong = {"email": owner.email, "token": other_than(code)}
    while at(app, STRANGER).post("/auth/verifications/verify", wrong).status_code != 429:
        pass

    assert verify(at(app, THIRD), code).status_code == 200


def test_a_network_that_has_signed_in_has_a_way_in_while_others_flood(app, alice, owner):
    for host in range(1, 9):
        assert recover(at(app, f"203.0.113.{host}")).status_code == 202
    assert recover(owner).status_code == 429

    assert recover(at(app, alice.network)).status_code == 202


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_a_busy_server_does_not_use_up_the_code(app: Flask, owner: Person, outbox: Outbox):
    recover(owner)
    code = outbox.code(owner.email)
    app.extensions["passwords"] = passwords = BusyPasswords()
    for _ in range(6):
        answer = verify(owner, code)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")

    passwords.busy = False

    assert verify(owner, code).status_code == 200


def test_a_password_that_nobody_may_have_uses_up_no_try(owner: Person, outbox: Outbox):
    recover(owner)
    code = outbox.code(owner.email)
    for _ in range(6):
        assert verify(owner, code, password="Alice").status_code == 422
        assert verify(owner, code, password="alice1").status_code == 422

    assert verify(owner, code).status_code == 200


def test_a_recovery_confirms_the_address(app, owner: Person, outbox: Outbox):
    with app.app_context():
        User.update(email_confirmed_at=None).execute()
    recover(owner)
    owner.tokens = verify(owner, outbox.code(owner.email)).json

    found = owner.get(f"/auth/users?email={owner.email}").json
    assert found["email_confirmed_at"]


def test_a_recovery_leaves_when_the_address_was_confirmed(app, owner, outbox, clock):
    with app.app_context():
        before = User.find_by_email(owner.email).email_confirmed_at
    clock.advance(hours=1)
    recover(owner)
    verify(owner, outbox.code(owner.email))

    with app.app_context():
        assert User.find_by_email(owner.email).email_confirmed_at == before


def test_five_presses_are_one_recovery_with_one_code_that_works(app, owner, outbox):
    for _ in range(5):
        recover(owner)
        # Mails of one moment are sent in no order.
        code = outbox.code(owner.email)

    with app.app_context():
        assert Recovery.select().count() == 1
    assert [verify(owner, other_than(code)).status_code for _ in range(4)] == [401] * 4
    assert verify(owner, code).status_code == 200


def test_who_used_up_their_tries_is_told_to_begin_again_and_can(owner, outbox: Outbox):
    recover(owner)
    code = outbox.code(owner.email)
    told = [verify(owner, other_than(code)).json["detail"] for _ in range(5)]
    assert told == ["验证码无效或已过期"] * 4 + ["验证码已输错太多次，不再有效，请重新开始"]
    assert verify(owner, code).json["detail"] == told[-1]

    recover(owner)
    assert verify(owner, outbox.code(owner.email)).status_code == 200


def test_neither_code_nor_password_is_in_the_log(owner: Person, outbox, log: Log):
    recover(owner)
    code = outbox.code(owner.email)
    verify(owner, other_than(code))
    verify(owner, code, password="a password to look for")

    assert "password_reset" in log.text
    assert code not in re.sub(r"[0-9a-f-]{32,36}|\.\d+|\"duration.*?,", "", log.text)
    assert "a password to look for" not in log.text


# Nobody learns whether an address has an account


@pytest.fixture
def kinds(app: Flask, alice: Person, member) -> dict[str, Person]:
    """Addresses of every kind, equally long, each asked for from a network of its own."""
    waits = {"username": "waits", "email": "waits@example.org", "password": PASSWORD}
    at(app, THIRD).post("/auth/verifications", waits)
    for name in ("shut_", "gone_"):
        member(name)
    with app.app_context():
        users.disable(User.find_by_email("shut_@example.org"))
        erasures.erase(User.find_by_email("gone_@example.org"))
        User.update(password_hash=quick_hash(PASSWORD)).execute()
    names = ["alice", "waits", "nobdy", "shut_", "gone_"]
    return {f"{name}@example.org": at(app, f"192.0.2.{n}") for n, name in enumerate(names)}


def told(answer, email: str) -> tuple:
    headers = [(name, value) for name, value in answer.headers if name != "X-Request-ID"]
    return answer.status_code, headers, answer.text.replace(email, "…")


def test_all_addresses_get_the_same_answers_and_meet_the_same_limits(kinds: dict):
    def story(email: str, person: Person) -> list[tuple]:
        answers = [verify(person, "123456", email) for _ in range(2)]
        answers += [recover(person, email) for _ in range(10)]
        answers += [verify(person, "123456", email) for _ in range(12)]
        return [told(answer, email)[:1] + told(answer, email)[2:] for answer in answers]

    stories = [story(email, person) for email, person in kinds.items()]

    assert all(each == stories[0] for each in stories)
    statuses = [status for status, _text in stories[0]]
    assert statuses == [401] * 2 + [202] * 8 + [429] * 2 + [401] * 12
    assert [text for _status, text in stories[0]][-8] != [text for _status, text in stories[0]][-9]


def test_all_addresses_get_the_same_headers(kinds: dict):
    for ask in (recover, lambda person, email: verify(person, "123456", email)):
        answers = [told(ask(person, email), email) for email, person in kinds.items()]
        assert all(answer == answers[0] for answer in answers)


def test_all_addresses_meet_the_same_limits_from_many_networks(app: Flask, kinds: dict):
    """But for one that somebody had a mail sent to a moment ago, with or without an account."""
    del kinds["waits@example.org"]

    def story(number: int, email: str) -> list[int]:
        everybody = [at(app, f"10.{number}.0.{host}") for host in range(1, 23)]
        answers = [recover(person, email) for person in everybody]
        answers += [verify(person, "123456", email) for person in everybody]
        answers += [verify(at(app, f"10.{number}.1.1"), "123456", email) for _ in range(7)]
        return [answer.status_code for answer in answers]

    stories = [story(number, email) for number, email in enumerate(kinds)]

    assert all(each == stories[0] for each in stories)
    assert stories[0][:22] == [202] * 8 + [429] * 14


def test_only_accounts_get_mail(kinds: dict, outbox: Outbox):
    before = len(outbox.mails())
    for email, person in kinds.items():
        recover(person, email)

    assert [mail["To"] for mail in outbox.mails()[before:]] == ["alice@example.org"]


@pytest.mark.parametrize("shut", [users.disable, erasures.erase])
def test_a_code_is_dead_once_its_account_is_shut(app, owner, outbox: Outbox, shut):
    recover(owner)
    code = outbox.code(owner.email)
    with app.app_context():
        shut(User.find_by_email(owner.email))

    assert verify(owner, code).status_code == 401


# At once


def test_two_recoveries_at_once_have_one_outcome(no_limits, app, alice, outbox: Outbox):
    for round_ in range(5):
        first, second = at(app, f"192.0.2.{round_}"), at(app, f"192.0.3.{round_}")
        recover(first)
        one = outbox.code(alice.email)
        recover(second)
        two = outbox.code(alice.email)

        answers = at_once(
            lambda p=first, code=one, n=round_: verify(p, code, password=f"first of {n}"),
            lambda p=second, code=two, n=round_: verify(p, code, password=f"second of {n}"),
        )

        assert sorted(answer.status_code for answer in answers) == [200, 401]
        won = ["first", "second"][answers[1].status_code == 200]
        words = [f"first of {round_}", f"second of {round_}"]
        opens = [sign_in(at(app, THIRD), word).status_code for word in words]
        assert opens == ([200, 401] if won == "first" else [401, 200])


def test_one_code_many_times_at_once_gives_one_session(no_limits, app, owner, outbox):
    recover(owner)
    code = outbox.code(owner.email)

    answers = at_once(*(lambda: verify(at(app, OWNER), code) for _ in range(20)))

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429}
    with app.app_context():
        assert Session.select().where(Session.ended_at.is_null()).count() == 1


def test_no_session_for_the_old_password_survives_a_recovery(no_limits, app, alice, outbox):
    """However the two fall together, whoever knew only the old password is out."""
    known = PASSWORD
    for round_ in range(10):
        recover(owner := at(app, f"192.0.2.{round_}"))
        code = outbox.code(alice.email)
        fresh = f"password number {round_}"

        *signed_in, answer = at_once(
            *(lambda word=known: sign_in(at(app, STRANGER), word) for _ in range(3)),
            lambda owner=owner, code=code, word=fresh: verify(owner, code, password=word),
        )

        assert answer.status_code == 200
        assert {each.status_code for each in signed_in} <= {200, 401}
        for each in signed_in:
            if each.status_code == 200:
                thief = Person(app.test_client(), STRANGER, tokens=each.json)
                assert thief.get("/users/me").status_code == 401
        with app.app_context():
            assert Session.select().where(Session.ended_at.is_null()).count() == 1
        known = fresh


def test_a_recovery_that_waits_is_kept_as_a_keyed_hash(app: Flask, owner: Person, outbox: Outbox):
    recover(owner)

    with app.app_context():
        [row] = Recovery.select().tuples()
    assert outbox.code(owner.email) not in map(str, row)


def test_who_asked_four_times_and_mistypes_has_tries_left(app: Flask, alice, outbox: Outbox):
    owner = at(app, "192.0.2.30")
    for _ in range(4):
        assert recover(owner).status_code == 202
        code = outbox.code(alice.email)
    wrong = other_than(code)

    assert [verify(owner, wrong).status_code for _ in range(4)] == [401] * 4
    assert verify(owner, code).status_code == 200
