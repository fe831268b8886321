"""Pages of rows that come and go meanwhile."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask

from runtime import clock
from runtime.database.pagination import CURSOR, page
from runtime.models.security_events import SecurityEvent
from runtime.models.users import User
from tests.conftest import Person

BEGAN = clock.now().replace(microsecond=123456)


@pytest.fixture
def alice(app: Flask, alice: Person) -> Iterator[User]:
    """Nothing has happened to her yet."""
    with app.app_context():
        SecurityEvent.delete().execute()
        yield User.get()


def add(user: User, minute: float, kind: str = "") -> None:
    at = BEGAN + timedelta(minutes=minute)
    SecurityEvent.create(user=user, kind=kind or str(minute), created_at=at)


def read(user: User, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
    found = page(user.events, SecurityEvent.created_at, cursor=cursor, limit=limit)
    return [event.kind for event in found.rows], found.next_cursor


def test_pages_go_from_the_newest_to_the_oldest(alice: User):
    for minute in (3, 1, 5, 2, 4):
        add(alice, minute)

    first, cursor = read(alice, 2)
    second, cursor = read(alice, 2, cursor)
    third, end = read(alice, 2, cursor)

    assert (first, second, third) == (["5", "4"], ["3", "2"], ["1"])
    assert end is None


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_cursor_comes_only_when_there_is_more(alice: User, count: int):
    for minute in range(count):
        add(alice, minute)

    rows, cursor = read(alice, 2)
    assert len(rows) == min(count, 2)
    assert bool(cursor) == (count > 2)


def test_rows_of_one_instant_are_all_there_and_once(alice: User):
    for number in range(7):
        add(alice, 0, str(number))

    seen, cursor = read(alice, 2)
    while cursor:
        rows, cursor = read(alice, 2, cursor)
        seen += rows
    assert sorted(seen) == list("0123456")


def test_what_is_added_meanwhile_moves_nothing(alice: User):
    for minute in range(6):
        add(alice, minute)
    first, cursor = read(alice, 3)
    add(alice, 7)
    add(alice, 8)

    assert (first, read(alice, 3, cursor)) == (["5", "4", "3"], (["2", "1", "0"], None))


def test_what_is_deleted_meanwhile_moves_nothing(alice: User):
    """The very row that the cursor names, too."""
    for minute in range(6):
        add(alice, minute)
    _first, cursor = read(alice, 3)
    SecurityEvent.delete().where(SecurityEvent.kind.in_(["5", "3"])).execute()

    assert read(alice, 3, cursor) == (["2", "1", "0"], None)


def test_a_cursor_is_exact_to_the_microsecond(alice: User):
    for tick in range(4):
        add(alice, tick / 60_000_000, str(tick))

    first, cursor = read(alice, 2)
    assert (first, read(alice, 2, cursor)[0]) == (["3", "2"], ["1", "0"])


def test_a_cursor_leads_to_nobody_elses_rows(app: Flask, alice: User, bob: Person):
    for minute in range(3):
        add(alice, minute)
    _rows, cursor = read(alice, 1)

    other = User.find_by_email(bob.email)
    SecurityEvent.delete().where(SecurityEvent.user == other).execute()
    assert read(other, 1, cursor) == ([], None)


@pytest.mark.parametrize("cursor", ["0" * 46, "f" * 46])
def test_whatever_looks_like_a_cursor_is_a_place(alice: User, cursor: str):
    add(alice, 0)

    assert re.fullmatch(CURSOR, cursor)
    assert len(read(alice, 1, cursor)[0]) == (1 if "f" in cursor else 0)
