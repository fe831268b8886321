"""/admin"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from flask import Flask

from runtime import __version__
from runtime import clock as runtime_clock
from runtime.api.routes import admin as admin_routes
from runtime.caller import Caller
from runtime.models.chats import Chat, Run
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import sessions, users
from tests.agent.completions_server import HANG, CompletionsServer, stream, text
from tests.api.test_agent_chats import in_background, wait_until
from tests.conftest import PASSWORD, Log, Outbox, Person, instant
from tests.smtp_server import SMTPServer

PATH = f"/users/{uuid4()}"


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Method and path of every route of the blueprint."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{admin_routes.blp.name}."):
            path = re.sub("<uuid:[a-z_]+>", str(uuid4()), rule.rule)
            for method in rule.methods - {"OPTIONS"}:
                yield method, path.removeprefix("/api/v1")


def ask_all(person: Person) -> set[tuple[int, str, str]]:
    """Status, code and challenge of what each route answers."""
    answers = [
        (method, person.request(method, path, json=None if method in ("GET", "HEAD") else {}))
        for method, path in routes(person.client.application)
    ]
    assert len(answers) > 5
    return {
        (
            answer.status_code,
            "" if method == "HEAD" else answer.json["code"],
            answer.headers.get("WWW-Authenticate", ""),
        )
        for method, answer in answers
    }


def age(app: Flask, person: Person, **duration: float) -> None:
    """Have somebody's sessions begun so much earlier."""
    with app.app_context():
        for session in Session.select().where(Session.user == person.id):
            session.created_at -= timedelta(**duration)
            session.save(only=[Session.created_at])


@pytest.mark.parametrize("who", ["stranger", "charlie"])
def test_no_route_answers_who_is_no_administrator(request, who: str):
    refusals = {
        "stranger": (401, "not_authenticated", "Bearer"),
        "charlie": (403, "forbidden", 'Bearer error="insufficient_scope"'),
    }
    found = ask_all(request.getfixturevalue(who))

    assert found == {refusals[who], (refusals[who][0], "", refusals[who][2])}


def test_no_route_answers_an_administrator_who_signed_in_long_ago(app: Flask, admin: Person):
    age(app, admin, minutes=15, seconds=1)
    challenge = 'Bearer error="insufficient_user_authentication", max_age="900"'

    assert ask_all(admin) == {
        (403, "recent_sign_in_needed", challenge),
        (403, "", challenge),
    }


def test_a_refresh_is_no_sign_in(app: Flask, admin: Person):
    age(app, admin, minutes=14)
    assert admin.get("/admin/users").status_code == 200

    age(app, admin, minutes=2)
    admin.tokens = admin.refresh().json

    answer = admin.get("/admin/users")
    assert (answer.status_code, answer.json["code"]) == (403, "recent_sign_in_needed")
    assert answer.json["detail"] == "距上次登录已超过 15 分钟，请重新登录后再试"


@pytest.mark.parametrize("act", [users.demote, users.disable])
def test_who_is_an_administrator_no_more_has_no_access_from_the_next_request_on(
    app: Flask, admin: Person, act: Callable
):
    assert admin.get("/admin/users").status_code == 200
    with app.app_context():
        act(User.find_by_email(admin.email))

    assert {status for status, *_ in ask_all(admin)} == {401 if act is users.disable else 403}


def test_what_an_administrator_asks_is_limited(app: Flask, admin: Person, alice: Person):
    for _ in range(300):
        assert admin.get(f"/admin/users/{uuid4()}").status_code == 404

    refused = admin.get("/admin/users")

    assert (refused.status_code, refused.json["code"]) == (429, "too_many_requests")


def listed(admin: Person, **query: object) -> list[str]:
    answer = admin.get("/admin/users", query_string=query)
    assert answer.status_code == 200
    return [user["username"] for user in answer.json["users"]]


def test_accounts_are_listed_the_newest_first_in_pages(admin: Person, alice: Person, bob: Person):
    first = admin.get("/admin/users?limit=2").json
    assert [user["username"] for user in first["users"]] == ["bob", "alice"]
    second = admin.get("/admin/users", query_string={"cursor": first["next_cursor"]}).json

    assert [user["username"] for user in second["users"]] == ["admin"]
    assert second["next_cursor"] is None
    shown = second["users"][0]
    assert (shown["id"], shown["email"]) == (admin.id, admin.email)
    assert shown["is_admin"] is True and shown["disabled_at"] is None
    assert instant(shown["created_at"]) and instant(shown["signed_in_at"])


