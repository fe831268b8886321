"""Everybody's day at the service: every route asked, and every command given, at least once."""

import json
import re
from collections.abc import Callable, Iterator
from uuid import UUID

import click
from flask import Flask, request

from runtime import clock
from runtime.caller import Caller
from runtime.database.base import db
from runtime.models.chats import Chat, Run
from runtime.models.codes import EmailChange
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.tokens import tokens
from runtime.services.accounts import sessions
from tests.conftest import PASSWORD, Outbox, Person
from tests.million.rows import HEAVY

NEW_PASSWORD = "another horse entirely"
_OLD = "created_at <= timezone('utc', now()) - interval"
RUN_OUT = {
    "sign_ups": f"SELECT count(*) FROM sign_ups WHERE {_OLD} '1 day'",
    "recoveries": f"SELECT count(*) FROM recoveries WHERE {_OLD} '1 day'",
    "email_changes": f"SELECT count(*) FROM email_changes WHERE {_OLD} '7 days 10 minutes'",
    "allowances": "SELECT count(*) FROM allowances WHERE spent_until < extract(epoch FROM now())",
    "sessions": """SELECT count(*) FROM sessions
        WHERE refreshed_at <= timezone('utc', now()) - interval '120 days'""",
    "security_events": f"SELECT count(*) FROM security_events WHERE {_OLD} '90 days'",
    "former_spendings": """SELECT count(*) FROM former_spendings
        WHERE day < date(timezone('utc', now()))""",
}
# What no plan is to be seen of: they change the schema, keys, a file or the model, or serve.
NOT_GIVEN = {"agent", "db", "keys", "openapi", "routes", "routes-document", "run", "shell"}


class Walk:
    """One application, whose routes and commands are counted as they are used."""

    def __init__(self, app: Flask, outbox: Outbox):
        self.app = app
        self.outbox = outbox
        self.asked: set[str] = set()
        self.given: set[str] = set()
        self.run_out: dict[str, int] = {}
        self.purged: dict[str, int] = {}
        self.left: dict[str, int] = {}
        app.after_request(self._note)

    def _note(self, response):
        if response.status_code < 400:
            self.asked.add(request.endpoint)
        return response

    @property
    def not_asked(self) -> set[str]:
        """The endpoints of the API that have not answered anybody with what was asked for."""
        ours = {rule.endpoint for rule in self.app.url_map.iter_rules() if "." in rule.endpoint}
        return {each for each in ours - self.asked if not each.startswith("api-docs")}

    @property
    def not_given(self) -> set[str]:
        commands = {
            name: command
            for name, command in self.app.cli.commands.items()
            if name not in NOT_GIVEN
        }
        return set(_names(commands)) - self.given

    def person(self, username: str, network: str = "192.0.2.1") -> Person:
        """Somebody who is there, with a new session."""
        with self.app.app_context():
            user = User.find_by_username(username)
            pair = sessions.start(user, Caller(network))
        tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
        return Person(self.app.test_client(), network, user.email, tokens, str(user.id))

    def stranger(self, network: str = "203.0.113.66") -> Person:
        return Person(self.app.test_client(), network)

    def give(self, *words: str, input: str | None = None) -> str:
        """Give a command; what it printed."""
        answer = self.app.test_cli_runner().invoke(args=words, input=input)
        assert answer.exit_code == 0, answer.output
        self.given |= {" ".join(words[:length]) for length in (1, 2)}
        return answer.stdout


def _names(commands: dict[str, click.Command], before: str = "") -> Iterator[str]:
    for name, command in commands.items():
        if isinstance(command, click.Group):
            yield from _names(command.commands, f"{before}{name} ")
        else:
            yield before + name


def ok(answer, status: int | None = None):
    """The answer, which must be what was asked for."""
    assert answer.status_code == (status or answer.status_code) < 400, answer.text
    return answer


