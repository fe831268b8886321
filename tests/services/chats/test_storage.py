"""What one account may store."""

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.database.base import db, release
from runtime.errors import InvalidAccessToken
from runtime.limits.rates import REPEATS_PER_USER, RUNS_PER_USER
from runtime.models.chats import Chat, Run
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.spendings import Spending
from runtime.models.users import User
from runtime.services.accounts import erasures, sessions
from runtime.services.chats import runs
from runtime.services.chats.storage import LEAST_CHARS
from tests.conftest import Person, at_once
from tests.servers import wait_until


@pytest.fixture
def settings(settings: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
    """So little that a test may come to an end of it."""
    more = getattr(request, "param", {})
    return (
        settings
        | more
        | {
            "AGENT_MAX_CHATS": "10",
            "AGENT_DAILY_CHARS": str(20 * LEAST_CHARS),
            "MAX_SESSIONS": "3",
        }
    )


@pytest.fixture(autouse=True)
def in_app(app: Flask):
    with app.app_context():
        yield


def chats_of(person: Person) -> int:
    return Chat.select().where(Chat.user == UUID(person.id)).count()


def runs_of(person: Person) -> int:
    return Run.select().join(Chat).where(Chat.user == UUID(person.id)).count()


def fill_with_chats(person: Person, count: int) -> list[Chat]:
    """As an earlier release left them, which counted none."""
    return [Chat.create(user=UUID(person.id)) for _ in range(count)]


# Chats


def test_no_more_chats_are_begun_than_an_account_may_have(alice: Person, bob: Person):
    chats = fill_with_chats(alice, 10)

    refused = alice.chat("What is 1 + 1?")

    assert refused.status_code == 422
    assert refused.json["detail"] == "对话数量已达上限，请先删除不需要的对话"
    assert refused.json["errors"] == [
        {"pointer": "#", "code": "at_most_chats", "detail": "最多可以有 10 个对话"}
    ]
    assert alice.chat("What is 1 + 1?", str(chats[0].id)).status_code == 200
    assert bob.chat("What is 1 + 1?").status_code == 200
    assert (chats_of(alice), runs_of(alice)) == (10, 1)


def test_the_refusal_is_in_the_language_of_who_reads_it(alice: Person):
    fill_with_chats(alice, 10)
    alice.language = "en"

    refused = alice.chat("What is 1 + 1?").json

    assert refused["detail"] == "You have as many chats as you may have. Please delete some first."
    assert [each["detail"] for each in refused["errors"]] == ["You may have at most 10 chats."]


def test_a_chat_that_is_erased_makes_room_for_another(alice: Person):
    for _ in range(10):
        last = alice.chat("What is 1 + 1?")
    assert alice.chat("What is 1 + 1?").status_code == 422

    alice.delete(f"/agent-chats/{last.json['session_id']}")

    assert alice.chat("What is 1 + 1?").status_code == 200
    assert alice.chat("What is 1 + 1?").status_code == 422


@pytest.mark.parametrize("there", [0, 7])
def test_however_many_are_begun_at_once_none_is_too_many(app: Flask, alice: Person, there: int):
    """Counted for the first time, or before."""
    fill_with_chats(alice, there)
    statuses = at_once(*[lambda: alice.chat("What is 1 + 1?").status_code] * 50)

    # Eight at once in a process; the others are refused before.
    assert set(statuses) <= {200, 422, 429}
    assert chats_of(alice) == there + statuses.count(200) <= 10
    for _ in range(10):
        alice.chat("What is 1 + 1?")
    assert chats_of(alice) == 10


def test_ag_ui_makes_no_more_chats_either(alice: Person):
    fill_with_chats(alice, 10)
    body = {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "m", "role": "user", "content": "What is 1 + 1?"}],
        "tools": [],
    }
    headers = {"Accept": "text/event-stream"}

    assert alice.post("/agent-chats/ag-ui", body, headers=headers).status_code == 422
    assert chats_of(alice) == 10


# Characters


def test_a_day_has_so_many_characters(alice: Person, clock):
    """Each of these is as long as two of the shortest that count."""
    chat_id = str(uuid4())
    for _ in range(10):
        assert alice.chat("a" * 2 * LEAST_CHARS, chat_id).status_code == 200

    refused = alice.chat("a", chat_id)

    assert refused.status_code == 429
    assert refused.json["detail"].startswith("今天发送的内容已达上限")
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert runs_of(alice) == 10
    clock.advance(seconds=int(refused.headers["Retry-After"]))
    alice.tokens = alice.refresh().json
    assert alice.chat("a", chat_id).status_code == 200


def test_a_short_message_counts_as_a_longer_one(alice: Person):
    chat_id = alice.chat("a").json["session_id"]

    assert Spending.get(Spending.user == UUID(alice.id)).chars == LEAST_CHARS
    alice.chat("a" * (LEAST_CHARS + 1), chat_id)
    assert Spending.get(Spending.user == UUID(alice.id)).chars == 2 * LEAST_CHARS + 1


def test_what_is_refused_costs_nothing(alice: Person, bob: Person, clock):
    """A chat of somebody else's, and one in which another run goes on."""
    others = bob.chat("a").json["session_id"]
    alice.chat("a")
    before = Spending.get(Spending.user == UUID(alice.id))
    busy = Chat.create(user=UUID(alice.id))
    Run.create(chat=busy, message="a", lease_until=clock.now() + timedelta(hours=1))

    assert alice.chat("a", others).status_code == 404
    assert alice.chat("a", str(busy.id)).status_code == 409
    after = Spending.get(Spending.user == UUID(alice.id))
    assert (after.chars, after.chats) == (before.chars, before.chats)


