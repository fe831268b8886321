"""/auth/sessions"""

import time
from threading import Lock

import pytest
from flask import Flask
from werkzeug.security import generate_password_hash

from runtime.errors import Overloaded
from runtime.limits.rates import SIGN_INS_PER_ADDRESS
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.passwords import METHOD, Passwords
from tests.conftest import PASSWORD, Person, at_once
from tests.quick import quick_hash
from tests.servers import wait_until

WRONG = "邮箱或密码错误"


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


def at(app: Flask, network: str, **tokens) -> Person:
    """Somebody on another network."""
    return Person(app.test_client(), network, tokens=tokens)


def sign_in(person: Person, email="alice@example.org", password=PASSWORD):
    return person.post("/auth/sessions", {"email": email, "password": password})


def sign_out(person: Person, refresh_token: str | None = None):
    token = person.tokens["refresh_token"] if refresh_token is None else refresh_token
    return person.delete("/auth/sessions", {"refresh_token": token})


def is_signed_in(person: Person) -> bool:
    return person.get("/users/me").status_code == 200


def holding(person: Person, tokens: dict) -> Person:
    """The same person with other tokens in hand."""
    return Person(person.client, person.network, person.email, tokens, person.id)


def rows(app: Flask) -> list[Session]:
    with app.app_context():
        return list(Session.select())


# Signing in


def test_the_right_password_starts_a_session(app: Flask, alice: Person):
    answer = sign_in(at(app, "192.0.2.7"))

    assert answer.status_code == 200
    assert answer.json["user"] == {"id": alice.id, "email": alice.email}
    assert (answer.json["expires_in"], answer.json["token_type"]) == (3600, "bearer")
    assert is_signed_in(holding(alice, answer.json))
    assert answer.headers["Cache-Control"] == "no-store"


def test_wrong_password_and_unknown_address_look_the_same(app, alice: Person, stranger: Person):
    wrong = sign_in(stranger, "alice@example.org", "not the password")
    unknown = sign_in(stranger, "nobody@example.org", "not the password")

    for answer in (wrong, unknown):
        assert (answer.status_code, answer.json["detail"]) == (401, WRONG)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        del answer.headers["X-Request-ID"]
    assert wrong.data == unknown.data
    assert wrong.headers == unknown.headers


@pytest.mark.parametrize("email", ["ALICE@EXAMPLE.ORG", "Alice@Example.org"])
def test_an_address_is_the_same_in_every_case(alice: Person, stranger: Person, email: str):
    assert sign_in(stranger, email).json["user"]["email"] == "alice@example.org"


@pytest.mark.parametrize("near", [f" {PASSWORD}", f"{PASSWORD} ", PASSWORD.upper(), PASSWORD[:-1]])
def test_a_password_is_taken_as_it_was_typed(alice: Person, stranger: Person, near: str):
    assert sign_in(stranger, password=near).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "alice@example.org"},
        {"email": "alice@example.org", "password": "12345"},
        {"email": "alice@example.org", "password": "x" * 129},
        {"email": "alice@example.org", "password": None},
        {"email": "alice@example.org", "password": PASSWORD, "remember": True},
        {"email": "alice", "password": PASSWORD},
        {"email": ["alice@example.org"], "password": PASSWORD},
    ],
)
def test_a_sign_in_that_makes_no_sense_is_refused(stranger: Person, body: dict):
    answer = stranger.post("/auth/sessions", body)

    assert answer.status_code == 422
    assert answer.json["errors"]


def test_ten_wrong_passwords_from_one_network_are_enough(app, alice: Person, stranger: Person):
    statuses = [sign_in(stranger, password="not the password").status_code for _ in range(11)]
    answer = sign_in(stranger)

    assert statuses == [401] * 10 + [429]
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 15 * 60
    assert sign_in(stranger, "ALICE@example.org").status_code == 429
    assert sign_in(at(app, "192.0.2.8")).status_code == 200


