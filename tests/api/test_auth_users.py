"""/auth/users"""

import pytest

from runtime.models.users import User
from tests.conftest import Person, instant


def find(person: Person, email: str):
    return person.get("/auth/users", query_string={"email": email})


@pytest.mark.parametrize("email", ["alice@example.org", "Alice@EXAMPLE.org"])
def test_one_finds_oneself(alice: Person, email: str):
    answer = find(alice, email)

    assert answer.status_code == 200
    assert answer.json.keys() == {"id", "email", "created_at", "email_confirmed_at"}
    assert (answer.json["id"], answer.json["email"]) == (alice.id, "alice@example.org")
    assert instant(answer.json["created_at"])
    assert instant(answer.json["email_confirmed_at"])


@pytest.mark.parametrize("email", ["alice@example.org", "ALICE@example.org"])
def test_an_administrator_finds_anybody(admin: Person, alice: Person, email: str):
    answer = find(admin, email)

    assert (answer.status_code, answer.json["id"]) == (200, alice.id)


def test_an_address_that_was_never_confirmed_says_so(admin: Person, member):
    erin = member("erin")
    with admin.client.application.app_context():
        User.update(email_confirmed_at=None).where(User.id == erin.id).execute()

    assert find(admin, erin.email).json["email_confirmed_at"] is None


def test_others_learn_nothing(alice: Person, bob: Person):
    known, unknown = find(alice, "bob@example.org"), find(alice, "nob@example.org")

    assert (known.status_code, known.json["detail"]) == (403, "无权限访问")
    assert known.data == unknown.data
    for answer in (known, unknown):
        del answer.headers["X-Request-ID"]
    assert known.headers == unknown.headers


def test_only_an_administrator_sees_that_there_is_nobody(admin: Person):
    answer = find(admin, "nobody@example.org")

    assert (answer.status_code, answer.json["detail"]) == (404, "用户不存在")


@pytest.mark.parametrize("email", ["alice@example.org", "nobody@example.org", "x"])
def test_it_is_for_who_is_signed_in(stranger: Person, alice: Person, email: str):
    answer = find(stranger, email)

    assert (answer.status_code, answer.json["detail"]) == (401, "未认证")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


NONSENSE = [
    ("", "email"),
    ("?email=", "email"),
    ("?email=alice", "email"),
    ("?email=alice@example.org%0A", "email"),
    ("?email=alice@example.org&email=bob@example.org", "email"),
    ("?email=alice@example.org&email=alice@example.org", "email"),
    ("?email=alice@example.org&id=1", "id"),
    ("?Email=alice@example.org", "Email"),
    ("?email=alice@example.org&%23/email=1", "#/email"),
    ("?%23=1&%23=2", "#"),
]


@pytest.mark.parametrize("who", ["alice", "admin"])
def test_a_question_that_makes_no_sense_is_refused(request, who: str):
    asker = request.getfixturevalue(who)
    for query, parameter in NONSENSE:
        answer = asker.get(f"/auth/users{query}")

        assert answer.status_code == 422, query
        assert parameter in [error["parameter"] for error in answer.json["errors"]]


def test_nobody_becomes_an_administrator_over_http(alice: Person, bob: Person):
    assert alice.patch("/users/me", {"is_admin": True}).status_code == 422
    assert find(alice, bob.email).status_code == 403
