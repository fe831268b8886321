"""/users/me/export"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from threading import Semaphore
from uuid import uuid4

import pytest
from flask import Flask
from peewee import ForeignKeyField

from runtime import clock
from runtime.api.downloads import PIECE_CHARS, BrokenOff, Download
from runtime.database.base import Model, db
from runtime.models.allowances import Allowance
from runtime.models.chats import Chat, Run
from runtime.models.codes import EmailChange, Mailing, Recovery, SignUp
from runtime.models.run_events import RunEvent
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.spendings import FormerSpending, Spending
from runtime.models.tables import MODELS
from runtime.models.users import User
from tests.conftest import PASSWORD, PREFIX, Person
from tests.servers import Service

# Where the rows of each table are in an export. A table that is new is in here, or in NOBODYS.
ROWS: dict[type[Model], Callable[[dict], list]] = {
    User: lambda export: [export["user"]],
    SignUp: lambda export: export["sign_ups"],
    Recovery: lambda export: export["recoveries"],
    EmailChange: lambda export: export["email_changes"],
    Session: lambda export: export["sessions"],
    SecurityEvent: lambda export: export["events"],
    Spending: lambda export: export["spendings"],
    Chat: lambda export: export["chats"],
    Run: lambda export: [run for chat in export["chats"] for run in chat["runs"]],
    RunEvent: lambda export: [event for run in ROWS[Run](export) for event in run["events"]],
}
# Their rows name nobody: they have keyed hashes.
NOBODYS = {Allowance, FormerSpending, Mailing}

# What is kept under another name in an export.
NAMES = {
    Session.refreshed_at: "last_used_at",
    SecurityEvent.kind: "type",
    Chat.id: "session_id",
    Run.message: "messages",
    Run.input: "brought",
    RunEvent.number: "id",
    RunEvent.data: "run_id",
}
# What is secret, and what tells nothing of anybody.
LEFT_OUT = {
    *(User.password_hash, SignUp.password_hash, SignUp.asked_hash),
    SignUp.contested_at,  # what it is to be without
    *(kind.code_hash for kind in (SignUp, Recovery, EmailChange)),
    User.disabled_at,  # nobody's who can export
    *(Session.generation, Session.is_proven),  # which token is the next
    *(kind.tries_left for kind in (SignUp, Recovery, EmailChange)),
    *(Run.lease_until, RunEvent.pieces),  # how it is written
    RunEvent.vendor,  # the model's server's own
}


@pytest.fixture
def settings(settings: dict) -> dict:
    return {**settings, "AGENT_DAILY_TOKENS": "1000000"}


@pytest.fixture
def no_limits(settings: dict) -> None:
    """Asked for before `app`."""
    settings["RATE_LIMITS"] = "off"


def export(person: Person, **headers: str) -> dict:
    answer = person.get("/users/me/export", headers=headers)
    assert answer.status_code == 200
    return answer.json


def live(person: Person) -> dict:
    """Leave something in every table; what the export of it is."""
    person.patch("/users/me", {"bio": f"the words of {person.email}"})
    for question in ("What is 6 * 7, and who am I?", "And 7 * 8?"):
        chat = person.chat(question).json["session_id"]
    person.chat("Once more.", chat)
    details = {"username": f"no_{person.network[-1]}", "email": person.email, "password": PASSWORD}
    person.post("/auth/verifications", details)
    person.post("/auth/recoveries", {"email": person.email})
    other = {"email": f"other_{person.email}", "current_password": PASSWORD}
    assert person.post("/users/me/email", other).status_code == 202
    return export(person)


def rows_of(user: User) -> dict[type[Model], int]:
    """How many rows are the user's, by table: through whatever references lead to them."""
    found = {User: User.select().where(User.id == user.id)}
    left = [model for model in MODELS if model not in {User, SignUp, Recovery, *NOBODYS}]
    while left:
        model = left.pop(0)
        references = [f for f in model._meta.sorted_fields if isinstance(f, ForeignKeyField)]
        assert references, f"{model.__name__}: whose are its rows?"
        [reference] = references
        if reference.rel_model not in found:
            left.append(model)
            continue
        owners = found[reference.rel_model].select(reference.rel_field)
        found[model] = model.select().where(reference.in_(owners))
    for kind in (SignUp, Recovery):
        found[kind] = kind.select().where(kind.email == user.email)
    return {model: query.count() for model, query in found.items()}


def test_an_export_has_every_row_of_every_table(app: Flask, alice: Person, bob: Person):
    live(bob)
    taken = live(alice)

    with app.app_context():
        counted = rows_of(User.find_by_email(alice.email))
    assert {model: len(rows(taken)) for model, rows in ROWS.items()} == counted
    assert all(counted.values()), "there should be something in every table"


def test_every_table_is_somebodys_or_nobodys(app: Flask):
    assert set(ROWS) | NOBODYS == set(MODELS)
    with app.app_context():
        tables = set(db.get_tables()) - {"schema_migration"}
    assert tables == {model._meta.table_name for model in MODELS}


def test_every_column_is_in_an_export_or_left_out_on_purpose(app: Flask, alice: Person):
    taken = live(alice)

    for model, rows in ROWS.items():
        fields = [field for field in model._meta.sorted_fields if field not in LEFT_OUT]
        names = {NAMES.get(f, f.name) for f in fields if not isinstance(f, ForeignKeyField)}
        assert names <= rows(taken)[0].keys(), model.__name__


def test_an_export_has_nothing_of_anybody_else(alice: Person, bob: Person):
    live(alice)
    text = json.dumps(live(bob))

    assert f"the words of {bob.email}" in text
    for trace in (alice.email, alice.id, alice.network):
        assert trace not in text