def test_the_right_password_clears_the_count(alice: Person, stranger: Person):
    for _ in range(3):
        wrong = [sign_in(stranger, password="not the password").status_code for _ in range(9)]
        assert wrong == [401] * 9
        assert sign_in(stranger).status_code == 200


def test_a_flood_leaves_the_owner_a_way_in(app: Flask, alice: Person):
    flood = [at(app, f"10.0.0.{host}") for host in range(1, 13)]
    statuses = {
        sign_in(person, password="not the password").status_code
        for person in flood
        for _ in range(9)
    }
    assert statuses == {401, 429}
    assert sign_in(at(app, "192.0.2.8")).status_code == 429

    assert sign_in(at(app, alice.network)).status_code == 200


def test_a_flood_ends(app: Flask, alice: Person):
    for host in range(1, 12):
        for _ in range(10):
            sign_in(at(app, f"10.0.0.{host}"), password="not the password")

    answer = sign_in(at(app, "192.0.2.8"))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 3600

    def is_over() -> bool:
        # Again, should this process have cleared its own count, Redis being late.
        app.extensions["ratelimit"].clear(SIGN_INS_PER_ADDRESS, alice.email)
        return sign_in(at(app, "192.0.2.8")).status_code == 200

    wait_until(is_over, 3, "the flood is over")


@pytest.mark.parametrize("old", ["scrypt:32768:8:1", "pbkdf2:sha256:1000"])
def test_an_old_hash_is_renewed_at_the_next_sign_in(app: Flask, alice: Person, strong, old: str):
    with app.app_context():
        User.update(password_hash=generate_password_hash(PASSWORD, old)).execute()
    assert sign_in(alice, password="not the password").status_code == 401
    with app.app_context():
        assert User.find_by_email(alice.email).password_hash.startswith(old)

    assert sign_in(alice).status_code == 200

    with app.app_context():
        assert User.find_by_email(alice.email).password_hash.startswith(f"{METHOD}$")
    assert sign_in(alice).status_code == 200


class BusyPasswords(Passwords):
    """Has time to check a password and none to hash one."""

    def hash(self, password: str, network: str = "") -> str:
        raise Overloaded(2)


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_a_hash_that_cannot_be_renewed_now_keeps_nobody_out(app: Flask, alice: Person):
    app.extensions["passwords"] = BusyPasswords(1)

    assert sign_in(alice).status_code == 200


class WatchedPasswords(Passwords):
    """The real ones; knows how many were hashed at once."""

    def __init__(self, workers: int):
        super().__init__(workers)
        self.lock = Lock()
        self.running = self.most_running = 0

    def _change(self, by: int) -> None:
        with self.lock:
            self.running += by
            self.most_running = max(self.most_running, self.running)

    def _run(self, network: str, function, *arguments):
        def watched(*arguments):
            self._change(1)
            try:
                return function(*arguments)
            finally:
                self._change(-1)

        return super()._run(network, watched, *arguments)


