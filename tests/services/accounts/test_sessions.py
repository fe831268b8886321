"""What HTTP cannot reach: what happens in the middle of a request, and what the shell does."""

from threading import Barrier, Thread

import pytest
from flask import Flask
from werkzeug.security import generate_password_hash

from runtime.caller import Caller
from runtime.database.base import db
from runtime.errors import InvalidRefreshToken, WrongCredentials
from runtime.models import rotations
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.tokens import Claims
from runtime.services.accounts import credentials, refreshes, sessions, sign_ins
from tests.conftest import PASSWORD, Person
from tests.quick import QuickPasswords


class InterruptedPasswords(QuickPasswords):
    """Call `meanwhile` in the middle of every hash and every check."""

    def __init__(self, meanwhile):
        super().__init__(1)
        self.meanwhile = meanwhile

    def hash(self, password: str, network: str = "") -> str:
        self.meanwhile("hash")
        return super().hash(password, network)

    def verify(self, password: str, password_hash: str | None, network: str = "", **how) -> bool:
        self.meanwhile("verify")
        return True


def test_the_session_of_a_request_is_shown_like_any_other(app: Flask, alice: Person):
    with app.app_context():
        session = Session.get()
        found = Session.find_live(session.id)
        assert found.user == session.user
        assert repr(found) == repr(session) == f"<Session {session.user_id} live>"


def test_a_password_that_changed_meanwhile_is_not_overwritten(app: Flask, alice: Person):
    def meanwhile(what: str) -> None:
        if what == "hash":
            User.update(password_hash="of the new password").execute()

    with app.app_context():
        User.update(password_hash=generate_password_hash(PASSWORD, "pbkdf2:sha256:1")).execute()
        app.extensions["passwords"] = InterruptedPasswords(meanwhile)
        sign_ins.sign_in(alice.email, PASSWORD, caller=Caller(alice.network))

        assert User.find_by_email(alice.email).password_hash == "of the new password"


def test_no_session_is_started_for_a_password_that_was_replaced_meanwhile(app, alice: Person):
    """It was looked at before, and is right no more."""

    def meanwhile(what: str) -> None:
        if what == "verify":
            assert credentials.replace_password(User.get(), "of the new password")

    with app.app_context():
        app.extensions["passwords"] = InterruptedPasswords(meanwhile)
        with pytest.raises(WrongCredentials):
            sign_ins.sign_in(alice.email, PASSWORD, caller=Caller(alice.network))

        assert Session.select().where(Session.ended_at.is_null()).count() == 0


@pytest.mark.parametrize("renewed", [PASSWORD, "another password"])
def test_two_who_renew_a_hash_at_once_both_sign_in(app: Flask, alice: Person, renewed: str):
    """The second finds another hash there, and looks whether it is the same password's."""
    old, new = (generate_password_hash(word, "pbkdf2:sha256:1") for word in (PASSWORD, renewed))

    class SlowPasswords(QuickPasswords):
        def hash(self, password: str, network: str = "") -> str:
            User.update(password_hash=new).execute()
            return super().hash(password, network)

    with app.app_context():
        User.update(password_hash=old).execute()
        app.extensions["passwords"] = SlowPasswords(1)
        if renewed == PASSWORD:
            sign_ins.sign_in(alice.email, PASSWORD, caller=Caller(alice.network))
        else:
            with pytest.raises(WrongCredentials):
                sign_ins.sign_in(alice.email, PASSWORD, caller=Caller(alice.network))

        assert User.find_by_email(alice.email).password_hash == new


def test_no_connection_is_held_while_a_password_is_hashed(app: Flask, alice: Person):
    closed = []
    with app.app_context():
        User.update(password_hash=generate_password_hash(PASSWORD, "pbkdf2:sha256:1")).execute()
        app.extensions["passwords"] = InterruptedPasswords(
            lambda what: closed.append((what, db.is_closed()))
        )
        sign_ins.sign_in(alice.email, PASSWORD, caller=Caller(alice.network))

    assert closed == [("verify", True), ("hash", True)]


def test_all_sessions_of_a_user_can_be_ended(app: Flask, alice: Person, bob: Person):
    with app.app_context():
        user = User.find_by_email(alice.email)
        sessions.start(user, Caller("192.0.2.1"))

        assert sessions.end_all(user) == 2
        assert sessions.end_all(user) == 0

    assert alice.get("/users/me").status_code == 401
    assert bob.get("/users/me").status_code == 200


def test_a_token_from_the_future_of_a_restored_database_ends_nothing(app: Flask, alice: Person):
    """A backup was put back: the client's counter is ahead, which no thief's can be."""
    with app.app_context():
        session = Session.get()
        token = app.extensions["tokens"].make_refresh(Claims(session.user_id, session.id, 7))
        with pytest.raises(InvalidRefreshToken):
            refreshes.refresh(token, Caller(alice.network))

    assert alice.get("/users/me").status_code == 200


def test_a_slow_request_sets_no_session_back(app: Flask, alice: Person):
    """It read the token, others refreshed it twice, and only now does it come to write."""
    with app.app_context():
        session = Session.get()
        second = refreshes.refresh(alice.tokens["refresh_token"], Caller(alice.network))
        refreshes.refresh(second.refresh_token, Caller(alice.network))

        claims = Claims(session.user_id, session.id, session.generation)
        assert rotations.rotate(claims, Caller(alice.network)) is None
        assert rotations.rotate_elsewhere(claims, Caller("192.0.2.1")) is None
        assert Session.get().generation == 3


def test_a_slow_request_wakes_no_session_that_has_ended(app: Flask, alice: Person):
    with app.app_context():
        session = Session.get()
        sessions.end(alice.tokens["refresh_token"], caller=Caller(alice.network))

        claims = Claims(session.user_id, session.id, session.generation)
        assert rotations.rotate(claims, Caller(alice.network)) is None
        assert rotations.rotate_elsewhere(claims, Caller("192.0.2.1")) is None
        assert Session.get().is_over


def test_a_refresh_that_lost_the_race_after_the_sign_out_is_refused(app: Flask, alice: Person):
    """Many rounds of a refresh, a sign-out and a use of the old access token, at once."""
    refresh_token = alice.tokens["refresh_token"]
    outcomes = []

    def run(call) -> None:
        with app.app_context():
            barrier.wait()
            try:
                outcomes.append(call(refresh_token))
            except InvalidRefreshToken:
                outcomes.append(None)

    for _ in range(10):
        with app.app_context():
            pair = sessions.start(User.find_by_email(alice.email), Caller(alice.network))
            refresh_token = pair.refresh_token
        barrier = Barrier(4)
        places = ["192.0.2.1", "192.0.2.2", alice.network]
        calls = [lambda token, at=at: refreshes.refresh(token, Caller(at)) for at in places]
        calls.append(lambda token: sessions.end(token, caller=Caller(alice.network)))
        threads = [Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(outcomes) == 40
    with app.app_context():
        live = [session for session in Session.select() if not session.is_over]
        assert len(live) == 1  # Alice's own, from before.