@pytest.mark.parametrize("settings", [{"AGENT_DAILY_TOKENS": "50000"}], indirect=True)
def test_a_message_whose_history_cannot_be_paid_for_costs_nothing(alice: Person):
    chat_id = alice.chat("a" * 8000).json["session_id"]
    own = Spending.user == UUID(alice.id)
    Spending.update(tokens=50_000 - 6000).where(own).execute()
    before = Spending.get(own).chars

    refused = alice.chat("a", chat_id)

    assert (refused.status_code, refused.json["code"]) == (429, "out_of_tokens")
    assert Spending.get(own).chars == before == 8000


def test_what_is_refused_is_none_of_the_minutes_messages(app: Flask, alice: Person):
    chat = fill_with_chats(alice, 10)[0]
    for _ in range(RUNS_PER_USER.amount - 1):
        app.extensions["ratelimit"].spend(RUNS_PER_USER, alice.id)

    assert [alice.chat("a").status_code for _ in range(3)] == [422] * 3
    assert alice.chat("a", str(chat.id)).status_code == 200


@pytest.mark.parametrize("chats, status", [(10, 422), (1, 429)])
def test_nobody_is_refused_without_end(app: Flask, alice: Person, chats: int, status: int):
    """Each time their chats are counted, whether these or the day are full."""
    fill_with_chats(alice, chats)
    own = Spending.user == UUID(alice.id)
    Spending.insert(user=UUID(alice.id), day=Spending.today(), tokens=0, chars=10**9).execute()
    for _ in range(REPEATS_PER_USER.amount - 2):
        app.extensions["ratelimit"].spend(REPEATS_PER_USER, alice.id)

    answers = [alice.chat("a") for _ in range(3)]

    assert [each.status_code for each in answers] == [status, status, 429]
    assert answers[-1].json["code"] == "too_many_requests"
    assert (chats_of(alice), Spending.get(own).chars) == (chats, 10**9)


def test_an_account_that_is_disabled_takes_no_room(alice: Person):
    """Its request was let in before."""
    alice.chat("a")
    user = User.get_by_id(UUID(alice.id))
    User.update(disabled_at=user.created_at).where(User.id == user.id).execute()

    for chat_id in (None, Chat.get().id):
        with pytest.raises(InvalidAccessToken):
            runs.start(user, "a", chat_id)
    assert (runs_of(alice), Spending.get().chars) == (1, LEAST_CHARS)


@pytest.mark.parametrize("settings", [{"RATE_LIMITS": "off"}], indirect=True)
def test_a_load_test_has_no_such_bound(alice: Person):
    fill_with_chats(alice, 10)

    assert alice.chat("a" * 8000).status_code == 200
    assert alice.chat("a" * 8000).status_code == 200


# Sessions


def test_a_sign_in_too_many_ends_the_session_unused_for_longest(alice: Person, member: Callable):
    user = User.get_by_id(UUID(alice.id))
    pairs = [sessions.start(user, Caller("192.0.2.1")) for _ in range(2)]
    alice.tokens = alice.refresh().json  # Hers is the oldest, and used last.
    newest = sessions.start(user, Caller("192.0.2.1"))
    release()

    assert alice.get("/users/me").status_code == 200
    tokens = [pair.access_token for pair in (*pairs, newest)]
    asked = [
        alice.get("/users/me", headers={"Authorization": f"Bearer {token}"}) for token in tokens
    ]
    assert [answer.status_code for answer in asked] == [401, 200, 200]
    ended = SecurityEvent.select().where(SecurityEvent.kind == "session_ended")
    assert [event.network for event in ended] == [None]


def test_however_many_sign_in_at_once_so_many_stay(app: Flask, alice: Person):
    user = User.get_by_id(UUID(alice.id))
    release()

    def sign_in() -> None:
        with app.app_context():
            sessions.start(user, Caller("192.0.2.1"))

    at_once(*[sign_in] * 30)

    assert Session.count_live(user) == 3


def test_of_sessions_that_have_ended_the_newest_are_remembered(
    alice: Person, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sessions, "REMEMBERED_SESSIONS", 5)
    user = User.get_by_id(UUID(alice.id))
    for _ in range(8):
        newest = sessions.start(user, Caller("192.0.2.1"))

    kept = Session.select().where(Session.user == user).count()
    assert (kept, Session.count_live(user)) == (5, 3)
    assert sessions.authenticate(newest.access_token)


def test_a_run_that_begins_and_an_erasure_do_not_wait_for_each_other(app: Flask, alice: Person):
    """The statement that begins it locks its user's row here before it refers to the account."""
    if not db.obj.for_update:
        pytest.skip("SQLite has one writer at a time")
    alice.chat("a")
    user = User.get_by_id(UUID(alice.id))

    def erase() -> None:
        with app.app_context():
            erasures.erase(user)

    def is_waiting() -> bool:
        db.execute_sql("SELECT pg_stat_clear_snapshot()")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(db.execute_sql(waiting).fetchone()[0])

    eraser = threading.Thread(target=erase)
    with db.atomic():
        Spending.update(tokens=1).where(Spending.user == user).execute()
        eraser.start()
        wait_until(is_waiting, 5, "the erasure waits")
        Chat.create(user=user)
    eraser.join()

    assert User.get_or_none(User.id == user.id) is None
