"""/auth/sessions: from where a session was used last, and what its owner's journal says of it."""

import pytest
from flask import Flask

from runtime.models import rotations
from runtime.models.sessions import Session
from runtime.services.accounts.security_log import PLACES_A_DAY
from tests.conftest import Person, at_once

HOME, AWAY = "198.51.100.1", "203.0.113.66"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Safari/604.1"
LAPTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0.0.0 Safari/537.36"


def refresh(person: Person, network: str = HOME, user_agent: str = "", token: str | None = None):
    """The answer to a refresh from some place; the person goes on with its tokens."""
    body = {"refresh_token": token or person.tokens["refresh_token"]}
    there = Person(person.client, network)
    answer = there.post("/auth/sessions/refresh", body, headers={"User-Agent": user_agent})
    if answer.status_code == 200:
        person.tokens = answer.json
    return answer


def place(person: Person) -> tuple:
    [session] = person.get("/auth/sessions").json["sessions"]
    assert (session["network"], session["device"]) == (HOME, None)
    return session["last_network"], session["last_device"]


def journal(person: Person) -> list[tuple]:
    """What was recorded since the sign-in, the oldest first."""
    events = person.get("/users/me/events", query_string={"limit": 100}).json["events"]
    found = [(each["type"], each["network"], each["device"]) for each in reversed(events)]
    return found[1:]


def test_a_session_was_used_last_where_it_was_refreshed(alice: Person):
    assert place(alice) == (HOME, None)
    refresh(alice, AWAY, PHONE)

    assert place(alice) == (AWAY, "Safari · iPhone")


@pytest.mark.parametrize(
    ("network", "user_agent", "device"),
    [(AWAY, "", None), (HOME, PHONE, "Safari · iPhone"), (AWAY, LAPTOP, "Chrome · Windows")],
)
def test_a_refresh_from_another_network_or_device_is_recorded_once(
    alice: Person, network: str, user_agent: str, device: str | None
):
    for _ in range(4):
        assert refresh(alice, network, user_agent).status_code == 200

    assert journal(alice) == [("session_moved", network, device)]
    event = alice.get("/users/me/events").json["events"][0]
    assert event["session_id"] == alice.get("/auth/sessions").json["sessions"][0]["id"]


def test_a_refresh_from_the_same_place_is_not_recorded(alice: Person):
    for _ in range(4):
        refresh(alice)

    assert journal(alice) == []


def test_a_new_version_is_no_other_device(alice: Person):
    refresh(alice, HOME, LAPTOP)
    refresh(alice, HOME, LAPTOP.replace("142", "143"))

    assert len(journal(alice)) == 1


def test_a_phone_that_hops_between_two_networks_has_two_events_a_day(alice: Person, clock):
    for _ in range(24):
        clock.advance(minutes=50)
        assert refresh(alice, AWAY).status_code == 200
        assert refresh(alice, HOME).status_code == 200

    # The held clock has both in one instant.
    moved = [("session_moved", HOME, None), ("session_moved", AWAY, None)]
    assert sorted(journal(alice)) == sorted(moved)
    clock.advance(hours=24)
    refresh(alice, AWAY)
    assert len(journal(alice)) == 3


def test_no_session_fills_its_owners_journal(alice: Person, bob: Person):
    for number in range(PLACES_A_DAY + 10):
        assert refresh(alice, f"10.0.0.{number}").status_code == 200

    assert len(journal(alice)) == PLACES_A_DAY
    assert place(alice) == (f"10.0.0.{PLACES_A_DAY + 9}", None)
    assert journal(bob) == []


def test_a_lost_answer_that_goes_elsewhere_is_recorded(alice: Person):
    """The second to ask may be who stole the token, and has the very same successor."""
    token = alice.tokens["refresh_token"]
    first = refresh(alice, HOME, "", token).json
    again = refresh(alice, AWAY, PHONE, token).json

    assert again["refresh_token"] == first["refresh_token"]
    assert journal(alice) == [("refresh_token_repeated", AWAY, "Safari · iPhone")]
    assert place(alice) == (AWAY, "Safari · iPhone")


def test_a_lost_answer_that_is_asked_for_again_where_it_was_is_not_recorded(alice: Person):
    token = alice.tokens["refresh_token"]
    for _ in range(3):
        refresh(alice, HOME, "", token)

    assert journal(alice) == []


def test_a_thief_who_refreshes_first_is_in_the_journal(alice: Person, clock):
    token = alice.tokens["refresh_token"]
    thief = Person(alice.client, AWAY, tokens=dict(alice.tokens))
    refresh(thief, AWAY, LAPTOP)
    assert journal(thief) == [("session_moved", AWAY, "Chrome · Windows")]
    clock.advance(seconds=11)

    assert refresh(alice, HOME, "", token).status_code == 401
    assert thief.get("/users/me").status_code == 401


def test_tabs_that_race_from_two_places_get_one_successor(app: Flask, alice: Person):
    token = alice.tokens["refresh_token"]

    def ask(number: int):
        person = Person(app.test_client(), f"10.0.0.{number % 3}", tokens=alice.tokens)
        return refresh(person, person.network, "", token)

    answers = at_once(*[lambda n=n: ask(n) for n in range(30)])

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    alice.tokens = answers[0].json
    recorded = journal(alice)
    assert [kind for kind, *_ in recorded].count("session_moved") == 1
    assert len(set(recorded)) == len(recorded) <= 4


def test_a_session_of_an_earlier_release_was_used_where_it_began(app: Flask, alice: Person):
    with app.app_context():
        Session.update(last_network=None, last_device=None).execute()
    assert place(alice) == (HOME, None)
    refresh(alice)
    assert journal(alice) == []
    with app.app_context():
        Session.update(last_network=None, last_device=None).execute()
    refresh(alice, AWAY)

    assert journal(alice) == [("session_moved", AWAY, None)]


@pytest.mark.in_process("takes out what must not be called")
def test_a_refresh_where_it_was_used_last_needs_no_second_look(alice: Person, monkeypatch):
    refresh(alice, AWAY, PHONE)
    monkeypatch.setattr(Session, "find_live", None)
    monkeypatch.setattr(rotations, "rotate_elsewhere", None)

    assert refresh(alice, AWAY, PHONE).status_code == 200