def test_nothing_secret_is_in_it(app: Flask, alice: Person):
    text = json.dumps(live(alice))

    with app.app_context():
        hashes = [User.get().password_hash, SignUp.get().password_hash, SignUp.get().code_hash]
    for secret in (PASSWORD, *hashes, *alice.tokens.values()):
        assert str(secret) not in text


def test_it_is_a_file_that_no_cache_keeps(alice: Person):
    answer = alice.get("/users/me/export")

    assert answer.mimetype == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="export.json"'
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_was_said_can_be_read_in_it(alice: Person):
    chat = alice.chat("What is 6 * 7?").json
    [found] = export(alice)["chats"]
    [run] = found["runs"]

    assert found["session_id"] == chat["session_id"]
    assert run["brought"][0]["text"] == "What is 6 * 7?"
    assert [each["role"] for each in run["messages"]] == ["user", "assistant", "assistant"]
    assert run["messages"][-1]["content"] == chat["output"]
    assert run["events"][-1]["output"] == chat["output"]


def test_it_is_written_in_the_journal(alice: Person):
    events = export(alice)["events"]

    assert [event["type"] for event in events] == ["exported", "signed_in"]
    assert events[0]["network"] == alice.network


def test_five_a_day_are_enough(alice: Person, bob: Person):
    answers = [alice.get("/users/me/export") for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 24 * 3600
    assert export(bob)


def test_it_is_for_who_is_signed_in(stranger: Person):
    assert stranger.get("/users/me/export").status_code == 401


def test_an_account_with_next_to_nothing_has_an_export(alice: Person):
    taken = export(alice)

    assert (taken["chats"], taken["spendings"], taken["sign_ups"]) == ([], [], [])
    assert taken["user"]["username"] == "alice"


# Long ones


@pytest.fixture
def long(app: Flask, alice: Person) -> int:
    """Alice has said so much, in characters, that no buffer holds it."""
    runs, chars = 300, 20_000
    with app.app_context():
        chat = Chat.create(user=alice.id)
        now = clock.now()
        rows = [
            {"chat": chat, "message": "x" * chars, "lease_until": now, "finished_at": now}
            for _ in range(runs)
        ]
        Run.insert_many([{**row, "id": uuid4()} for row in rows]).execute()
    return runs * chars


@contextmanager
def slowly(service: Service, person: Person) -> Iterator[HTTPResponse]:
    """The export, its body read no sooner than it is asked for."""
    with socket.socket() as sock, closing(HTTPConnection("127.0.0.1", service.port)) as connection:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(30)
        sock.connect(("127.0.0.1", service.port))
        connection.sock = sock
        token = {"Authorization": f"Bearer {person.tokens['access_token']}"}
        connection.request("GET", f"{PREFIX}/users/me/export", headers=token)
        answer = connection.getresponse()
        assert answer.status == 200
        yield answer


def test_a_long_one_is_whole(service: Service, alice: Person, long: int):
    with slowly(service, alice) as answer:
        taken = json.loads(answer.read())

    words = [message["content"] for run in ROWS[Run](taken) for message in run["messages"]]
    assert len("".join(words)) == long


def test_one_that_breaks_off_does_not_look_whole(service: Service, alice: Person, long: int):
    """The account is deleted, or its session ended, while somebody reads."""
    with slowly(service, alice) as answer:
        begun = answer.read(100_000)
        body = {"refresh_token": alice.tokens["refresh_token"]}
        assert alice.delete("/auth/sessions", body).status_code == 204
        with pytest.raises((IncompleteRead, ConnectionError)) as broken:
            begun += answer.read()

    begun += getattr(broken.value, "partial", b"")
    assert 100_000 < len(begun) < long
    with pytest.raises(ValueError):
        json.loads(begun)


def test_whoever_is_slow_keeps_no_connection_and_no_memory(
    no_limits, service: Service, alice: Person, long: int
):
    before = service.memory_mb()
    with ExitStack() as reading:
        for _ in range(24):  # more than the pool has, and a few MB each
            reading.enter_context(slowly(service, alice)).read(1)

        assert [alice.get("/users/me").status_code for _ in range(20)] == [200] * 20
        assert service.memory_mb() - before < 40


def test_a_fault_in_the_middle_is_told_in_the_log(app: Flask, caplog):
    with app.app_context():
        download = Download({"rows": (1 // (3 - number) for number in range(9))})

    with pytest.raises(BrokenOff):
        list(download)
    assert caplog.messages == ["download_broken_off"]


def test_pieces_are_small_and_made_one_ahead(app: Flask):
    made = []

    def rows() -> Iterator[str]:
        for number in range(10):
            made.append(number)
            yield "x" * PIECE_CHARS

    with app.app_context():
        download = Download({"rows": rows(), "more": []})
    news = Semaphore(0)
    download.listen(news.release)
    pieces = []
    while not download.is_over:
        news.acquire()
        assert len(made) <= len(pieces) + 1
        pieces.append(download.read())

    assert json.loads(b"".join(pieces)) == {"rows": ["x" * PIECE_CHARS] * 10, "more": []}


def test_a_head_of_it_costs_none_of_the_five_and_is_no_event(alice: Person):
    got = alice.get("/users/me/export")
    for _ in range(6):
        head = alice.request("HEAD", "/users/me/export")
        assert (head.status_code, head.data) == (200, b"")
        for name in ("Content-Type", "Content-Disposition", "Cache-Control"):
            assert head.headers[name] == got.headers[name]
        assert "Content-Length" not in head.headers

    assert [event["type"] for event in export(alice)["events"]].count("exported") == 2


def test_a_head_of_it_is_for_who_is_signed_in(stranger: Person):
    assert stranger.request("HEAD", "/users/me/export").status_code == 401