@pytest.mark.in_process("counts how many hashes run at once")
def test_two_hundred_sign_ins_at_once_exhaust_nothing(no_limits, app, alice: Person, strong):
    app.extensions["passwords"] = passwords = WatchedPasswords(2)
    seconds = {200: [], 429: []}

    def ask():
        began = time.monotonic()
        answer = sign_in(at(app, "192.0.2.8"))
        seconds[answer.status_code].append(time.monotonic() - began)
        return answer

    answers = at_once(*[ask] * 200)

    refused = [answer for answer in answers if answer.status_code == 429]
    assert 2 + 16 <= len(seconds[200]) < 100
    assert len(refused) == 200 - len(seconds[200])
    assert {answer.headers["Retry-After"] for answer in refused} == {"2"}
    assert passwords.most_running == 2
    # Told at once, not after those who were let in.
    assert sorted(seconds[429])[len(refused) // 2] < max(seconds[200]) / 2


# Refreshing


def test_a_refresh_gives_the_next_pair(app: Flask, alice: Person):
    answer = alice.refresh()

    assert answer.status_code == 200
    assert answer.json.keys() == {
        "access_token",
        "refresh_token",
        "expires_in",
        "token_type",
        "user",
    }
    assert answer.json["refresh_token"] != alice.tokens["refresh_token"]
    assert answer.json["user"] == {"id": alice.id, "email": alice.email}
    assert is_signed_in(holding(alice, answer.json))


def test_a_session_is_one_row_however_often_it_is_refreshed(app: Flask, alice: Person):
    for _ in range(30):
        alice.tokens = alice.refresh().json

    assert is_signed_in(alice)
    assert len(rows(app)) == 1


def test_fifty_refreshes_at_once_give_one_successor(app: Flask, alice: Person):
    answers = at_once(*[lambda: holding(alice, alice.tokens).refresh()] * 50)

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    assert len({answer.json["access_token"] for answer in answers}) == 1
    assert [session.generation for session in rows(app) if not session.is_over] == [2]
    assert is_signed_in(holding(alice, answers[0].json))
    assert holding(alice, answers[0].json).refresh().status_code == 200


@pytest.mark.parametrize("lost", [{"seconds": 11}, {"hours": 5}, {"days": 29}])
def test_a_lost_answer_is_given_again(app: Flask, alice: Person, clock, lost: dict):
    first = alice.refresh().json
    for _ in range(3):
        clock.advance(**{unit: count / 3 for unit, count in lost.items()})
        again = alice.refresh()
        assert again.status_code == 200
        assert again.json["refresh_token"] == first["refresh_token"]

    assert is_signed_in(holding(alice, again.json))
    assert holding(alice, again.json).refresh().status_code == 200


def test_an_answer_given_again_is_good_for_an_hour(alice: Person, clock):
    alice.refresh()
    clock.advance(hours=5)
    again = alice.refresh().json
    clock.advance(seconds=again["expires_in"])

    assert is_signed_in(holding(alice, again))


def test_tabs_that_race_for_ten_seconds_get_the_same(alice: Person, clock):
    first = alice.refresh().json
    assert is_signed_in(holding(alice, first))
    clock.advance(seconds=10)
    again = alice.refresh()

    assert again.status_code == 200
    assert again.json == first
    assert is_signed_in(holding(alice, again.json))


@pytest.mark.parametrize("seconds", [11, 3600, 86400])
def test_a_rotated_token_ends_the_session(alice: Person, clock, seconds: int):
    successor = holding(alice, alice.refresh().json)
    assert is_signed_in(successor)
    clock.advance(seconds=seconds)
    thief = alice.refresh()

    assert (thief.status_code, thief.json["detail"]) == (401, "无效的 refresh token")
    assert not is_signed_in(successor)
    assert not is_signed_in(alice)
    assert successor.refresh().status_code == 401


def test_a_token_two_rotations_old_ends_the_session_even_within_seconds(alice: Person):
    second = holding(alice, alice.refresh().json)
    third = holding(alice, second.refresh().json)
    assert is_signed_in(third)

    assert alice.refresh().status_code == 401

    assert not is_signed_in(third)
    assert third.refresh().status_code == 401


def test_a_new_token_in_use_shows_that_the_answer_arrived(alice: Person, clock):
    """Used for a refresh rather than a request."""
    second = holding(alice, alice.refresh().json)
    third = holding(alice, second.refresh().json)
    clock.advance(seconds=11)
    assert second.refresh().json["refresh_token"] == third.tokens["refresh_token"]

    assert alice.refresh().status_code == 401
    assert third.refresh().status_code == 401


def test_an_old_access_token_does_not_show_that_the_answer_arrived(alice: Person, clock):
    first = alice.refresh().json
    assert is_signed_in(alice)
    clock.advance(minutes=5)
    assert is_signed_in(alice)

    assert alice.refresh().json["refresh_token"] == first["refresh_token"]


def test_a_thief_ends_no_other_session(alice: Person, bob: Person):
    other_device = holding(alice, sign_in(alice).json)
    second = holding(alice, alice.refresh().json)
    second.refresh()
    assert alice.refresh().status_code == 401

    assert is_signed_in(other_device)
    assert is_signed_in(bob)


@pytest.mark.parametrize("token", ["", "x", "a.b", "W10.x", "😀", "x" * 5000])
def test_a_token_that_means_nothing_is_refused(stranger: Person, token: str):
    answer = stranger.post("/auth/sessions/refresh", {"refresh_token": token})

    assert (answer.status_code, answer.json["detail"]) == (401, "无效的 refresh token")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    "body", [{}, {"refresh_token": None}, {"refresh_token": 7}, {"refresh_token": "x", "y": 1}, []]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/refresh"), ("DELETE", "")])
def test_a_malformed_body_is_refused(alice: Person, method: str, path: str, body):
    assert alice.request(method, f"/auth/sessions{path}", json=body).status_code == 422
    assert is_signed_in(alice)


def test_one_kind_of_token_does_not_pass_for_the_other(app: Flask, alice: Person):
    access, refresh = alice.tokens["access_token"], alice.tokens["refresh_token"]

    assert alice.refresh(access).status_code == 401
    assert not is_signed_in(at(app, alice.network, access_token=refresh))
    assert sign_out(alice, access).status_code == 204
    assert is_signed_in(alice)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_an_altered_token_is_refused(app: Flask, alice: Person, bob: Person, kind: str):
    payload, _, signature = alice.tokens[kind].rpartition(".")
    other_payload, _, other_signature = bob.tokens[kind].rpartition(".")
    flipped = ("B" if payload[5] == "A" else "A").join([payload[:5], payload[6:]])
    altered = [
        f"{flipped}.{signature}",
        f"{payload}.{other_signature}",
        f"{other_payload}.{signature}",
        f"{payload}.",
        payload,
        f"{payload}.{signature[:-4]}",
        f".{payload}.{signature}",
        f"{payload}.{signature}.{signature}",
    ]
    for token in altered:
        if kind == "refresh_token":
            assert alice.refresh(token).status_code == 401
        else:
            answer = at(app, alice.network, access_token=token).get("/users/me")
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert is_signed_in(alice)


# Signing out


def test_signing_out_works_from_the_next_request_on(alice: Person):
    answer = sign_out(alice)

    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert not is_signed_in(alice)
    assert alice.refresh().status_code == 401


def test_signing_out_works_on_every_worker(serve, settings: dict, app: Flask, alice: Person):
    """Another application, or the same two workers: so many requests are answered by both."""
    another = at(serve(settings), alice.network, **alice.tokens)
    assert all(is_signed_in(another) for _ in range(20))
    sign_out(alice)

    assert not any(is_signed_in(another) for _ in range(20))


def test_signing_out_needs_no_access_token(app: Flask, alice: Person):
    assert sign_out(at(app, "192.0.2.9"), alice.tokens["refresh_token"]).status_code == 204
    assert not is_signed_in(alice)


def test_signing_out_twice_is_no_error(alice: Person):
    assert [sign_out(alice).status_code for _ in range(3)] == [204] * 3


def test_signing_out_with_an_old_token_signs_out_too(alice: Person):
    newer = holding(alice, alice.refresh().json)
    sign_out(alice)

    assert not is_signed_in(newer)


@pytest.mark.parametrize("token", ["", " ", "x", "W10.x", "😀", "\0", "x" * 10_000])
def test_signing_out_with_a_token_that_means_nothing_is_no_error(alice: Person, token: str):
    assert sign_out(alice, token).status_code == 204
    assert is_signed_in(alice)


def test_signing_out_ends_one_session_only(app: Flask, alice: Person, bob: Person):
    other_device = holding(alice, sign_in(alice).json)
    sign_out(alice)

    assert is_signed_in(other_device)
    assert is_signed_in(bob)


def test_a_refresh_and_a_sign_out_at_once_leave_nobody_signed_in(alice: Person, member):
    for number in range(5):
        person = member(f"person{number}")
        _, answer = at_once(
            lambda p=person: sign_out(p), lambda p=person: holding(p, p.tokens).refresh()
        )
        assert answer.status_code in (200, 401)
        assert not is_signed_in(person)
        if answer.status_code == 200:
            assert not is_signed_in(holding(person, answer.json))


# How long it all lasts


def test_an_access_token_is_good_for_what_it_says(alice: Person, clock):
    alice.tokens = alice.refresh().json
    clock.advance(seconds=alice.tokens["expires_in"])
    assert is_signed_in(alice)
    clock.advance(seconds=32)

    answer = alice.get("/users/me")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert alice.refresh().status_code == 200


def test_a_session_ends_after_thirty_days_without_a_refresh(alice: Person, clock):
    clock.advance(days=29, hours=23)
    alice.tokens = alice.refresh().json
    clock.advance(days=29, hours=23)
    alice.tokens = alice.refresh().json
    assert is_signed_in(alice)
    clock.advance(days=30)

    assert alice.refresh().status_code == 401


def test_a_session_ends_after_a_year_in_any_case(alice: Person, clock):
    for _ in range(36):
        clock.advance(days=10)
        alice.tokens = alice.refresh().json
    clock.advance(days=4, hours=23, minutes=30)
    alice.tokens = alice.refresh().json
    assert is_signed_in(alice)
    clock.advance(minutes=30)

    assert not is_signed_in(alice)
    assert alice.refresh().status_code == 401


@pytest.mark.parametrize("seconds", [-3600, -30, 30])
def test_clocks_that_differ_refuse_nobody(app: Flask, alice: Person, clock, seconds: int):
    """Made by a machine whose clock is ahead or behind, or before the clock was set back."""
    tokens = sign_in(alice).json
    clock.advance(seconds=seconds)
    person = holding(alice, tokens)
    assert is_signed_in(person)
    refreshed = person.refresh()
    assert refreshed.status_code == 200
    clock.advance(seconds=-seconds)

    assert is_signed_in(holding(alice, refreshed.json))


def test_a_token_at_its_end_is_given_half_a_minute_of_skew(alice: Person, clock):
    clock.advance(seconds=3600 + 29)
    assert is_signed_in(alice)


def test_keys_rotate_without_signing_anybody_out(serve, settings: dict, member):
    def with_keys(newest: str, *older: str) -> Flask:
        keys = {"SECRET_KEY": newest, "SECRET_KEY_FALLBACKS": " ".join(older)}
        return serve({**settings, **keys})

    signed_in = tokens_of_ada(with_keys("the-first-key" * 3))
    rotated = at(with_keys("the-second-key" * 3, "the-first-key" * 3), "192.0.2.9", **signed_in)
    assert is_signed_in(rotated)
    refreshed = rotated.refresh()
    assert refreshed.status_code == 200

    dropped = at(with_keys("the-second-key" * 3), "192.0.2.9")
    for tokens, works in ((signed_in, False), (refreshed.json, True)):
        dropped.tokens = tokens
        assert is_signed_in(dropped) is works
        assert (dropped.refresh().status_code == 200) is works


def tokens_of_ada(app: Flask) -> dict:
    """What she got when she signed in on that application."""
    with app.app_context():
        User.create(username="ada", email="ada@example.org", password_hash=quick_hash(PASSWORD))
    return sign_in(at(app, "192.0.2.9"), "ada@example.org").json


def test_the_first_answer_needs_no_proof_of_arrival(alice: Person, clock):
    """A token that was never rotated away is simply good."""
    clock.advance(days=2)

    assert alice.refresh().status_code == 200


def test_what_one_address_refuses_uses_up_nothing_of_the_network(alice: Person, stranger):
    """Somebody who hammers at one address keeps nobody behind the same router from signing in."""
    body = {"email": "nobody@example.org", "password": "not the password"}
    statuses = [stranger.post("/auth/sessions", body).status_code for _ in range(310)]
    assert statuses == [401] * 10 + [429] * 300

    body = {"email": alice.email, "password": PASSWORD}
    assert stranger.post("/auth/sessions", body).status_code == 200