SEARCHES = [
    ("anna", ["anna_2", "anna"]),
    ("ANNA_", ["anna_2"]),
    ("anna@", ["anna"]),
    ("anna＠Example。org", ["anna"]),
    (" an ", ["anna_2", "anne", "anna"]),
    ("nna", []),
    ("_", []),
    ("%", []),
    ("安娜", []),
    ("~", []),
    ("x" * 254, []),
]


def test_accounts_are_found_by_what_an_address_or_a_username_begins_with(admin: Person, member):
    for username in ("anna", "anne", "anna_2", "joanna"):
        member(username)

    assert listed(admin, query="") == ["joanna", "anna_2", "anne", "anna", "admin"]
    assert listed(admin) == listed(admin, query="")
    for query, found in SEARCHES:
        assert listed(admin, query=query) == found, query


def test_an_address_is_found_though_the_username_begins_otherwise(
    app: Flask, admin: Person, alice: Person
):
    with app.app_context():
        User.update(username="wonderland").where(User.id == alice.id).execute()

    assert listed(admin, query="alice") == listed(admin, query="wonder") == ["wonderland"]


@pytest.mark.in_process("lowers a number in the service")
def test_a_beginning_that_many_share_is_found_in_pages_too(monkeypatch, admin: Person, member):
    for number in range(5):
        member(f"anna_{number}")
        member(f"bob_{number}")
    whole = listed(admin, query="anna")
    monkeypatch.setattr("runtime.database.pagination.FOUND_ROWS", 3)
    monkeypatch.setattr("runtime.database.pagination.SEARCHED_ROWS", 2)
    seen, cursor = [], {}
    for _ in range(3):
        page = admin.get("/admin/users", query_string={"query": "anna", "limit": 2, **cursor}).json
        seen += [user["username"] for user in page["users"]]
        cursor = {"cursor": page["next_cursor"]}

    assert seen == whole == [f"anna_{number}" for number in (4, 3, 2, 1, 0)]
    assert cursor == {"cursor": None}


@pytest.mark.parametrize("query", ["?query=%00", "?limit=0", "?limit=101", "?cursor=x", "?q=x"])
def test_a_list_asked_for_nonsense_is_refused(admin: Person, query: str):
    assert admin.get(f"/admin/users{query}").status_code == 422


def test_an_account_is_shown_with_what_it_has_and_no_secret(
    app: Flask, admin: Person, alice: Person
):
    alice.chat("hello")
    answer = admin.get(f"/admin/users/{alice.id}")

    assert answer.status_code == 200
    assert (answer.json["sessions"], answer.json["chats"]) == (1, 1)
    assert answer.json.keys() == {
        *("id", "username", "email", "is_admin", "created_at", "email_confirmed_at"),
        *("signed_in_at", "disabled_at", "sessions", "chats"),
    }
    with app.app_context():
        assert User.find_by_email(alice.email).password_hash not in answer.text


ABOUT_ONE = [("GET", ""), ("PATCH", ""), ("DELETE", "/sessions"), ("DELETE", "")]


@pytest.mark.parametrize("method, rest", ABOUT_ONE)
def test_an_account_that_is_not_there_is_404(admin: Person, method: str, rest: str):
    body = {"disabled": True} if method == "PATCH" else None
    answer = admin.request(method, f"/admin{PATH}{rest}", json=body)

    assert (answer.status_code, answer.json["code"]) == (404, "user_not_found")


def newest_event(person: Person) -> dict:
    return person.get("/users/me/events?limit=1").json["events"][0]


def signed_in_again(app: Flask, person: Person) -> Person:
    with app.app_context():
        pair = sessions.start(User.find_by_email(person.email), Caller(person.network))
    tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    return Person(person.client, person.network, person.email, tokens, person.id)


def change(admin: Person, person: Person, **changes: object):
    return admin.patch(f"/admin/users/{person.id}", changes)


def test_an_account_is_disabled_and_enabled(app: Flask, admin: Person, alice: Person):
    disabled = change(admin, alice, disabled=True)

    assert (disabled.status_code, disabled.json["sessions"]) == (200, 0)
    assert instant(disabled.json["disabled_at"])
    assert alice.get("/users/me").status_code == 401
    enabled = change(admin, alice, disabled=False)
    assert (enabled.status_code, enabled.json["disabled_at"]) == (200, None)
    assert alice.get("/users/me").status_code == 401
    again = signed_in_again(app, alice)
    events = again.get("/users/me/events").json["events"]
    told = [(each["type"], each["by_administrator"]) for each in events]
    assert told == [
        ("signed_in", False),
        ("enabled", True),
        ("disabled", True),
        ("signed_in", False),
    ]


