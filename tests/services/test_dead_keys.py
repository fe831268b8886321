"""Every key to an account that was there before it changed is refused, at the next request.

Whatever a worker might keep of a key, it keeps: each is used on every worker before, and tried on
every worker afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from flask import Flask

from runtime.models import Session, User
from runtime.services import sessions, users
from tests.conftest import PASSWORD, Outbox, Person, at_once

EMAIL = "ada@example.org"
NETWORK = "192.0.2.7"
# Each over a connection of its own: with two workers one of them is missed once in 500 runs.
ASKED = 10
ROUNDS = 500


@pytest.fixture
def settings(settings: dict) -> dict:
    """Nothing here rests on the limits."""
    return {**settings, "RATE_LIMITS": "off"}


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
def ada(app: Flask, quick) -> Person:
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


def sign_in(person: Person):
    return person.post("/auth/sessions", {"email": EMAIL, "password": PASSWORD})


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


def disable(app: Flask, keys: Keys) -> None:
    with app.app_context():
        users.disable(User.find_by_email(EMAIL))


def delete(app: Flask, keys: Keys) -> None:
    answer = holding(keys).delete("/users/me", {"current_password": PASSWORD})
    assert answer.status_code == 204


@pytest.mark.parametrize("change", [disable, delete])
def test_every_key_is_dead_when_the_account_is_shut_or_gone(
    app: Flask, ada: Person, codes: list[str], change: Callable
):
    keys = [session_of(ada), session_of(ada)]
    change(app, keys[0])

    assert all(each.are_dead for each in keys)
    assert {verify(ada, code).status_code for code in codes for _ in range(2)} == {401}
    assert {sign_in(ada).status_code for _ in range(ASKED)} == {401}


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


def test_a_sign_out_and_a_refresh_at_once_leave_no_session(app: Flask, alice: Person):
    """Whichever comes first: nobody is signed in afterwards, and neither fails."""
    for _ in range(ROUNDS):
        with app.app_context():
            pair = sessions.start(User.get(), NETWORK)
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
