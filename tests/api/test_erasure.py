"""DELETE /users/me"""

import re
from collections.abc import Callable
from functools import partial
from http.client import IncompleteRead
from pathlib import Path

import pytest
from flask import Flask
from peewee import sqlite3

from runtime.api.downloads import BrokenOff
from runtime.database.base import db
from runtime.models.allowances import Allowance
from runtime.models.chats import Chat, Run
from runtime.models.users import User
from runtime.services.accounts import users
from tests.conftest import PASSWORD, Outbox, Person, at_once
from tests.smtp_server import wait_until

pytestmark = pytest.mark.usefixtures("alice")


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


def delete(person: Person, password: str = PASSWORD):
    return person.delete("/users/me", {"current_password": password})


def sign_in(person: Person):
    return person.post("/auth/sessions", {"email": person.email, "password": PASSWORD})


def everything(app: Flask) -> str:
    """What stands in every column of every table, allowances' keyed hashes apart."""
    with app.app_context():
        tables = set(db.get_tables()) - {Allowance._meta.table_name}
        return str([db.execute_sql(f"SELECT * FROM {table}").fetchall() for table in tables])


def traces_of(person: Person) -> list[str]:
    return [person.email.split("@")[0], person.id, person.id.replace("-", ""), "her own words"]


def live(person: Person) -> None:
    person.patch("/users/me", {"bio": "her own words"})
    chat = person.chat("her own words").json["session_id"]
    person.chat("her own words again", chat)
    person.patch(f"/agent-chats/{chat}", {"title": "her own words"})
    person.get("/users/me/export")


def test_an_account_is_erased(app: Flask, alice: Person, bob: Person):
    live(alice)
    details = {"username": "mallory", "email": alice.email.upper(), "password": PASSWORD}
    bob.post("/auth/verifications", details)
    bob.patch("/users/me", {"bio": "his own words"})
    answer = delete(alice)

    assert (answer.status_code, answer.data) == (204, b"")
    left = everything(app).lower()
    assert not [trace for trace in [*traces_of(alice), "mallory"] if trace in left]
    assert "his own words" in left
    assert bob.get("/users/me").status_code == 200


@pytest.mark.in_process("the file is SQLite's")
def test_its_words_are_not_in_the_database_file(app: Flask, alice: Person, settings: dict):
    live(alice)
    path = settings["DATABASE_URL"].removeprefix("sqlite:///")

    def in_file() -> list[str]:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        files = [Path(path), *Path(path).parent.glob("*-wal")]
        text = b"".join(file.read_bytes() for file in files).lower()
        return [trace for trace in traces_of(alice) if trace.encode() in text]

    assert "her own words" in in_file()
    assert delete(alice).status_code == 204
    with app.app_context():
        db.close()
    # A thread that still reads, such as the one that mails, keeps SQLite from folding its log.
    assert wait_until(lambda: in_file() == [])


def test_a_wrong_password_erases_nothing(alice: Person):
    answer = delete(alice, "not the password")

    assert (answer.status_code, answer.json["detail"]) == (422, "当前密码错误")
    assert answer.json["errors"] == [
        {"pointer": "#/current_password", "code": "wrong_password", "detail": "当前密码错误"}
    ]
    assert alice.get("/users/me").status_code == 200
    assert alice.get("/users/me/export").json["events"][-1]["type"] == "signed_in"


def test_a_stolen_access_token_guesses_no_password(app: Flask, alice: Person):
    answers = [delete(alice, f"guess {number}") for number in range(10)]
    refused = delete(alice)

    assert {answer.status_code for answer in answers} == {422}
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 15 * 60
    owner = Person(app.test_client(), alice.network, alice.email)
    owner.tokens = sign_in(owner).json
    assert delete(owner).status_code == 204


@pytest.mark.parametrize(
    "body", [{}, {"current_password": None}, {"current_password": PASSWORD, "email": "x"}, []]
)
def test_a_body_that_makes_no_sense_erases_nothing(alice: Person, body):
    assert alice.delete("/users/me", body).status_code == 422
    assert alice.get("/users/me").status_code == 200


def test_it_is_for_who_is_signed_in(stranger: Person):
    assert delete(stranger).status_code == 401


