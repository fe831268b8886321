"""What has run out goes, what has not stays, and one process at a time sees to it."""

import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from flask import Flask
from peewee import DatabaseError

from runtime import clock as runtime_clock
from runtime import server
from runtime.database.base import db
from runtime.models.allowances import Allowance
from runtime.models.codes import EmailChange, Mailing, Recovery, SignUp
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services import purge
from runtime.services.purge import STEP_ROWS, WAKE_SECONDS, Purger
from tests.conftest import Person, at_once

DAY = timedelta(days=1)
NOTHING = {
    "sign_ups": 0,
    "recoveries": 0,
    "email_changes": 0,
    "mailings": 0,
    "allowances": 0,
    "sessions": 0,
    "security_events": 0,
    "former_spendings": 0,
}


@pytest.fixture(autouse=True)
def in_app(app: Flask, alice: Person):
    """Alice's session has just begun."""
    with app.app_context():
        yield


def make_sign_up(at) -> None:
    SignUp.create(
        email="ada@example.org",
        username="ada",
        password_hash="-",
        network="192.0.2.1",
        code_hash="-",
        code_expires_at=at,
        created_at=at,
    )


def make_recovery(at) -> None:
    Recovery.create(
        email="ada@example.org",
        network="192.0.2.1",
        code_hash="-",
        code_expires_at=at,
        created_at=at,
    )


def make_email_change(at) -> None:
    EmailChange.create(
        user=User.get(),
        old_email="alice@example.org",
        email="ada@example.org",
        network="192.0.2.1",
        code_hash="-",
        code_expires_at=at,
        created_at=at,
    )


def make_mailing(at) -> None:
    Mailing.create(address_hash="-", network_hash="-", is_opening=True, is_own=False, created_at=at)


def make_allowance(at) -> None:
    Allowance.create(key=str(at), spent_until=at.timestamp())


def make_event(at) -> None:
    SecurityEvent.create(user=User.get(), kind="signed_in", created_at=at)


def make_session(at) -> None:
    """Refreshed last at an instant, and begun a month before."""
    Session.create(user=User.get(), network="192.0.2.1", created_at=at - 30 * DAY, refreshed_at=at)


LIVES = [
    (make_sign_up, "sign_ups", DAY),
    (make_recovery, "recoveries", DAY),
    (make_email_change, "email_changes", 7 * DAY + timedelta(minutes=10)),
    (make_mailing, "mailings", 2 * DAY),
    (make_allowance, "allowances", timedelta(0)),
    (make_session, "sessions", 120 * DAY),
    (make_event, "security_events", 90 * DAY),
]


@pytest.mark.parametrize(("make", "table", "life"), LIVES, ids=[life[1] for life in LIVES])
def test_what_has_run_out_goes_and_nothing_else(make: Callable, table: str, life: timedelta):
    make(runtime_clock.now() - life - timedelta(minutes=1))
    make(runtime_clock.now() - life + timedelta(minutes=1))

    assert purge.purge() == NOTHING | {table: 1}
    assert purge.purge() == NOTHING


def test_a_live_session_is_never_purged(alice: Person, clock):
    for _ in range(12):
        clock.advance(days=29)
        alice.tokens = alice.refresh().json
        purge.purge()

    assert alice.get("/users/me").status_code == 200


def test_events_are_kept_as_long_as_a_setting_says(app: Flask):
    app.config["EVENTS_DAYS"] = 7
    make_event(runtime_clock.now() - 8 * DAY)
    make_event(runtime_clock.now() - 6 * DAY)

    assert purge.purge()["security_events"] == 1


def test_it_waits_for_no_row_that_somebody_holds(app: Flask):
    """They may want one that the purge has: two tries at codes take two allowances each."""
    make_allowance(runtime_clock.now() - DAY)
    make_allowance(runtime_clock.now() - 2 * DAY)
    is_held, is_purged = threading.Event(), threading.Event()

    def hold() -> None:
        with app.app_context(), db.atomic():
            one = Allowance.select().limit(1)
            list(one.for_update(db.obj.for_update))
            is_held.set()
            is_purged.wait(1)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(5)
    purged = [purge.purge()["allowances"]]
    is_purged.set()
    holder.join()
    purged.append(purge.purge()["allowances"])

    # SQLite holds all rows or none.
    assert purged == ([1, 1] if db.obj.for_update else [2, 0])


