"""The password that is demanded once more of somebody who is signed in."""

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.errors import TooManyRequests, WrongPassword
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import sign_ins
from runtime.services.accounts.credentials import demand_password
from tests.conftest import PASSWORD, Person

NETWORK = "203.0.113.66"


@pytest.fixture
def session(app: Flask, alice: Person) -> Session:
    with app.app_context():
        yield Session.find_live(Session.get().id)


def guess(session: Session, network: str = NETWORK) -> None:
    with pytest.raises(WrongPassword):
        demand_password(session, "not the password", Caller(network, "curl"))


def test_the_right_password_passes(session: Session):
    demand_password(session, PASSWORD, Caller(NETWORK))

    assert not SecurityEvent.select().where(SecurityEvent.kind == "password_refused").exists()


def test_a_wrong_one_is_refused_and_recorded(ground, session: Session):
    guess(session)
    ground.settle()

    event = SecurityEvent.get(SecurityEvent.kind == "password_refused")
    assert (event.user_id, event.network, event.device) == (session.user_id, NETWORK, "curl")


def test_a_session_has_ten_tries_wherever_they_come_from(session: Session):
    for number in range(10):
        guess(session, f"192.0.2.{number}")

    with pytest.raises(TooManyRequests):
        demand_password(session, PASSWORD, Caller(NETWORK))


def test_who_guesses_in_one_session_locks_no_other(session: Session):
    for _ in range(10):
        guess(session)
    sign_ins.sign_in(session.user.email, PASSWORD, caller=Caller(NETWORK))
    [fresh] = [each for each in User.get().sessions if each.id != session.id]

    demand_password(fresh, PASSWORD, Caller(NETWORK))


def test_the_right_password_clears_the_count(session: Session):
    for _ in range(3):
        for _ in range(9):
            guess(session)
        demand_password(session, PASSWORD, Caller(NETWORK))