def test_every_key_is_dead_afterwards(app: Flask, alice: Person, outbox):
    """On every worker, at the next request."""
    other = Person(app.test_client(), alice.network, alice.email)
    other.tokens = sign_in(other).json
    details = {"username": "alice2", "email": alice.email, "password": PASSWORD}
    other.post("/auth/verifications", details)
    assert delete(alice).status_code == 204

    for person in (alice, other):
        answers = [person.get("/users/me") for _ in range(10)]
        answers += [person.refresh() for _ in range(10)]
        answers += [person.chat("hello"), person.get("/users/me/export"), delete(person)]
        assert {answer.status_code for answer in answers} == {401}
    assert {sign_in(alice).status_code for _ in range(5)} == {401}
    guess = {"email": alice.email, "token": "000000"}
    assert alice.post("/auth/verifications/verify", guess).status_code == 401


def test_address_and_name_are_free_again(app: Flask, alice: Person, stranger: Person, outbox):
    delete(alice)
    details = {"username": "alice", "email": alice.email, "password": PASSWORD}
    stranger.post("/auth/verifications", details)
    code = {"email": alice.email, "token": outbox.code(alice.email)}

    signed_up = stranger.post("/auth/verifications/verify", code).json
    assert signed_up["user"]["id"] != alice.id


def test_many_runs_are_erased_in_steps(app: Flask, alice: Person, clock):
    now = clock.now()
    with app.app_context():
        for _ in range(3):
            chat = Chat.create(user=alice.id)
            rows = [{"chat": chat, "message": "x", "lease_until": now, "finished_at": now}] * 150
            Run.insert_many(rows).execute()

    assert delete(alice).status_code == 204
    with app.app_context():
        assert (Run.select().count(), Chat.select().count()) == (0, 0)


def test_of_deletions_at_once_all_end_well(app: Flask, alice: Person):
    live(alice)
    people = [Person(app.test_client(), "192.0.2.7", alice.email, alice.tokens) for _ in range(6)]
    statuses = [answer.status_code for answer in at_once(*[lambda p=p: delete(p) for p in people])]

    assert 204 in statuses
    assert set(statuses) <= {204, 401}
    assert alice.get("/users/me").status_code == 401


# What others have to do with its address


def ask_for_email(person: Person, email: str):
    return person.post("/users/me/email", {"email": email, "current_password": PASSWORD})


def verify_email(person: Person, email: str, code: str):
    return person.post("/users/me/email/verify", {"email": email, "token": code})


def move(person: Person, email: str, outbox: Outbox) -> None:
    assert ask_for_email(person, email).status_code == 202
    answer = verify_email(person, email, outbox.code(email))
    assert answer.status_code == 200
    person.tokens = answer.json


def test_a_thief_who_leaves_takes_no_way_back_along(
    app: Flask, alice: Person, bob: Person, outbox: Outbox
):
    """Alice's account was moved to an address that the thief's own had once, and on from there."""
    move(bob, "free@example.org", outbox)
    move(alice, bob.email, outbox)
    move(alice, "third@example.org", outbox)
    assert delete(bob).status_code == 204
    [_last, first] = alice.get("/users/me/export").json["email_changes"]
    assert (first["old_email"], first["email"]) == (alice.email, bob.email)

    keys = [re.search(r"撤销码：(\S+)", text) for text in outbox.texts(alice.email)]
    [token] = {key[1] for key in keys if key}
    assert alice.post("/auth/email-restorations", {"token": token}).status_code == 204
    with app.app_context():
        assert str(User.find_by_email(alice.email).id) == alice.id


def test_an_address_that_is_anothers_by_now_stays_as_it_is(
    app: Flask, alice: Person, bob: Person, stranger: Person, outbox: Outbox
):
    move(alice, "free@example.org", outbox)
    move(bob, alice.email, outbox)
    stranger.post("/auth/recoveries", {"email": alice.email})
    code = outbox.code(alice.email)
    assert delete(alice).status_code == 204

    body = {"email": alice.email, "token": code, "password": "another password"}
    assert stranger.post("/auth/recoveries/verify", body).json["user"]["id"] == bob.id


def test_two_who_wait_for_each_others_address_may_leave_at_once(no_limits, app: Flask, member):
    for number in range(8):
        one, other = member(f"one{number}"), member(f"other{number}")
        ask_for_email(one, other.email)
        ask_for_email(other, one.email)

        answers = at_once(lambda p=one: delete(p), lambda p=other: delete(p))
        assert [answer.status_code for answer in answers] == [204, 204]