def test_a_table_that_fails_keeps_no_other_from_its_turn(app: Flask):
    make_event(runtime_clock.now() - 91 * DAY)
    db.execute_sql("ALTER TABLE sign_ups RENAME TO gone")
    try:
        with pytest.raises(DatabaseError):
            purge.purge()
    finally:
        db.execute_sql("ALTER TABLE gone RENAME TO sign_ups")

    assert SecurityEvent.select().where(SecurityEvent.kind == "signed_in").count() == 1


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are executed from now on."""
    statements = []
    execute = db.obj.execute_sql

    def watched(sql, *arguments):
        statements.append(sql)
        return execute(sql, *arguments)

    monkeypatch.setattr(db.obj, "execute_sql", watched)
    return statements


def make_old_events(count: int, at: Callable[[int], datetime]) -> None:
    rows = [{"user": User.get(), "kind": "signed_in", "created_at": at(i)} for i in range(count)]
    for start in range(0, count, 500):
        SecurityEvent.insert_many(rows[start : start + 500]).execute()


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(seconds=1)], ids=["alike", "apart"])
def test_it_is_done_in_steps(app: Flask, monkeypatch: pytest.MonkeyPatch, apart: timedelta):
    """However many rows have one and the same instant."""
    old = runtime_clock.now() - 91 * DAY
    make_old_events(2 * STEP_ROWS + 1, lambda i: old - i * apart)
    statements = watch(monkeypatch)

    assert list(purge._delete_in_steps(SecurityEvent, purge._rules()[SecurityEvent])) == [
        STEP_ROWS,
        STEP_ROWS,
        1,
    ]
    assert len([sql for sql in statements if sql.startswith("DELETE")]) == 3


def test_what_is_left_between_the_steps_is_read_once(app: Flask):
    """Sessions that are live are passed, and those behind them found."""
    begun = runtime_clock.now() - 200 * DAY
    live, over = runtime_clock.now(), begun + DAY
    rows = [
        {"user": User.get(), "network": "-", "created_at": begun, "refreshed_at": at}
        for at in [live] * (STEP_ROWS + 5) + [over] * 3
    ]
    for start in range(0, len(rows), 200):
        Session.insert_many(rows[start : start + 200]).execute()

    steps = list(purge._delete_in_steps(Session, purge._rules()[Session]))

    assert (len(steps), sum(steps)) == (2, 3)
    assert Session.select().where(Session.created_at == begun).count() == STEP_ROWS + 5


@pytest.mark.in_process("Postgres locks rows, and no writer waits there")
@pytest.mark.quiet("compares how long statements wait")
def test_others_write_while_sqlite_is_purged(app: Flask):
    """Each step leaves the file to others for as long as it took itself."""
    old = runtime_clock.now() - 91 * DAY
    make_old_events(40 * STEP_ROWS, lambda i: old - timedelta(seconds=i))
    is_over, waits = threading.Event(), []

    def write() -> None:
        with app.app_context():
            while not is_over.is_set():
                began = time.monotonic()
                User.update(bio="busy").execute()
                waits.append(time.monotonic() - began)

    began = time.monotonic()
    writer = threading.Thread(target=write)
    writer.start()
    assert purge.purge()["security_events"] == 40 * STEP_ROWS
    seconds = time.monotonic() - began
    is_over.set()
    writer.join()

    assert max(waits) < seconds / 8
    assert len(waits) > 20


# Now and then


def old_events() -> int:
    return SecurityEvent.select().where(SecurityEvent.kind == "old").count()


def make_old_event() -> None:
    old = runtime_clock.now() - 91 * DAY
    SecurityEvent.create(user=User.get(), kind="old", created_at=old)


def test_the_service_purges_once_an_hour(clock):
    make_old_event()
    purge.purge_if_due()
    assert old_events() == 0

    make_old_event()
    clock.advance(minutes=59)
    purge.purge_if_due()
    assert old_events() == 1

    clock.advance(minutes=2)
    purge.purge_if_due()
    assert old_events() == 0


def test_of_processes_that_wake_at_once_one_purges(app: Flask, caplog):
    def wake() -> None:
        with app.app_context():
            purge.purge_if_due()

    at_once(*[wake] * 8)

    assert caplog.messages.count("purged") == 1


def test_looking_whether_it_is_due_is_no_limit_reached(serve, settings: dict):
    app = serve(settings | {"METRICS_TOKEN": "a-token"})

    def reached() -> list[str]:
        """Other tests of this process may have reached it."""
        answer = app.test_client().get("/metrics", headers={"Authorization": "Bearer a-token"})
        assert answer.status_code == 200
        return re.findall(r'^limits_reached_total{limit="purge"}.*', answer.text, re.MULTILINE)

    before = reached()
    with app.app_context():
        for _ in range(3):
            purge.purge_if_due()

    assert reached() == before


class Woken(Exception):
    """Enough of it."""


def purger(app: Flask, times: int, wake: Callable[[], None] = lambda: None) -> tuple:
    """One that wakes so many times without sleeping, and the seconds it would have slept."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        if len(slept) == times:
            raise Woken
        slept.append(seconds)
        wake()

    return Purger(app, sleep), slept


def run(purger: Purger) -> None:
    """Its thread, to the end, which a real one has not."""

    def until_woken() -> None:
        with pytest.raises(Woken):
            purger._run()

    thread = threading.Thread(target=until_woken)
    thread.start()
    thread.join()


def test_a_thread_wakes_now_and_then_and_purges(app: Flask):
    make_old_event()
    waking, slept = purger(app, 20)
    run(waking)

    assert old_events() == 0
    assert all(WAKE_SECONDS / 2 <= seconds <= WAKE_SECONDS * 1.5 for seconds in slept)
    assert len(set(slept)) > 1


def test_an_outage_ends_no_thread(app: Flask, caplog):
    make_old_event()
    tables = iter([("allowances", "elsewhere"), ("elsewhere", "allowances")])
    waking, _slept = purger(
        app, 2, lambda: db.execute_sql("ALTER TABLE {} RENAME TO {}".format(*next(tables)))
    )
    run(waking)

    assert caplog.messages.count("not_purged") == 1
    assert old_events() == 0


def test_no_connection_is_held_between_two_purges(app: Flask):
    held = []
    waking, _slept = purger(app, 2, lambda: held.append(not db.is_closed()))
    run(waking)

    assert held == [False, False]


def test_a_worker_starts_it_after_its_fork(app: Flask):
    started = []
    app.extensions["purger"] = waking = Purger(app)
    waking.start = lambda: started.append(waking)

    class Worker:
        extensions = app.extensions

    server.post_worker_init(Worker)
    assert started == [waking]