def test_the_journal_does_not_tell_which_administrator_it_was(
    app: Flask, admin: Person, alice: Person
):
    change(admin, alice, disabled=True)
    change(admin, alice, disabled=False)
    text = signed_in_again(app, alice).get("/users/me/events").text

    for trace in (admin.id, admin.network, admin.email):
        assert trace not in text


def test_an_operators_command_is_no_administrators_act(app: Flask, alice: Person):
    with app.app_context():
        users.promote(User.find_by_email(alice.email))

    event = newest_event(alice)
    assert (event["type"], event["network"], event["by_administrator"]) == ("promoted", None, False)


def test_what_is_so_already_changes_nothing(app: Flask, admin: Person, alice: Person, log: Log):
    for changes in ({}, {"disabled": False}):
        assert change(admin, alice, **changes).json["disabled_at"] is None
    assert alice.get("/users/me").status_code == 200
    first = change(admin, alice, disabled=True).json
    for changes in ({"disabled": True}, {}):
        assert change(admin, alice, **changes).json == first

    acts = [each["act"] for each in log.events() if each["event"] == "administrator_acted"]
    assert acts == ["disabled"]


@pytest.mark.parametrize("value", ["true", 1, 0, None, "yes", [], {}])
def test_disabled_is_true_or_false(admin: Person, alice: Person, value: object):
    answer = change(admin, alice, disabled=value)

    assert answer.status_code == 422
    [error] = answer.json["errors"]
    assert error["pointer"] == "#/disabled"
    assert error["code"] == ("not_null" if value is None else "not_a_boolean")


def test_sessions_are_ended(admin: Person, alice: Person, app: Flask):
    other = signed_in_again(app, alice)

    assert admin.delete(f"/admin/users/{alice.id}/sessions").status_code == 204

    assert {alice.get("/users/me").status_code, other.get("/users/me").status_code} == {401}
    assert admin.delete(f"/admin/users/{alice.id}/sessions").status_code == 204
    events = signed_in_again(app, alice).get("/users/me/events").json["events"]
    ended = [each for each in events if each["type"] == "all_sessions_ended"]
    assert [each["by_administrator"] for each in ended] == [True]


def test_an_account_is_erased_and_its_owner_told(
    admin: Person, alice: Person, outbox: Outbox, log: Log
):
    alice.chat("hello")

    assert admin.delete(f"/admin/users/{alice.id}").status_code == 204

    assert alice.get("/users/me").status_code == 401
    assert admin.get(f"/admin/users/{alice.id}").status_code == 404
    assert len(outbox.texts(alice.email)) == 1
    [acted] = [each for each in log.events() if each["event"] == "administrator_acted"]
    assert (acted["act"], acted["administrator_id"]) == ("erased", admin.id)
    assert acted["user_id"] == alice.id


@pytest.mark.parametrize("whose", ["own", "another"])
def test_no_administrator_is_disabled_enabled_or_erased(
    app: Flask, admin: Person, member, whose: str
):
    """One command more makes them a user first. So one is always left."""
    person = admin if whose == "own" else member("erin", is_admin=True)
    for answer in (
        change(admin, person, disabled=True),
        change(admin, person, disabled=False),
        admin.delete(f"/admin/users/{person.id}"),
    ):
        assert (answer.status_code, answer.json["code"]) == (403, "administrator_protected")
    assert person.get("/users/me").status_code == 200


def test_an_administrators_sessions_can_be_ended(admin: Person, member):
    erin = member("erin", is_admin=True)

    assert admin.delete(f"/admin/users/{erin.id}/sessions").status_code == 204

    assert erin.get("/admin/users").status_code == 401


def test_the_log_says_who_looked_at_whom_and_no_address(admin: Person, alice: Person, log: Log):
    admin.get(f"/admin/users/{alice.id}")
    admin.get("/admin/users?query=alice@example.org")

    [acted] = [each for each in log.events() if each["event"] == "administrator_acted"]
    assert (acted["act"], acted["administrator_id"]) == ("shown", admin.id)
    assert acted["user_id"] == alice.id
    assert alice.email not in log.text


