"""Rules about one row, and the named ways to find rows."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from peewee import IntegrityError

from runtime.models.codes import TRIES_A_CODE, SignUp
from runtime.models.sessions import Session
from runtime.models.users import User

ADA = {"username": "Ada", "email": "Ada@Example.org", "password_hash": "scrypt$secret"}


@pytest.fixture(autouse=True)
def _in_app(app: Flask):
    with app.app_context():
        yield


def sign_up(**columns) -> SignUp:
    return SignUp.create(
        **{
            **ADA,
            "network": "192.0.2.1",
            "code_hash": "hash of the code",
            "code_expires_at": datetime.now(UTC),
            **columns,
        }
    )


def test_a_user_is_found_whatever_the_case():
    user = User.create(**ADA)

    assert User.find_by_email("ADA@EXAMPLE.ORG") == user
    assert User.find_by_username("aDA") == user
    assert (user.username, user.email) == ("Ada", "Ada@Example.org")
    assert User.find_by_email("ada") is None
    assert User.find_by_username("A%") is None
    assert User.find_by_username("___") is None


@pytest.mark.parametrize("taken", [{"username": "ADA"}, {"email": "ada@example.ORG"}])
def test_the_database_itself_keeps_names_and_addresses_apart(taken: dict):
    User.create(**ADA)

    with pytest.raises(IntegrityError):
        User.create(
            **{"username": "bob", "email": "bob@example.org", "password_hash": "x", **taken}
        )


def test_a_session_is_over_when_it_was_ended():
    session = Session.create(user=User.create(**ADA), network="192.0.2.1")
    assert not session.is_over

    session.ended_at = datetime.now(UTC)

    assert session.is_over


@pytest.mark.parametrize(
    ("age", "idle", "is_over"),
    [
        ({"days": 0}, {"days": 0}, False),
        ({"days": 40}, {"days": 29, "hours": 23}, False),
        ({"days": 40}, {"days": 30}, True),
        ({"days": 364, "hours": 23}, {"days": 1}, False),
        ({"days": 365}, {"days": 0}, True),
        ({"hours": -1}, {"hours": -1}, False),
    ],
)
def test_a_session_is_over_after_thirty_idle_days_or_a_year(clock, age, idle, is_over: bool):
    now = clock.now()
    session = Session(created_at=now - timedelta(**age), refreshed_at=now - timedelta(**idle))

    assert session.is_over is is_over


@pytest.mark.parametrize(
    ("generation", "seconds", "is_proven", "may_repeat"),
    [
        (4, 0, True, True),
        (4, 10, True, True),
        (4, 11, True, False),
        (4, 11, False, True),
        (4, 86400, False, True),
        (4, -3600, True, True),
        (3, 0, False, False),
        (5, 0, False, False),
        (6, 0, False, False),
    ],
)
def test_only_the_last_token_may_be_repeated(clock, generation, seconds, is_proven, may_repeat):
    session = Session(
        generation=5, is_proven=is_proven, refreshed_at=clock.now() - timedelta(seconds=seconds)
    )

    assert session.may_repeat(generation, clock.now()) is may_repeat


def test_a_session_comes_with_its_user():
    session = Session.create(user=User.create(**ADA), network="192.0.2.1")

    assert Session.find_live(session.id).user.username == "Ada"
    session.user.delete_instance()
    assert Session.find_live(session.id) is None
    assert Session.select().count() == 0


def test_sign_ups_wait_for_an_address_whatever_its_case_the_newest_first(clock):
    for username in ("first", "second", "third"):
        sign_up(username=username)
        clock.advance(seconds=1)
    sign_up(email="bob@example.org")
    sign_up(tries_left=0)

    waiting = list(SignUp.waiting("ADA@example.org"))

    assert [sign_up.username for sign_up in waiting] == ["third", "second", "first"]
    assert {sign_up.tries_left for sign_up in waiting} == {TRIES_A_CODE} == {5}


def test_a_sign_up_waits_for_a_day(clock):
    sign_up()
    clock.advance(hours=23, minutes=59)
    assert SignUp.waiting("ada@example.org").count() == 1
    clock.advance(minutes=1)

    assert SignUp.waiting("ada@example.org").count() == 0


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_instants_come_back_as_they_were_and_compare_as_they_should(clock, microsecond: int):
    """SQLite compares them as text, in which a whole second must not be the shorter one."""
    instant = datetime(2026, 11, 22, 10, 15, 7, microsecond, tzinfo=UTC)
    made = sign_up(created_at=instant)

    assert SignUp.get_by_id(made.id).created_at == instant
    before, after = (instant + timedelta(microseconds=by) for by in (-1, 1))
    assert SignUp.select().where(SignUp.created_at > before, SignUp.created_at < after).exists()


def test_a_row_in_the_shell_shows_whose_it_is_and_no_secret():
    user = User.create(**ADA)
    session = Session.create(user=user, network="192.0.2.1")
    shown = [repr(user), repr(session), repr(sign_up())]

    assert "Ada Ada@Example.org" in shown[0]
    assert f"{user.id} live" in shown[1]
    assert "Ada Ada@Example.org" in shown[2]
    assert not any("secret" in text or "hash" in text for text in shown)
