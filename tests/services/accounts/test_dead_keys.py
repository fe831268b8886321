"""Every key to an account that was there before it changed is refused, at the next request.

Whatever a worker might keep of a key, it keeps: each is used on every worker before, and tried on
every worker afterwards. Codes are tried by the links that they are mailed in.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import sessions, users
from tests.conftest import PASSWORD, Outbox, Person, at_once

EMAIL, NEW, THIRD = "ada@example.org", "new@example.org", "third@example.org"
# What is answered to a wrong code for an address, as a status of its own.
WRONG_CODE = -422
OTHER_PASSWORD = "another horse entirely"
NETWORK, ELSEWHERE = "192.0.2.7", "198.51.100.7"
PAGES = "https://app.example.org"
# Each over a connection of its own: with two workers one of them is missed once in 500 runs.
ASKED = 10
# Of the five that a code has.
TRIES = 4
ROUNDS = 500


@pytest.fixture
def settings(settings: dict) -> dict:
    """Nothing here rests on the limits."""
    places = {"REDIRECT_ALLOWLIST": PAGES, "APP_URL": PAGES}
    return {**settings, "RATE_LIMITS": "off", **places}


@dataclass
class Keys:
    """The tokens of one session, all that it ever had, the newest last."""

    person: Person
    access_tokens: list[str] = field(default_factory=list)
    refresh_tokens: list[str] = field(default_factory=list)

    def take(self, pair: dict) -> "Keys":
        self.access_tokens.append(pair["access_token"])
        self.refresh_tokens.append(pair["refresh_token"])
        return self

    def uses(self) -> list[int]:
        """What each access token is answered, asked again and again."""
        return [
            Person(self.person.client, NETWORK, tokens={"access_token": token})
            .get("/users/me")
            .status_code
            for token in self.access_tokens
            for _ in range(ASKED)
        ]

    def refreshes(self) -> list[int]:
        """What each refresh token is answered, the newest first: an old one would end the rest."""
        return [
            self.person.refresh(token).status_code
            for token in reversed(self.refresh_tokens)
            for _ in range(ASKED)
        ]

    @property
    def are_dead(self) -> bool:
        return {*self.uses(), *self.refreshes()} == {401}


@pytest.fixture
def ada(app: Flask) -> Person:
    """Somebody at a device, with no token in hand."""
    return Person(app.test_client(), NETWORK, EMAIL)


@pytest.fixture
def codes(ada: Person, outbox: Outbox) -> list[str]:
    """The codes of two sign-ups for her address; with the first she has her account."""
    found = []
    for username in ("ada", "ada2"):
        details = {"username": username, "email": EMAIL, "password": PASSWORD}
        assert ada.post("/auth/verifications", details).status_code == 202
        found.append(outbox.code(EMAIL))
    assert verify(ada, found[0]).status_code == 200
    return found


def verify(person: Person, code: str):
    return person.post("/auth/verifications/verify", {"email": EMAIL, "token": code})


def sign_in(person: Person, email: str = EMAIL):
    return person.post("/auth/sessions", {"email": email, "password": PASSWORD})


def session_of(person: Person) -> Keys:
    """A session that was refreshed twice, and used on every worker."""
    keys = Keys(person).take(sign_in(person).json)
    for _ in range(2):
        keys.take(person.refresh(keys.refresh_tokens[-1]).json)
    assert set(keys.uses()) == {200}
    return keys


def holding(keys: Keys) -> Person:
    tokens = {"access_token": keys.access_tokens[-1], "refresh_token": keys.refresh_tokens[-1]}
    return Person(keys.person.client, NETWORK, EMAIL, tokens)


def mail_keys(keys: Keys, outbox: Outbox) -> list[str]:
    """The links in the mails to whoever has forgotten the password, and wants another address."""
    person = holding(keys)
    recovery = {"email": EMAIL, "redirect_to": f"{PAGES}/auth/recoveries/verify"}
    assert person.post("/auth/recoveries", recovery).status_code == 202
    ask_for_address(person, NEW)
    links = links_in(outbox)
    assert len(links) == 3
    return links


def ask_for_address(person: Person, email: str) -> None:
    page = f"{PAGES}/users/me/email/verify"
    body = {"email": email, "current_password": PASSWORD, "redirect_to": page}
    assert person.post("/users/me/email", body).status_code == 202


def links_in(outbox: Outbox) -> list[str]:
    """Those in all mails so far, in no order."""
    texts = [mail.get_body(("plain",)).get_content() for mail in outbox.mails()]
    return re.findall(rf"{PAGES}\S+", "\n".join(texts))


def leads_back(link: str) -> bool:
    """Whether it gives the account an address back that it had."""
    return "restoration=" in link


def follow(person: Person, link: str) -> int:
    """What is answered to the page that the link leads to; it is named for what it asks."""
    given = dict(parse_qsl(urlsplit(link).query))
    if leads_back(link):
        body = {"token": given["restoration"]}
        return person.post("/auth/email-restorations", body).status_code
    if "recoveries" in link:
        given["password"] = OTHER_PASSWORD
    answer = person.post(urlsplit(link).path, given)
    is_of_code = answer.status_code == 422 and answer.json["errors"][0]["pointer"] == "#/token"
    return WRONG_CODE if is_of_code else answer.status_code


def are_dead(links: list[str], person: Person) -> bool:
    told = {follow(person, link) for link in links for _ in range(TRIES)}
    return told <= {401, WRONG_CODE}


def signed_in(app: Flask, ada: Person) -> Person:
    """Ada, in a session that was started after all that changed."""
    with app.app_context():
        pair = sessions.start(User.get(), Caller(NETWORK))
    return Person(ada.client, NETWORK, tokens={"access_token": pair.access_token})


def change_password(keys: Keys, outbox: Outbox) -> None:
    body = {"current_password": PASSWORD, "password": OTHER_PASSWORD}
    assert holding(keys).request("PUT", "/users/me/password", json=body).status_code == 200


def recover(keys: Keys, outbox: Outbox) -> None:
    """Where its code is no one of those that are tried afterwards."""
    person = Person(keys.person.client, ELSEWHERE)
    assert person.post("/auth/recoveries", {"email": EMAIL}).status_code == 202
    body = {"email": EMAIL, "token": outbox.code(EMAIL), "password": OTHER_PASSWORD}
    assert person.post("/auth/recoveries/verify", body).status_code == 200


def change_email(keys: Keys, outbox: Outbox) -> None:
    person = holding(keys)
    ask_for_address(person, THIRD)
    body = {"email": THIRD, "token": outbox.code(THIRD)}
    assert person.post("/users/me/email/verify", body).status_code == 200


@pytest.mark.parametrize("change", [change_password, recover, change_email])
def test_every_key_is_dead_when_password_or_address_are_others(
    app: Flask, ada: Person, codes: list[str], outbox: Outbox, change: Callable
):
    """But for the way back: a thief may have changed them."""
    own, other = session_of(ada), session_of(ada)
    links = mail_keys(own, outbox)
    change(own, outbox)

    assert own.are_dead and other.are_dead
    assert {sign_in(ada).status_code for _ in range(ASKED)} == {401}
    owner = signed_in(app, ada)
    assert are_dead([link for link in links if not leads_back(link)], owner)
    assert {verify(ada, code).status_code for code in codes for _ in range(2)} == {401}
    assert [follow(owner, link) for link in links if leads_back(link)] == [204]


@pytest.mark.parametrize("is_done", [False, True], ids=["that waits", "that was made"])
def test_every_key_is_dead_when_a_change_of_address_is_undone(
    app: Flask, ada: Person, codes: list[str], outbox: Outbox, is_done: bool
):
    own, other = session_of(ada), session_of(ada)
    links = mail_keys(own, outbox)
    way_back = next(link for link in links if leads_back(link))
    if is_done:
        change_email(own, outbox)
        recovery = {"email": THIRD, "redirect_to": f"{PAGES}/auth/recoveries/verify"}
        assert ada.post("/auth/recoveries", recovery).status_code == 202
        links = links_in(outbox)
    assert follow(ada, way_back) == 204

    assert own.are_dead and other.are_dead
    assert {sign_in(ada, email).status_code for email in (EMAIL, THIRD)} == {401}
    assert are_dead(links, ada)
    assert are_dead([link for link in links if "/users/me" in link], signed_in(app, ada))
    assert {verify(ada, code).status_code for code in codes for _ in range(2)} == {401}


def disable(app: Flask, keys: Keys) -> None:
    with app.app_context():
        users.disable(User.find_by_email(EMAIL))


def delete(app: Flask, keys: Keys) -> None:
    answer = holding(keys).delete("/users/me", {"current_password": PASSWORD})
    assert answer.status_code == 204


@pytest.mark.parametrize("change", [disable, delete])
def test_every_key_is_dead_when_the_account_is_shut_or_gone(
    app: Flask, ada: Person, codes: list[str], outbox: Outbox, change: Callable
):
    keys = [session_of(ada), session_of(ada)]
    links = mail_keys(keys[0], outbox)
    change(app, keys[0])

    assert all(each.are_dead for each in keys)
    assert are_dead(links, holding(keys[0]))
    assert {verify(ada, code).status_code for code in codes for _ in range(2)} == {401}
    assert {sign_in(ada).status_code for _ in range(ASKED)} == {401}


def test_no_key_comes_to_life_when_the_account_is_opened_again(
    app: Flask, ada: Person, codes: list[str], outbox: Outbox
):
    """But for the way back, as above."""
    keys = session_of(ada)
    links = mail_keys(keys, outbox)
    disable(app, keys)
    with app.app_context():
        users.enable(User.find_by_email(EMAIL))

    assert keys.are_dead
    owner = signed_in(app, ada)
    assert are_dead([link for link in links if not leads_back(link)], owner)
    assert {verify(ada, code).status_code for code in codes for _ in range(2)} == {401}
    assert [follow(owner, link) for link in links if leads_back(link)] == [204]


def sign_out(keys: Keys, **scope: str) -> None:
    token = {"refresh_token": keys.refresh_tokens[-1]}
    assert keys.person.delete("/auth/sessions", token | scope).status_code == 204


def end_by_id(keys: Keys) -> None:
    person = holding(keys)
    [current] = [s for s in person.get("/auth/sessions").json["sessions"] if s["is_current"]]
    assert person.delete(f"/auth/sessions/{current['id']}").status_code == 204


@pytest.mark.parametrize("end", [sign_out, end_by_id])
def test_every_key_of_a_session_is_dead_when_it_ends(ada: Person, codes: list[str], end: Callable):
    ended, other = session_of(ada), session_of(ada)
    end(ended)

    assert ended.are_dead
    assert set(other.uses()) == {200}
    assert ada.refresh(other.refresh_tokens[-1]).status_code == 200
    assert {verify(ada, code).status_code for code in codes} == {401}


@pytest.mark.parametrize("scope", ["others", "all"])
def test_every_key_of_the_sessions_that_a_scope_names_is_dead(
    ada: Person, codes: list[str], scope: str
):
    own, *others = [session_of(ada) for _ in range(3)]
    sign_out(own, scope=scope)

    assert all(each.are_dead for each in others)
    assert set(own.uses()) == ({200} if scope == "others" else {401})


def test_every_key_is_dead_when_an_operator_ends_all_sessions(app: Flask, ada: Person, codes):
    keys = [session_of(ada), session_of(ada)]
    with app.app_context():
        assert sessions.end_all(User.find_by_email(EMAIL)) == 3  # that of the sign-up too

    assert all(each.are_dead for each in keys)


def test_a_sign_out_and_a_refresh_at_once_leave_no_session(app: Flask, alice: Person):
    """Whichever comes first: nobody is signed in afterwards, and neither fails."""
    for _ in range(ROUNDS):
        with app.app_context():
            pair = sessions.start(User.get(), Caller(NETWORK))
        signing_out, refreshing = (Person(app.test_client(), NETWORK) for _ in range(2))
        token = {"refresh_token": pair.refresh_token}
        out, refreshed = at_once(
            lambda who=signing_out, token=token: who.delete("/auth/sessions", token),
            lambda who=refreshing, pair=pair: who.refresh(pair.refresh_token),
        )

        assert out.status_code == 204
        assert refreshed.status_code in (200, 401)
        held = refreshed.json if refreshed.status_code == 200 else {}
        keys = [held.get("access_token", pair.access_token), pair.access_token]
        for key in keys:
            holder = Person(alice.client, tokens={"access_token": key})
            assert holder.get("/users/me").status_code == 401
        assert alice.refresh(held.get("refresh_token", pair.refresh_token)).status_code == 401

    with app.app_context():
        live = [session for session in Session.select() if not session.is_over]
    assert len(live) == 1  # Alice's own, from before