def refused(answer, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text


def sign_up_and_in(walk: Walk) -> None:
    new = walk.stranger()
    asked = {"username": "newcomer", "email": "newcomer@example.net", "password": PASSWORD}
    ok(new.post("/auth/verifications", asked))
    ok(new.post("/auth/verifications/resend", {"email": asked["email"]}))
    code = walk.outbox.code(asked["email"])
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    refused(new.post("/auth/verifications/verify", {"email": asked["email"], "token": wrong}), 401)
    elsewhere = walk.stranger("198.51.100.99")
    refused(
        elsewhere.post("/auth/verifications/verify", {"email": asked["email"], "token": wrong}), 401
    )
    ok(new.post("/auth/verifications/verify", {"email": asked["email"], "token": code}))
    refused(new.post("/auth/verifications", {**asked, "email": "b@example.net"}), 422)
    ok(new.post("/auth/verifications", {**asked, "username": "other_name"}))
    credentials = {"email": asked["email"], "password": PASSWORD}
    pair = ok(elsewhere.post("/auth/sessions", credentials)).json
    refused(elsewhere.post("/auth/sessions", {**credentials, "password": "wrong horse"}), 401)
    refused(elsewhere.post("/auth/sessions", {**credentials, "email": "no@example.net"}), 401)
    ok(elsewhere.post("/auth/sessions", {**credentials, "refresh_token": pair["refresh_token"]}))
    heavy = {"email": f"user_{HEAVY}@example.org", "password": PASSWORD}
    ok(walk.stranger("198.51.100.98").post("/auth/sessions", heavy))
    walk.outbox.mails()


def keep_sessions(walk: Walk) -> None:
    for username in ("newcomer", f"user_{HEAVY}"):
        one, two = walk.person(username), walk.person(username)
        ok(one.get("/users/me"))
        first = one.tokens["refresh_token"]
        one.tokens = ok(one.refresh()).json
        ok(one.refresh(first))
        ok(one.get("/users/me"))
        page = ok(one.get("/auth/sessions?limit=1")).json
        ok(one.get(f"/auth/sessions?limit=1&cursor={page['next_cursor']}"))
        with walk.app.app_context():
            newest = Session.select(Session.id).where(Session.user == UUID(two.id))
            last = newest.order_by(Session.created_at.desc()).scalar()
        ok(one.delete(f"/auth/sessions/{last}"))
        three, four = walk.person(username), walk.person(username)
        ok(four.delete("/auth/sessions", {"refresh_token": four.tokens["refresh_token"]}))
        stolen = three.tokens["refresh_token"]
        for _ in range(2):
            three.tokens = ok(three.refresh()).json
        ok(three.get("/users/me"))
        refused(three.refresh(stolen), 401)
        ok(
            one.delete(
                "/auth/sessions", {"refresh_token": one.tokens["refresh_token"], "scope": "all"}
            )
        )


def look_at_profiles(walk: Walk) -> None:
    heavy, admin = walk.person(f"user_{HEAVY}"), walk.person("user_2")
    ok(heavy.patch("/users/me", {"bio": "I have much."}))
    refused(heavy.patch("/users/me", {"username": "USER_9"}), 422)
    ok(heavy.get("/users/user_3"))
    refused(heavy.get("/users/nobody_has_it"), 404)
    ok(heavy.get(f"/auth/users?email={heavy.email}"))
    refused(heavy.get("/auth/users?email=user_4@example.org"), 403)
    walk.give("users", "promote", admin.email)
    ok(admin.get("/auth/users?email=user_4@example.org"))
    refused(admin.get("/auth/users?email=nobody@example.org"), 404)
    page = ok(heavy.get("/users/me/events?limit=2")).json
    ok(heavy.get(f"/users/me/events?limit=100&cursor={page['next_cursor']}"))
    assert len(ok(heavy.get("/users/me/export"), 200).data) > 1_000_000


def change_what_lets_in(walk: Walk) -> None:
    person = walk.person("user_5")
    changed = {"current_password": PASSWORD, "password": NEW_PASSWORD}
    refused(
        person.client
        and person.request(
            "PUT", "/users/me/password", json={**changed, "current_password": "wrong one"}
        ),
        422,
    )
    ok(person.request("PUT", "/users/me/password", json=changed))
    person = walk.person("user_5")
    email = "fifth@example.net"
    ok(person.post("/users/me/email", {"email": email, "current_password": NEW_PASSWORD}))
    code = walk.outbox.code(email)
    refused(person.post("/users/me/email/verify", {"email": email, "token": "000000"}), 401, 422)
    ok(person.post("/users/me/email/verify", {"email": email, "token": code}))
    with walk.app.app_context():
        change = EmailChange.select().where(EmailChange.user == UUID(person.id))
        key = tokens.make_restoration(change.order_by(EmailChange.created_at.desc()).get().id)
    ok(walk.stranger().post("/auth/email-restorations", {"token": key}))
    for address in ("user_5@example.org", "nobody@example.net"):
        ok(walk.stranger().post("/auth/recoveries", {"email": address}))
    recovery = {"email": "user_5@example.org", "token": walk.outbox.code("user_5@example.org")}
    ok(walk.stranger().post("/auth/recoveries/verify", {**recovery, "password": PASSWORD}))


def chat(walk: Walk) -> None:
    heavy = walk.person(f"user_{HEAVY}")
    with walk.app.app_context():
        [old] = db.execute_sql("SELECT md5('chat 1')::uuid").fetchone()
    old = str(old)
    ok(heavy.chat("And what is 6 * 7?", old), 200)
    begun = ok(heavy.chat("What is 6 * 7?"), 200).json
    own = begun["session_id"]
    streamed = ok(heavy.stream("Who am I?", own, Idempotency_Key="a-key"), 200)
    where = streamed.headers["Content-Location"].removeprefix("/api/v1")
    ok(heavy.stream("Who am I?", own, Idempotency_Key="a-key", Last_Event_ID="3"), 200)
    ok(heavy.get(where, headers={"Accept": "text/event-stream"}), 200)
    ok(heavy.get(where.removesuffix("/events")), 200)
    for chat_id in (old, own):
        page = ok(heavy.get(f"/agent-chats/{chat_id}/messages?limit=1")).json
        ok(heavy.get(f"/agent-chats/{chat_id}/messages?limit=100&cursor={page['next_cursor']}"))
        ok(heavy.get(f"/agent-chats/{chat_id}"))
        ok(heavy.patch(f"/agent-chats/{chat_id}", {"title": "Sums"}))
    page = ok(heavy.get("/agent-chats?limit=2")).json
    ok(heavy.get(f"/agent-chats?limit=100&cursor={page['next_cursor']}"))
    ok(heavy.get("/agent-chats/budget"))
    refused(walk.person("user_6").get(f"/agent-chats/{old}"), 404)
    say_anew(heavy, old)
    say_by_ag_ui(heavy, old)
    say_by_use_chat(heavy, old)
    stop_what_died(walk, heavy, own)
    ok(heavy.delete(f"/agent-chats/{own}"))
    ok(heavy.delete(f"/agent-chats/{old}"))


def say_anew(person: Person, chat_id: str) -> None:
    """Over REST, and as a front end does."""
    for _ in range(2):
        page = ok(person.get(f"/agent-chats/{chat_id}/messages?limit=1")).json
        last = page["messages"][0]
        body = {"session_id": chat_id, "replaces": last["run_id"]}
        ok(person.post("/agent-chats", body, headers={"Idempotency-Key": last["run_id"]}), 200)
        ok(person.post("/agent-chats", body, headers={"Idempotency-Key": last["run_id"]}), 200)
    refused(person.post("/agent-chats", body), 409)
    [asked, _answer] = ok(person.get(f"/agent-chats/{chat_id}/messages?limit=1")).json["messages"]
    said = {"id": asked["id"], "role": "user", "content": asked["content"]}
    body = {"threadId": chat_id, "runId": "anew", "messages": [said], "tools": []}
    ok(person.post("/agent-chats/ag-ui", body, headers={"Accept": "text/event-stream"}), 200)


def say_by_ag_ui(person: Person, chat_id: str) -> None:
    for number, thread in enumerate(("a thread", "a thread", chat_id)):
        body = {
            "threadId": thread,
            "runId": f"run {number}",
            "messages": [{"id": f"m{number}", "role": "user", "content": "What is 6 * 7?"}],
            "tools": [],
            "protocolVersion": "1.0",
        }
        ok(person.post("/agent-chats/ag-ui", body, headers={"Accept": "text/event-stream"}), 200)
        shown = body | {"runId": f"shown {number}", "messages": []}
        ok(person.post("/agent-chats/ag-ui", shown, headers={"Accept": "text/event-stream"}), 200)
        ok(person.get(f"/agent-chats/{thread}/runs/run {number}"), 200)
        ok(person.post(f"/agent-chats/{thread}/cancel"), 204)


def say_by_use_chat(person: Person, chat_id: str) -> None:
    for number, chat in enumerate(("a chat", "a chat", chat_id)):
        parts = [{"type": "text", "text": "What is 6 * 7?"}]
        body = {"id": chat, "messages": [{"id": f"u{number}", "role": "user", "parts": parts}]}
        ok(person.post("/agent-chats/ai-sdk", body), 200)
        ok(person.get(f"/agent-chats/ai-sdk/{chat}/stream"), 200)
        page = ok(person.get(f"/agent-chats/ai-sdk/{chat}/messages?limit=1")).json
        if cursor := page["next_cursor"]:
            ok(person.get(f"/agent-chats/ai-sdk/{chat}/messages?limit=1&cursor={cursor}"))


def stop_what_died(walk: Walk, person: Person, chat_id: str) -> None:
    """A run that another process has begun, and has not kept alive since."""
    with walk.app.app_context():
        until = clock.now()
        run = Run.create(chat=UUID(chat_id), message="What is 1 + 1?", lease_until=until)
    ok(person.post(f"/agent-chats/{chat_id}/runs/{run.id}/cancel"))


def ask_a_slow_model(walk: Walk) -> None:
    """For longer than until the lease is renewed, beside somebody who stops their run."""
    person = walk.person("user_7")
    ok(person.chat("Take your time."), 200)
    with walk.app.app_context():
        assert Chat.select().where(Chat.user == UUID(person.id)).exists()


def operate(walk: Walk) -> None:
    listed = walk.give("users", "list", "--json")
    cursor = re.search('"next_cursor": "([0-9a-f]+)"', listed)[1]
    walk.give("users", "list", "--limit", "1000", "--cursor", cursor)
    for text in ("user_77", "no such text", "EXAMPLE.ORG"):
        walk.give("users", "list", "--search", text)
    walk.give(
        "users", "create", "made@example.org", "made", "--password-stdin", input=f"{NEW_PASSWORD}\n"
    )
    for command in ("show", "promote", "demote", "end-sessions", "disable", "enable"):
        walk.give("users", command, f"user_{HEAVY}")


def administer(walk: Walk) -> None:
    admin = walk.person("user_2")
    page = ok(admin.get("/admin/users?limit=2")).json
    ok(admin.get(f"/admin/users?limit=100&cursor={page['next_cursor']}"))
    # One account, as many as an index finds at once, every account, none.
    for text in (f"user_{HEAVY}@example.org", "user_77", "USER_", "no such text"):
        page = ok(admin.get("/admin/users", query_string={"query": text, "limit": 1})).json
        if page["next_cursor"]:
            query = {"query": text, "limit": 100, "cursor": page["next_cursor"]}
            ok(admin.get("/admin/users", query_string=query))
    for username in (f"user_{HEAVY}", "user_9"):
        path = f"/admin/users/{walk.person(username).id}"
        ok(admin.get(path))
        ok(admin.delete(f"{path}/sessions"))
        ok(admin.patch(path, {"disabled": True}))
        ok(admin.patch(path, {"disabled": False}))
    ok(admin.delete(path))
    for path in ("runs", "mails", "limits", "health"):
        ok(admin.get(f"/admin/{path}"))


def erase(walk: Walk) -> None:
    heavy, other = walk.person(f"user_{HEAVY}"), walk.person("user_8")
    ok(other.request("DELETE", "/users/me", json={"current_password": PASSWORD}))
    refused(heavy.request("DELETE", "/users/me", json={"current_password": "wrong one"}), 422)
    walk.give("users", "delete", "--yes", heavy.email)


def look_after_it(walk: Walk) -> None:
    anybody = walk.stranger()
    ok(anybody.get("/health"))
    ok(anybody.get("/infra/health"))
    token = {"Authorization": "Bearer a-token"}
    ok(anybody.client.get("/metrics", headers=token), 200)
    with walk.app.app_context():
        walk.run_out = _count_run_out()
        walk.purged = json.loads(walk.give("purge", "--json"))
        walk.left = _count_run_out()
    walk.outbox.mails()


def _count_run_out() -> dict[str, int]:
    """How many rows of each table there are that nobody needs, counted one by one."""
    return {table: db.execute_sql(sql).fetchone()[0] for table, sql in RUN_OUT.items()}


STEPS: tuple[Callable[[Walk], None], ...] = (
    sign_up_and_in,
    keep_sessions,
    look_at_profiles,
    change_what_lets_in,
    chat,
    ask_a_slow_model,
    operate,
    administer,
    erase,
    look_after_it,
)