def test_what_runs_is_listed_without_what_is_said(
    model: CompletionsServer, admin: Person, alice: Person, bob: Person
):
    model.script(*[stream(text("slow"), HANG)] * 2)
    asking = [in_background(each.chat, "a secret") for each in (alice, bob)]
    wait_until(lambda: len(model.requests) == 2)
    found = admin.get("/admin/runs")
    first = admin.get("/admin/runs?limit=1").json
    second = admin.get(f"/admin/runs?limit=1&cursor={first['next_cursor']}").json
    model.stopping.set()
    for each in asking:
        each.join()

    assert found.status_code == 200 and "secret" not in found.text
    runs = found.json["runs"]
    assert [*first["runs"], *second["runs"]] == runs and second["next_cursor"] is None
    assert {(run["username"], run["user_id"]) for run in runs} == {
        ("alice", alice.id),
        ("bob", bob.id),
    }
    assert all(instant(run["created_at"]) and run["stop_requested_at"] is None for run in runs)
    wait_until(lambda: not admin.get("/admin/runs").json["runs"])


def test_a_run_of_a_disabled_account_ends(model: CompletionsServer, admin: Person, alice: Person):
    model.script(stream(text("slow"), HANG))
    asking = in_background(alice.chat, "hello")
    wait_until(lambda: model.requests)

    assert change(admin, alice, disabled=True).status_code == 200

    assert admin.get("/admin/runs").json["runs"] == []
    asking.join()


def test_a_run_whose_process_died_is_none_that_goes_on(app: Flask, admin: Person, alice: Person):
    with app.app_context():
        chat = Chat.create(user=alice.id)
        until = runtime_clock.now() - timedelta(seconds=1)
        Run.create(chat=chat, message="hello", lease_until=until)

    assert admin.get("/admin/runs").json["runs"] == []


@pytest.fixture
def refusing(settings: dict[str, str]) -> Iterator[SMTPServer]:
    """A mail server that takes mail to Ada at the third try."""
    server = SMTPServer().start()
    server.answers["ada@example.org"].extend(["451 Later"] * 2)
    settings["SMTP_URL"] = f"smtp://127.0.0.1:{server.port}"
    yield server
    server.stop()


@pytest.mark.in_process("asks the one process in which the mail waits")
def test_mail_that_waits_is_told_without_its_words_and_its_reader(
    refusing: SMTPServer, admin: Person, stranger: Person, outbox: Outbox
):
    assert admin.get("/admin/mails").json["waiting"] == 0
    body = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}
    assert stranger.post("/auth/verifications", body).status_code == 202
    wait_until(lambda: admin.get("/admin/mails").json["failing"])

    answer = admin.get("/admin/mails")
    outbox.ground.settle()

    told = answer.json
    [mail] = told["oldest"]
    assert told["kinds"] == [{"kind": "verification", "count": 1}]
    assert (mail["kind"], mail["to"]) == ("verification", "a***@example.org")
    assert told["oldest_at"] == mail["queued_at"] and mail["tries"] == 1
    assert told["scope"] == "process" and told["queued"] >= told["waiting"] == 1
    code = re.search(r"\b[0-9]{6}\b", refusing.received[0].message.get_body().get_content())
    assert code and code[0] not in answer.text
    assert "ada@example.org" not in answer.text


@pytest.mark.in_process("this ground's workers count each for itself")
def test_limits_that_were_reached_are_told_by_how_often(admin: Person, stranger: Person):
    before = refusals(admin)
    body = {"email": "nobody@example.org", "password": "wrong horse"}
    answers = [stranger.post("/auth/sessions", body).status_code for _ in range(13)]
    assert answers == [401] * 10 + [429] * 3

    after = refusals(admin)

    assert after["sign-ins-pair"] == before.get("sign-ins-pair", 0) + 3
    assert list(after.values()) == sorted(after.values(), reverse=True)


def refusals(admin: Person) -> dict[str, int]:
    limits = admin.get("/admin/limits").json["limits"]
    return {each["limit"]: each["refusals"] for each in limits}


def test_health_tells_administrators_more(settings: dict, admin: Person, stranger: Person):
    told = admin.get("/admin/health").json

    assert told["status"] == "healthy"
    assert told["services"].keys() == stranger.get("/infra/health").json["services"].keys()
    assert (told["version"], told["model"], told["mail"]) == (__version__, "embedded", "outbox")
    assert told["workers"] == int(settings.get("WEB_CONCURRENCY", 1))
    assert told["pending_migrations"] == []
    assert told["uptime_seconds"] >= 0 and told["runs"] == 0
