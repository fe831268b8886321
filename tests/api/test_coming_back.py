"""Who erases an account and signs up anew has nothing again that was bounded for a while."""

from datetime import timedelta
from uuid import UUID

import pytest
from flask import Flask

from runtime.models.spendings import FormerSpending, Spending
from runtime.models.users import User
from runtime.services import purge
from runtime.services.accounts import erasures, users
from tests.agent.completions_server import CompletionsServer
from tests.conftest import PASSWORD, Outbox, Person

LIMIT = 50_000
EMAIL = "alice@example.org"


@pytest.fixture
def budget(settings: dict[str, str], model: CompletionsServer) -> None:
    """LIMIT tokens a day for each user."""
    settings |= {"AGENT_DAILY_TOKENS": str(LIMIT), "AGENT_MAX_OUTPUT_TOKENS": "1000"}


def left(person: Person) -> int:
    return person.get("/agent-chats/budget").json["left"]


def spend(app: Flask, person: Person, tokens: int) -> None:
    """Let somebody have used so many tokens today."""
    with app.app_context():
        Spending.create(user=UUID(person.id), day=Spending.today(), tokens=tokens)


def leave(person: Person) -> None:
    assert person.delete("/users/me", {"current_password": PASSWORD}).status_code == 204
    person.tokens = {}


def sign_up(person: Person, outbox: Outbox, email: str = EMAIL, username: str = "again") -> None:
    body = {"username": username, "email": email, "password": PASSWORD}
    assert person.post("/auth/verifications", body).status_code == 202
    code = {"email": email, "token": outbox.code(email)}
    answer = person.post("/auth/verifications/verify", code)
    assert answer.status_code == 200
    person.tokens, person.id = answer.json, answer.json["user"]["id"]


def move(person: Person, email: str, outbox: Outbox) -> None:
    body = {"email": email, "current_password": PASSWORD}
    assert person.post("/users/me/email", body).status_code == 202
    code = {"email": email, "token": outbox.code(email)}
    answer = person.post("/users/me/email/verify", code)
    assert answer.status_code == 200
    person.tokens = answer.json


def test_a_days_tokens_are_not_had_again(budget, app: Flask, alice: Person, outbox: Outbox):
    spend(app, alice, LIMIT)
    for number in range(2):
        leave(alice)
        sign_up(alice, outbox, EMAIL.upper(), f"again{number}")

        assert left(alice) == 0
        assert alice.chat("hello").status_code == 429


def test_what_is_left_of_a_day_is_had_again(budget, app: Flask, alice, outbox: Outbox):
    spend(app, alice, 30_000)
    leave(alice)
    sign_up(alice, outbox)

    assert left(alice) == LIMIT - 30_000
    assert alice.chat("hello").status_code == 200
    assert left(alice) == LIMIT - 30_000 - 10
    leave(alice)
    sign_up(alice, outbox, username="once_more")
    assert left(alice) == LIMIT - 30_000 - 10


def test_an_address_that_the_account_had_brings_no_tokens_either(
    budget, app: Flask, alice: Person, outbox: Outbox
):
    spend(app, alice, LIMIT)
    move(alice, "new@example.org", outbox)
    leave(alice)
    sign_up(alice, outbox, EMAIL)
    assert left(alice) == 0
    leave(alice)
    sign_up(alice, outbox, "new@example.org", "new")

    assert left(alice) == 0


def test_the_next_day_brings_tokens(budget, app: Flask, alice, outbox: Outbox, clock):
    spend(app, alice, LIMIT)
    leave(alice)
    clock.hold((clock.now() + timedelta(days=1)).replace(hour=0, minute=0, second=1))
    sign_up(alice, outbox)

    assert left(alice) == LIMIT
    with app.app_context():
        assert purge.purge()["former_spendings"] == 1
        assert FormerSpending.select().count() == 0


def test_another_address_has_a_days_tokens(budget, app: Flask, alice, outbox: Outbox):
    spend(app, alice, LIMIT)
    leave(alice)
    sign_up(alice, outbox, "somebody@example.org")

    assert left(alice) == LIMIT


def test_what_is_kept_names_nobody(budget, app: Flask, alice: Person):
    spend(app, alice, 7)
    leave(alice)

    with app.app_context():
        [kept] = FormerSpending.select().dicts()
        assert kept["tokens"] == 7
        for trace in (EMAIL, "alice", alice.id, alice.id.replace("-", "")):
            assert trace not in str(kept)


def test_an_operator_gives_no_days_tokens_again(budget, app: Flask, alice: Person):
    spend(app, alice, LIMIT)
    with app.app_context():
        erasures.erase(User.find_by_email(EMAIL))
        user = users.create("again", EMAIL, PASSWORD)

        assert Spending.get(Spending.user == user).tokens == LIMIT


def test_exports_of_a_day_are_not_had_again(app: Flask, alice: Person, outbox: Outbox):
    statuses = [alice.get("/users/me/export").status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    leave(alice)
    sign_up(alice, outbox)

    assert alice.get("/users/me/export").status_code == 429


def test_changes_of_address_of_a_day_are_not_had_again(app, alice, outbox: Outbox):
    def ask(number: int) -> int:
        body = {"email": f"victim{number}@example.org", "current_password": PASSWORD}
        return alice.post("/users/me/email", body).status_code

    assert [ask(number) for number in range(7)] == [202] * 6 + [429]
    leave(alice)
    sign_up(alice, outbox)

    assert ask(7) == 429
