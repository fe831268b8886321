"""The journal where HTTP cannot reach: what it costs, and what happens in the middle."""

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from flask import Flask

from runtime import server
from runtime.caller import Caller
from runtime.database.base import db, release
from runtime.errors import Failure
from runtime.models.security_events import SecurityEvent
from runtime.models.users import User
from runtime.services.accounts import security_log, sessions, sign_ins, users, verifications
from runtime.services.accounts.security_log import CAPACITY, REFUSALS_A_DAY, Kind, Refusals
from tests.conftest import PASSWORD, Person, at_once

NETWORK = "203.0.113.66"


@pytest.fixture
def settings(settings: dict) -> dict:
    """Nothing here rests on the limits."""
    return {**settings, "RATE_LIMITS": "off"}


@pytest.fixture
def late(app: Flask) -> Refusals:
    """Refusals that nobody records before the test says so."""
    app.extensions["refusals"] = Refusals(pause_seconds=3600)
    return app.extensions["refusals"]


def kinds() -> list[str]:
    return [event.kind for event in SecurityEvent.select().order_by(SecurityEvent.created_at)]


def refused(call: Callable) -> None:
    with pytest.raises(Failure):
        call()


def sign_in(email: str, password: str = "not the password") -> None:
    refused(lambda: sign_ins.sign_in(email, password, caller=Caller(NETWORK, "curl")))


def guess(email: str) -> None:
    refused(lambda: verifications.verify(email=email, code="000000", caller=Caller(NETWORK)))


def test_a_refusal_is_recorded_for_whoever_has_the_address(app: Flask, alice: Person, late):
    with app.app_context():
        sign_in("ALICE@example.org")
        late.flush()

        event = SecurityEvent.get(SecurityEvent.kind == "sign_in_refused")
        assert str(event.user_id) == alice.id
        assert (event.network, event.device, event.session_id) == (NETWORK, "curl", None)


def test_a_refusal_for_nobodys_address_leaves_nothing(app: Flask, alice: Person, late):
    with app.app_context():
        sign_in("nobody@example.org")
        guess("nobody@example.org")
        late.flush()

        assert kinds() == ["signed_in"]


def test_nothing_is_recorded_before_the_answer(app: Flask, alice: Person, late):
    with app.app_context():
        sign_in(alice.email)
        guess(alice.email)

        assert kinds() == ["signed_in"]
        late.flush()
        assert sorted(kinds()) == ["code_refused", "sign_in_refused", "signed_in"]


@pytest.mark.parametrize("attempt", [sign_in, guess])
def test_a_refusal_asks_the_database_the_same_of_every_address(
    app: Flask, alice: Person, bob: Person, late, caplog, attempt: Callable
):
    """Of nobody's, of somebody's, of a disabled account's."""
    with app.app_context():
        users.disable(User.find_by_email(bob.email))
        caplog.set_level(logging.DEBUG, "peewee")

        def asked(email: str) -> list[str]:
            caplog.clear()
            attempt(email)
            return [record.msg[0] for record in caplog.records if record.name == "peewee"]

        nobody = asked("nobody@example.org")
        assert nobody
        assert asked(alice.email) == nobody
        assert asked(bob.email) == nobody


def test_a_refusal_is_dated_when_it_happened(app: Flask, alice: Person, late):
    with app.app_context():
        sign_in(alice.email)
        time.sleep(0.05)
        security_log.record(User.get(), Kind.SIGNED_OUT, Caller(NETWORK))
        late.flush()

        assert kinds() == ["signed_in", "sign_in_refused", "signed_out"]


def test_of_a_flood_so_many_are_recorded_a_day(app: Flask, alice: Person, late, clock):
    with app.app_context():

        def flood() -> int:
            for _ in range(REFUSALS_A_DAY + 10):
                security_log.refuse(Kind.SIGN_IN_REFUSED, alice.email, Caller(NETWORK))
            late.flush()
            return kinds().count("sign_in_refused")

        assert flood() == REFUSALS_A_DAY
        assert flood() == REFUSALS_A_DAY
        security_log.refuse(Kind.CODE_REFUSED, alice.email, Caller(NETWORK))
        late.flush()
        assert kinds().count("code_refused") == 1
        clock.advance(days=1, seconds=1)
        assert flood() == 2 * REFUSALS_A_DAY