def guess_verification(person: Person, email: str):
    return person.post("/auth/verifications/verify", {"email": email, "token": "000000"})


def guess_recovery(person: Person, email: str):
    body = {"email": email, "token": "000000", "password": "another password"}
    return person.post("/auth/recoveries/verify", body)


def sign_up_with(person: Person, email: str):
    name = email.partition("@")[0]
    body = {"username": f"not_{name}", "email": email, "password": PASSWORD}
    return person.post("/auth/verifications", body)


def resend(person: Person, email: str):
    return person.post("/auth/verifications/resend", {"email": email})


def recover(person: Person, email: str):
    return person.post("/auth/recoveries", {"email": email})


@pytest.mark.parametrize(
    ("begin", "go_on"),
    [
        (sign_up_with, guess_verification),
        (sign_up_with, resend),
        (recover, guess_recovery),
        (ask_for_email, lambda person, email: verify_email(person, email, "000000")),
    ],
    ids=["sign-ups", "resends", "recoveries", "changes of address"],
)
def test_no_limit_tells_a_stranger_that_somebody_left(
    no_limits, app: Flask, alice: Person, bob: Person, charlie: Person, outbox, begin, go_on
):
    """Whoever began something for the address meets the same as when the account were there."""
    told = {}
    for address in (alice.email, bob.email, "nobody@example.org"):
        for _ in range(2):
            assert begin(charlie, address).status_code == 202
    outbox.mails()
    assert delete(alice).status_code == 204
    for address in (alice.email, bob.email, "nobody@example.org"):
        told[address] = [go_on(charlie, address).status_code for _ in range(12)]

    assert told[alice.email] == told[bob.email] == told["nobody@example.org"]
    assert alice.email not in everything(app)
    exported = charlie.get("/users/me/export").json["email_changes"]
    assert {change["email"] for change in exported} <= {None}


def test_who_has_the_address_next_gets_no_code_for_what_strangers_began(
    app: Flask, alice: Person, bob: Person, stranger: Person, outbox: Outbox
):
    sign_up_with(stranger, alice.email)
    assert delete(alice).status_code == 204
    before = len(outbox.texts(alice.email))
    resend(stranger, alice.email)
    resend(bob, alice.email)

    assert len(outbox.texts(alice.email)) == before


def sign_out(person: Person):
    return person.delete("/auth/sessions", {"refresh_token": person.tokens["refresh_token"]})


MEANWHILE = [
    lambda person, chat: person.chat("her own words"),
    lambda person, chat: person.chat("her own words", chat),
    lambda person, chat: person.patch("/users/me", {"bio": "her own words"}),
    lambda person, chat: person.refresh(),
    lambda person, chat: sign_in(person),
    lambda person, chat: sign_out(person),
    lambda person, chat: person.get("/users/me/export"),
]


def test_whatever_else_is_asked_at_the_same_moment_leaves_nothing(
    no_limits, app: Flask, alice: Person
):
    """Everything comes before the deletion or after it: no 5xx, and nothing half."""
    for number in range(8):
        with app.app_context():
            user = users.create(f"person{number}", f"person{number}@example.org", PASSWORD)
        person = Person(app.test_client(), "192.0.2.9", user.email, id=str(user.id))
        person.tokens = sign_in(person).json
        chat = person.chat("her own words").json["session_id"]
        statuses = statuses_at_once(app, person, [lambda p, _: delete(p), *MEANWHILE], chat)
        if statuses[0] in (401, 422):  # the session was ended first, or the hash renewed
            person.tokens = sign_in(person).json
            statuses[0] = delete(person).status_code

        assert statuses[0] == 204
        assert set(statuses) <= {200, 204, 401, 404, 409}, statuses
        left = everything(app)
        assert not [trace for trace in traces_of(person) if trace in left]


def statuses_at_once(app: Flask, person: Person, calls: list[Callable], chat: str) -> list[int]:
    """What each call is answered, with a client of its own, an export that broke off too."""

    def ask(call: Callable) -> int:
        asker = Person(app.test_client(), person.network, person.email, person.tokens)
        try:
            return call(asker, chat).status_code
        except (BrokenOff, IncompleteRead):
            return 200

    return at_once(*[partial(ask, call) for call in calls])
