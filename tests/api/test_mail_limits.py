"""How many mails strangers cause at an address, and what they leave to its owner."""

from collections.abc import Callable

import pytest
from flask import Flask

from tests.api.test_verifications import EMAIL, OWNER, STRANGER, at, resend, sign_up, verify
from tests.conftest import PASSWORD, Outbox, Person
from tests.quick import BusyPasswords

NEW = "unknown@example.org"


def recover(person: Person, email: str):
    return person.post("/auth/recoveries", {"email": email})


def change(person: Person, email: str):
    body = {"email": email, "current_password": PASSWORD}
    return person.post("/users/me/email", body)


@pytest.fixture
def strangers(app: Flask, member) -> list[Person]:
    """Twelve accounts, each on a network of its own."""
    return [member(f"eve{number}", f"203.0.113.{number}") for number in range(12)]


@pytest.mark.parametrize("email", [NEW, "alice@example.org"])
def test_strangers_from_any_number_of_networks_cause_twenty_mails_a_day(
    app, alice, strangers: list[Person], outbox: Outbox, clock, email: str
):
    """All kinds of mails, by ever new networks, for a day and a half."""
    mailed = []
    for hour in range(0, 36, 2):
        for number, person in enumerate(strangers):
            if hour % 12 == 0:
                change(person, email)
            guest = at(app, f"10.0.{hour}.{number}")
            for _ in range(3):
                sign_up(guest, f"eve_{hour}_{number}", email)
            recover(guest, email)
            resend(guest, email)
        so_far = sum(len(mails) for _, mails in mailed)
        mailed.append((hour, outbox.texts(email)[so_far:]))
        clock.advance(hours=2)

    for hour, _ in mailed:
        assert sum(len(mails) for at_, mails in mailed if hour <= at_ < hour + 24) <= 20
    assert sum(len(mails) for _, mails in mailed) >= 10


def test_a_flood_leaves_the_owner_of_an_account_their_mails(app, alice, strangers, outbox: Outbox):
    """On a network that the account has signed in from."""
    for person in strangers:
        for ask in (recover, change, lambda p, email: sign_up(at(app, p.network), "eve", email)):
            ask(person, alice.email)
    before = len(outbox.texts(alice.email))
    owner = at(app, alice.network)

    for number in range(8):
        assert recover(owner, alice.email).status_code == 202
        # Sent before the next is asked for: a code that is replaced by then is not mailed.
        assert len(outbox.texts(alice.email)) == before + number + 1


def test_a_flood_leaves_who_signed_up_before_a_mail_and_all_tries(app, outbox: Outbox, clock):
    owner = at(app, OWNER)
    sign_up(owner)
    for number in range(30):
        guest = at(app, f"203.0.113.{number}")
        for _ in range(6):
            sign_up(guest, f"eve{number}")
        clock.advance(minutes=2)
    assert sign_up(at(app, STRANGER), "late").status_code == 429

    assert sign_up(owner).status_code == 202
    code = outbox.code(EMAIL)
    wrong = "000000" if code != "000000" else "000001"
    assert [verify(owner, wrong).status_code for _ in range(4)] == [401] * 4
    assert verify(owner, code).status_code == 200


def test_an_owner_who_comes_after_a_flood_waits_for_minutes(app, outbox: Outbox, clock):
    for number in range(60):
        sign_up(at(app, f"203.0.113.{number}"), f"eve{number}")
    owner = at(app, OWNER)
    refused = sign_up(owner)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) <= 600

    clock.advance(seconds=int(refused.headers["Retry-After"]))
    assert sign_up(owner).status_code == 202
    assert verify(owner, outbox.code(EMAIL)).status_code == 200


def test_one_network_leaves_all_that_an_owner_needs(app, outbox: Outbox):
    """However often it asks, before and after."""
    stranger, owner = at(app, STRANGER), at(app, OWNER)
    for number in range(12):
        sign_up(stranger, f"eve{number}")
        recover(stranger, EMAIL)
    assert [sign_up(owner).status_code for _ in range(5)] == [202] * 5
    for number in range(12):
        sign_up(stranger, f"mallory{number}")
    for _ in range(5):
        verify(owner, "000000")
    assert sign_up(owner).status_code == 202
    assert verify(owner, outbox.code(EMAIL)).status_code == 200


def test_accounts_on_one_network_share_what_it_may_have_mailed(app, member, outbox):
    people = [member(f"eve{number}", STRANGER) for number in range(4)]
    statuses = []
    for person in people * 5:
        statuses.append(change(person, NEW).status_code)
        # Sent before the next is asked for: a code that is replaced by then is not mailed.
        assert len(outbox.texts(NEW)) == statuses.count(202)

    assert statuses.count(202) == 8


def test_limits_that_say_how_long_are_right(app, clock):
    owner = at(app, OWNER)
    while (answer := sign_up(owner)).status_code == 202:
        clock.advance(minutes=1)
    seconds = int(answer.headers["Retry-After"])
    clock.advance(seconds=seconds - 1)
    assert sign_up(owner).status_code == 429
    clock.advance(seconds=1)

    assert sign_up(owner).status_code == 202


# What is refused pays for nothing


def test_taken_names_use_up_no_sign_ups(app, alice):
    """A class signs up, and each tries names until one is free."""
    school = at(app, "192.0.2.77")
    assert {sign_up(school, "alice", f"u{n}@example.org").status_code for n in range(120)} == {422}

    assert sign_up(school, "ada").status_code == 202


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_busy_answers_use_up_no_sign_ups(app: Flask):
    app.extensions["passwords"] = passwords = BusyPasswords()
    school = at(app, "192.0.2.77")
    assert {sign_up(school, "ada", f"u{n}@example.org").status_code for n in range(120)} == {429}

    passwords.busy = False
    assert sign_up(school, "ada").status_code == 202


def ask_many(ask: Callable, school: Person) -> set[int]:
    return {ask(school, EMAIL).status_code for _ in range(120)}


@pytest.mark.parametrize(("ask", "refused"), [(resend, 204), (recover, 202)])
def test_what_an_address_refuses_uses_up_nothing_of_the_network(app, ask, refused):
    school = at(app, "192.0.2.77")
    assert ask_many(ask, school) == {refused, 429}

    assert ask(school, "another@example.org").status_code == refused


def test_right_codes_use_up_no_codes_of_the_network(app, outbox: Outbox):
    """A school verifies more in ten minutes than may be wrong."""
    school = at(app, "192.0.2.77")
    for number in range(98):
        assert verify(school, "000000", f"u{number}@example.org").status_code == 401
    for number in range(5):
        email = f"ada{number}@example.org"
        sign_up(school, f"ada{number}", email)
        assert verify(school, outbox.code(email), email).status_code == 200
