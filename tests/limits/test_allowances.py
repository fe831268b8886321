"""The bounds that must hold whatever else is down, on every database there is."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from runtime.database import migrate
from runtime.database.base import db
from runtime.database.connections import connect
from runtime.errors import TooManyRequests
from runtime.limits.allowances import Bucket, is_left, spend
from runtime.models.allowances import Allowance
from tests.conftest import url_of

TRIES = Bucket("tries", 3, timedelta(minutes=10))


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path) -> Iterator[None]:
    """A database of the test's own, migrated."""
    server = url_of("TEST_DATABASE_URL") if request.param == "postgres" else ""
    name = f"test_{uuid4().hex}"
    url = f"sqlite:///{tmp_path / name}"
    if request.param == "postgres":
        _on_server(server, f"CREATE DATABASE {name}")
        url = f"{server.rpartition('/')[0]}/{name}"
    db.initialize(connect(url, 64))
    migrate.upgrade(db.obj)
    yield
    db.close_all()
    if request.param == "postgres":
        _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


def _on_server(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def seconds_to_wait(*key: str, bucket: Bucket = TRIES) -> float:
    with pytest.raises(TooManyRequests) as refusal:
        spend(bucket, *key)
    return refusal.value.retry_after


def test_so_many_at_once_and_no_more(database, clock):
    for _ in range(3):
        spend(TRIES, "ada")

    assert seconds_to_wait("ada") == pytest.approx(600)


def test_looking_whether_one_is_left_spends_none(database, clock):
    for _ in range(3):
        assert is_left(TRIES, "ada")
        assert is_left(TRIES, "ada")
        spend(TRIES, "ada")
    assert not is_left(TRIES, "ada")
    assert is_left(TRIES, "bob")

    clock.advance(minutes=9, seconds=59)
    assert not is_left(TRIES, "ada")
    clock.advance(seconds=1)
    assert is_left(TRIES, "ada")


def test_one_grows_back_every_period(database, clock):
    for _ in range(3):
        spend(TRIES, "ada")
    for _ in range(5):
        clock.advance(minutes=9, seconds=59)
        assert seconds_to_wait("ada") == pytest.approx(1)
        clock.advance(seconds=1)
        spend(TRIES, "ada")
    assert seconds_to_wait("ada") == pytest.approx(600)


def test_all_grow_back_and_no_more_than_all(database, clock):
    for _ in range(3):
        spend(TRIES, "ada")
    clock.advance(days=30)
    for _ in range(3):
        spend(TRIES, "ada")

    assert seconds_to_wait("ada") == pytest.approx(600)


def test_the_time_to_wait_is_true(database, clock):
    for _ in range(3):
        spend(TRIES, "ada")
        clock.advance(seconds=7)
    wait = seconds_to_wait("ada")
    clock.advance(seconds=wait - 1)
    assert seconds_to_wait("ada") == pytest.approx(1)
    clock.advance(seconds=1)

    spend(TRIES, "ada")


def test_what_is_refused_costs_nothing(database, clock):
    for _ in range(3):
        spend(TRIES, "ada")
    for _ in range(50):
        seconds_to_wait("ada")
    clock.advance(minutes=10)

    spend(TRIES, "ada")


def test_the_first_is_known_for_the_first(database, clock):
    assert [spend(TRIES, "ada") for _ in range(3)] == [True, False, False]
    clock.advance(minutes=29)
    assert spend(TRIES, "ada") is False
    clock.advance(minutes=20)

    assert spend(TRIES, "ada") is True


def test_keys_and_rates_are_counted_apart(database, clock):
    another = Bucket("others", 1, timedelta(minutes=10))
    for _ in range(3):
        spend(TRIES, "ada", "192.0.2.1")
    spend(TRIES, "ada", "192.0.2.2")
    spend(another, "ada", "192.0.2.1")

    assert seconds_to_wait("ada", "192.0.2.1", bucket=another) == pytest.approx(600)
    assert seconds_to_wait("ada", "192.0.2.1") == pytest.approx(600)


def test_a_clock_set_back_locks_nobody_out_for_good(database, clock):
    for _ in range(3):
        spend(TRIES, "ada")
    clock.advance(hours=-1)
    wait = seconds_to_wait("ada")
    clock.advance(seconds=wait)

    spend(TRIES, "ada")


def test_in_a_day_it_is_the_burst_and_what_grew_back(database, clock):
    spent = 0
    for _ in range(24 * 12):
        try:
            spend(TRIES, "ada")
            spent += 1
        except TooManyRequests:
            clock.advance(minutes=5)

    assert spent <= 3 + 24 * 6


def test_threads_at_once_never_overspend(database, clock):
    bucket = Bucket("tries", 7, timedelta(minutes=10))
    threads_at_once = 16
    barrier, lock, outcomes = threading.Barrier(threads_at_once), threading.Lock(), []

    def run() -> None:
        barrier.wait()
        for _ in range(4):
            try:
                outcome = spend(bucket, "ada")
            except TooManyRequests:
                outcome = None
            with lock:
                outcomes.append(outcome)
        db.close()

    threads = [threading.Thread(target=run) for _ in range(threads_at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outcomes) == threads_at_once * 4
    assert (outcomes.count(True), outcomes.count(False)) == (1, 6)
    assert Allowance.select().count() == 1