def test_a_thread_records_it_by_itself(app: Flask, alice: Person):
    app.extensions["refusals"] = refusals = Refusals(pause_seconds=0)
    with app.app_context():
        for _ in range(3):
            security_log.refuse(Kind.SIGN_IN_REFUSED, alice.email, Caller(NETWORK))
            while refusals._waiting:
                pass
        refusals.flush()  # and so wait for the thread that is still writing

        assert kinds().count("sign_in_refused") == 3


def test_refusals_at_once_are_all_recorded(app: Flask, alice: Person):
    app.extensions["refusals"] = refusals = Refusals(pause_seconds=0)

    def call() -> None:
        with app.app_context():
            security_log.refuse(Kind.SIGN_IN_REFUSED, alice.email, Caller(NETWORK))

    at_once(*[call] * 50)
    with app.app_context():
        refusals.flush()
        assert kinds().count("sign_in_refused") == 50


def test_a_flush_waits_for_what_is_being_recorded(app: Flask, alice: Person, late):
    """Or a worker that stops would leave its last refusals behind."""
    threads = [threading.Thread(target=late.flush) for _ in range(2)]
    with app.app_context():
        security_log.refuse(Kind.SIGN_IN_REFUSED, alice.email, Caller(NETWORK))
        with db.atomic() as transaction:
            User.delete().execute()  # and nothing about her can be recorded meanwhile
            threads[0].start()
            time.sleep(0.2)
            threads[1].start()
            threads[1].join(0.2)
            assert threads[1].is_alive()
            transaction.rollback()
        for thread in threads:
            thread.join()

        assert kinds().count("sign_in_refused") == 1


def test_no_connection_is_held_by_the_thread_that_records(app: Flask, alice: Person, late):
    held = []
    with app.app_context():
        security_log.refuse(Kind.SIGN_IN_REFUSED, alice.email, Caller(NETWORK))
        release()
    thread = threading.Thread(target=lambda: (late.flush(), held.append(not db.is_closed())))
    thread.start()
    thread.join()

    assert held == [False]


def test_only_so_many_refusals_wait(app: Flask, alice: Person, late):
    with app.app_context():
        for number in range(CAPACITY + 10):
            security_log.refuse(Kind.SIGN_IN_REFUSED, f"{number}@example.org", Caller(NETWORK))

    assert len(late._waiting) == CAPACITY


def test_what_cannot_be_recorded_stops_nothing(
    app: Flask, alice: Person, late, monkeypatch, caplog
):
    with app.app_context():
        monkeypatch.setattr(threading.Timer, "start", no_thread)
        sign_in(alice.email)
        monkeypatch.undo()
        sign_in(alice.email)
        db.execute_sql("ALTER TABLE security_events RENAME TO elsewhere")
        try:
            late.flush()
        finally:
            db.execute_sql("ALTER TABLE elsewhere RENAME TO security_events")
        assert caplog.messages.count("refusal_not_recorded") == 2

        sign_in(alice.email)
        late.flush()
        assert kinds().count("sign_in_refused") == 1


def no_thread(_thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_session_and_its_event_come_together_or_not_at_all(app: Flask, alice: Person):
    with app.app_context():
        user = User.get()
        db.execute_sql("ALTER TABLE security_events RENAME TO elsewhere")
        try:
            with pytest.raises(Exception, match="security_events"):
                sessions.start(user, Caller(NETWORK))
        finally:
            db.execute_sql("ALTER TABLE elsewhere RENAME TO security_events")

        assert user.sessions.count() == 1


def test_operators_are_in_the_journal_without_a_network(app: Flask, alice: Person):
    with app.app_context():
        user = User.find_by_email(alice.email)
        users.promote(user)
        users.disable(user)
        users.enable(user)

        told = SecurityEvent.select().where(SecurityEvent.network.is_null())
        assert sorted(event.kind for event in told) == ["disabled", "enabled", "promoted"]


def test_a_sign_up_begins_the_journal(app: Flask, outbox):
    with app.app_context():
        details = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}
        verifications.begin(**details, redirect_to=None, caller=Caller(NETWORK, language="en"))
        code = outbox.code("ada@example.org")
        verifications.verify(email="ada@example.org", code=code, caller=Caller(NETWORK))

        assert kinds() == ["signed_up"]


def test_a_worker_that_stops_records_what_it_has_refused(app: Flask, alice: Person, late):
    with app.app_context():
        security_log.refuse(Kind.SIGN_IN_REFUSED, alice.email, Caller(NETWORK))
        stopping = SimpleNamespace(extensions=app.extensions, interrupts_at=None)
        server.worker_exit(None, stopping)

        assert kinds().count("sign_in_refused") == 1
