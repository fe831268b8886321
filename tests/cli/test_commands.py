"""The flask command."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import click
import pytest
from flask import Flask
from peewee import sqlite3

from app import create_app
from runtime import clock
from runtime.caller import Caller
from runtime.config.settings import ROOT
from runtime.database import migrate
from runtime.database.base import db
from runtime.models.security_events import SecurityEvent
from runtime.models.users import User
from runtime.services.accounts import erasures, sessions
from tests.agent.completions_server import CompletionsServer, plain
from tests.conftest import PASSWORD, Person


def run(app: Flask, *words: str, input: str | bytes | None = None):
    return app.test_cli_runner().invoke(args=words, input=input)


def run_as_json(app: Flask, *words: str, input: str | None = None) -> dict:
    """What a command answers a program; only the answer is on stdout."""
    answer = run(app, *words, "--json", input=input)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_an_administrator_is_made_with_a_command(app: Flask, alice: Person):
    assert alice.get("/auth/users?email=nobody@example.org").status_code == 403

    promoted = run(app, "users", "promote", "ALICE@example.org")

    assert promoted.exit_code == 0
    assert re.search("administrator +yes", promoted.output)
    assert alice.get("/auth/users?email=nobody@example.org").status_code == 404


def test_an_account_is_shown_without_its_secrets(app: Flask, alice: Person):
    shown = run(app, "users", "show", alice.email)

    assert shown.exit_code == 0
    assert alice.id in shown.output
    with app.app_context():
        assert User.get().password_hash not in shown.output


ABOUT_ONE = ["show", "disable", "enable", "promote", "demote", "end-sessions", "delete"]


@pytest.mark.parametrize("command", ABOUT_ONE)
def test_an_account_that_is_not_there_is_named(app: Flask, command: str):
    answer = run(app, "users", command, "nobody@example.org")

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == "Error: there is no account nobody@example.org\n"


@pytest.mark.parametrize("command", ["disable", "enable", "promote", "demote", "end-sessions"])
def test_so_is_one_that_is_erased_meanwhile(app: Flask, alice: Person, command: str):
    """The command has found it, and is about to write."""

    def erase() -> None:
        with app.app_context():
            erasures.erase(User.get())

    def before(statement: str) -> None:
        if statement.startswith("BEGIN") and not threads:
            threads.append(Thread(target=erase))
            threads[0].start()
            threads[0].join()

    threads: list[Thread] = []
    with app.app_context():
        db.connection().set_trace_callback(before)
        answer = run(app, "users", command, alice.email)
        db.connection().set_trace_callback(None)

    assert len(threads) == 1
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.splitlines()[-1] == "Error: There is no such user."


def test_an_account_is_found_by_address_username_or_id(app: Flask, alice: Person, bob: Person):
    for name in ("Alice@Example.org", "ALICE", alice.id, alice.id.upper()):
        assert run_as_json(app, "users", "show", name)["username"] == "alice"


def test_an_account_is_shown_with_what_it_has(app: Flask, alice: Person):
    alice.chat("hello")
    shown = run_as_json(app, "users", "show", "alice")

    assert (shown["id"], shown["email"]) == (alice.id, alice.email)
    assert (shown["administrator"], shown["disabled_at"]) == (False, None)
    assert (shown["sessions"], shown["chats"]) == (1, 1)
    assert shown["created_at"].endswith("Z") and shown["signed_in_at"].endswith("Z")
    assert shown.keys() == {
        *("id", "email", "username", "administrator", "created_at", "confirmed_at"),
        *("signed_in_at", "disabled_at", "sessions", "chats"),
    }


def test_accounts_are_listed_in_a_table(app: Flask, alice: Person, bob: Person):
    run(app, "users", "disable", "bob")
    listed = run(app, "users", "list")

    assert listed.exit_code == 0
    head, *rows = listed.stdout.splitlines()
    assert re.split("  +", head) == [
        *("email", "username", "administrator", "created at", "signed in at", "disabled at")
    ]
    assert [re.split("  +", row)[:2] for row in rows] == [
        ["bob@example.org", "bob"],
        ["alice@example.org", "alice"],
    ]
    assert re.match(r"alice@example.org +alice +no +20\d\d-.* UTC +20\d\d-.* UTC +-$", rows[1])


def test_a_list_is_searched_and_comes_in_pages(app: Flask, member):
    for number in range(5):
        member(f"person_{number}")
    member("somebody")
    seen, cursor = [], ()
    for _ in range(3):
        found = run_as_json(app, "users", "list", "--search", "PERSON_", "--limit", "2", *cursor)
        seen += [user["username"] for user in found["users"]]
        cursor = ("--cursor", found["next_cursor"])

    assert seen == [f"person_{number}" for number in (4, 3, 2, 1, 0)]
    assert found["next_cursor"] is None
    more = run(app, "users", "list", "--limit", "2")
    assert re.fullmatch(r"There are more: --cursor [0-9a-f]{46}\n", more.stderr)
    assert run_as_json(app, "users", "list", "--search", "_") == run_as_json(
        app, "users", "list", "--search", "person_"
    )


@pytest.mark.parametrize(
    "words", [("--cursor", "x"), ("--limit", "0"), ("--limit", "x"), ("--nonsense",), ("x",)]
)
def test_a_list_asked_for_nonsense_is_wrong_usage(app: Flask, words: tuple):
    answer = run(app, "users", "list", *words)

    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "Usage: " in answer.stderr


def test_an_account_is_made_with_a_password_that_is_asked_for(app: Flask, stranger: Person):
    made = run(app, "users", "create", "ada@example.org", "ada", input=f"{PASSWORD}\n{PASSWORD}\n")

    assert made.exit_code == 0
    assert re.search("administrator +no", made.stdout)
    assert PASSWORD not in made.output
    body = {"email": "ada@example.org", "password": PASSWORD}
    assert stranger.post("/auth/sessions", body).status_code == 200


def test_an_account_is_made_with_a_password_from_stdin(app: Flask, stranger: Person):
    words = ("users", "create", "ada@example.org", "ada", "--admin", "--password-stdin")
    made = run_as_json(app, *words, input="  pass wörd \nanother line\n")

    assert (made["administrator"], made["confirmed_at"]) == (True, None)
    body = {"email": "ada@example.org", "password": "  pass wörd "}
    assert stranger.post("/auth/sessions", body).status_code == 200


@pytest.mark.parametrize(
    ("email", "username", "password", "why"),
    [
        ("alice@example.org", "ada", PASSWORD, "there is an account with the address alice@"),
        ("ada@example.org", "Alice", PASSWORD, "The username is taken."),
        ("ada", "ada", PASSWORD, "email: This is not an email address."),
        ("ada@example.org", "a", PASSWORD, "username: This needs at least 3 characters."),
        ("ada@example.org", "a-d-a", PASSWORD, "username: Only letters, digits and"),
        ("ada@example.org", "ada", "12345", "password: This needs at least 6 characters."),
        ("ada@example.org", "ada", "password1", "This password is among the first that are"),
        ("ada@example.org", "ada", "Ada.1815", "The password may not be your own username"),
        ("ada@example.org", "ada", "", "password: This needs at least 6 characters."),
        ("ada@example.org", "ada", b"\xff" * 6, "password: it is not UTF-8"),
    ],
)
def test_an_account_that_cannot_be_is_refused_with_one_line(
    app: Flask, alice: Person, email: str, username: str, password: str | bytes, why: str
):
    words = ("users", "create", email, username, "--password-stdin")
    answer = run(app, *words, input=password)

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert re.fullmatch(f"Error: {why}.*\n", answer.stderr)


def test_an_account_is_disabled_and_enabled_by_commands(app: Flask, alice: Person):
    disabled = run(app, "users", "disable", "alice")

    assert disabled.exit_code == 0
    assert re.search(r"disabled at +20\d\d-", disabled.stdout)
    assert alice.get("/users/me").status_code == 401
    assert run_as_json(app, "users", "enable", "alice")["disabled_at"] is None


def test_an_administrator_is_demoted_with_a_command(app: Flask, admin: Person):
    assert run_as_json(app, "users", "demote", "admin")["administrator"] is False
    assert admin.get("/auth/users?email=nobody@example.org").status_code == 403


def test_sessions_are_ended_with_a_command(app: Flask, alice: Person, bob: Person):
    with app.app_context():
        sessions.start(User.find_by_email(alice.email), Caller("192.0.2.1"))

    assert run_as_json(app, "users", "end-sessions", "alice") == {"ended": 2}
    assert alice.get("/users/me").status_code == 401
    assert bob.get("/users/me").status_code == 200
    assert run_as_json(app, "users", "end-sessions", "alice") == {"ended": 0}
    with app.app_context():
        kinds = [event.kind for event in SecurityEvent.select() if event.network is None]
        assert kinds == ["all_sessions_ended"]


def test_an_account_is_deleted_only_when_it_is_meant(app: Flask, alice: Person):
    for answer in ("n\n", "\n", ""):
        refused = run(app, "users", "delete", "alice", input=answer)
        assert refused.exit_code == 1
    assert alice.get("/users/me").status_code == 200

    assert run(app, "users", "delete", "alice", input="y\n").exit_code == 0
    assert alice.get("/users/me").status_code == 401
    assert run(app, "users", "show", "alice").exit_code == 1


def test_an_account_is_deleted_without_a_question(app: Flask, alice: Person):
    deleted = run(app, "users", "delete", "alice", "--yes")

    assert (deleted.exit_code, deleted.stdout) == (0, f"erased {alice.id}\n")


def test_the_database_is_upgraded_by_a_command(app: Flask, settings: dict, tmp_path: Path):
    fresh = tmp_path / "fresh.sqlite3"
    other = create_app({**settings, "DATABASE_URL": f"sqlite:///{fresh}"})

    assert "applied 0001_create_users" in run(other, "db", "upgrade").output
    assert run(other, "db", "upgrade").output.endswith("up to date\n")
    names = sqlite3.connect(fresh).execute("SELECT name FROM sqlite_master").fetchall()
    assert ("users",) in names


def test_the_state_of_the_migrations_is_shown(settings: dict, tmp_path: Path):
    app = create_app({**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/fresh.sqlite3"})
    pending = run(app, "db", "status")
    assert pending.exit_code == 1
    assert re.search("^0001_create_users +-$", pending.stdout, re.MULTILINE)

    run(app, "db", "upgrade")
    applied = run(app, "db", "status")
    assert applied.exit_code == 0
    assert re.search(r"^0001_create_users +20\d\d-.* UTC$", applied.stdout, re.MULTILINE)
    rows = run_as_json(app, "db", "status")["migrations"]
    [name, at] = rows[0].values()
    assert name == "0001_create_users"
    assert at[:16] in {f"{clock.now():%Y-%m-%dT%H:%M}", rows[-1]["applied_at"][:16]}
    db.close_all()


def test_migrations_are_taken_back_when_it_is_meant(settings: dict, tmp_path: Path):
    app = create_app({**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/fresh.sqlite3"})
    run(app, "db", "upgrade")
    with app.app_context():
        names = [name for name, _at in migrate.status(db.obj)]
    assert run(app, "db", "downgrade", input="n\n").exit_code == 1

    assert run(app, "db", "downgrade", input="y\n").output.endswith(f"took back {names[-1]}\n")
    taken_back = run(app, "db", "downgrade", "--yes", "--to", names[-3])
    assert taken_back.stdout == f"took back {names[-2]}\ntook back {names[-3]}\n"
    unknown = run(app, "db", "downgrade", "--yes", "--to", "nonsense")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert re.fullmatch("Error: .*nonsense.*\n", unknown.stderr)
    db.close_all()


def test_what_has_run_out_is_purged_by_a_command(app: Flask, alice: Person):
    with app.app_context():
        SecurityEvent.update(created_at=clock.now().replace(year=2020)).execute()

    assert run_as_json(app, "purge") == {
        "sign_ups": 0,
        "recoveries": 0,
        "email_changes": 0,
        "mailings": 0,
        "allowances": 0,
        "sessions": 0,
        "security_events": 1,
        "former_spendings": 0,
    }
    assert re.search("^security events +0$", run(app, "purge").stdout, re.MULTILINE)


# Keys


def settings_for(folder: Path, **more: str) -> dict[str, str]:
    """A service that keeps its own key, or is given one."""
    return {"INSTANCE_PATH": str(folder), **more}


def test_a_key_that_is_kept_is_rotated_where_it_is(tmp_path: Path):
    first = create_app(settings_for(tmp_path))
    old = first.config["SECRET_KEY"]
    rotated = run(first, "keys", "rotate")
    assert rotated.exit_code == 0
    assert old not in rotated.output

    second = create_app(settings_for(tmp_path))
    assert second.config["SECRET_KEY"] != old
    assert second.config["SECRET_KEY_FALLBACKS"] == [old]
    assert second.config["SECRET_KEY"] not in rotated.output
    files = sorted(tmp_path.glob("secret_key*"))
    assert [file.name for file in files] == ["secret_key", "secret_key_fallbacks"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_so_many_keys_are_kept(tmp_path: Path):
    keys = []
    for _ in range(3):
        app = create_app(settings_for(tmp_path))
        keys.insert(0, app.config["SECRET_KEY"])
        run(app, "keys", "rotate")
    assert create_app(settings_for(tmp_path)).config["SECRET_KEY_FALLBACKS"] == keys

    run(create_app(settings_for(tmp_path)), "keys", "rotate", "--keep", "2")
    kept = create_app(settings_for(tmp_path)).config["SECRET_KEY_FALLBACKS"]
    assert (len(kept), kept[1]) == (2, keys[0])


def test_nobody_is_signed_out_when_keys_are_rotated(tmp_path: Path):
    def client(app: Flask) -> Person:
        return Person(app.test_client(), tokens=tokens)

    tokens: dict = {}
    app = create_app(settings_for(tmp_path))
    with app.app_context():
        user = User.create(username="ada", email="ada@example.org", password_hash="-")
        pair = sessions.start(user, Caller("127.0.0.1"))
    tokens |= {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
    run(app, "keys", "rotate")
    db.close_all()

    app = create_app(settings_for(tmp_path))
    assert client(app).get("/users/me").status_code == 200
    assert client(app).refresh().status_code == 200
    run(app, "keys", "rotate", "--keep", "0")
    db.close_all()

    app = create_app(settings_for(tmp_path))
    assert client(app).get("/users/me").status_code == 401
    db.close_all()


def test_keys_of_the_environment_are_printed_to_be_set(tmp_path: Path):
    second, first = "the-second-key" * 3, "the-first-key" * 3
    given = settings_for(tmp_path, SECRET_KEY=second, SECRET_KEY_FALLBACKS=first)
    app = create_app(given)
    printed = run(app, "keys", "rotate").stdout
    lines = dict(line.split("=", 1) for line in printed.splitlines())
    assert lines.keys() == {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}
    assert len(lines["SECRET_KEY"]) >= 32

    rotated = create_app(given | lines)
    assert rotated.config["SECRET_KEY"] == lines["SECRET_KEY"]
    assert rotated.config["SECRET_KEY_FALLBACKS"] == [second, first]
    assert not (tmp_path / "secret_key").exists()
    assert run_as_json(app, "keys", "rotate", "--keep", "1")["SECRET_KEY_FALLBACKS"] == second
    db.close_all()


# All of them


def commands(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of ours, and the words for it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        elif command.callback.__module__.startswith("runtime."):
            yield (*words, name), command


def test_every_command_says_how_it_is_used(app: Flask):
    ours = dict(commands(app.cli))
    assert {("users", "list"), ("keys", "rotate"), ("purge",)} <= set(ours)
    for words, command in ours.items():
        shown = run(app, *words, "--help")
        assert shown.exit_code == 0
        example = re.search("Example:\n +flask (.+)\n", shown.output)[1]
        assert example.startswith(" ".join(words))
        # A list of commands has the summary in full.
        assert not command.get_short_help_str().endswith("...")


def test_only_the_answer_of_a_command_is_on_stdout(tmp_path: Path):
    environ = {**os.environ, "INSTANCE_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "flask", "purge", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)

    assert done.returncode == 0
    assert json.loads(done.stdout)["sign_ups"] == 0
    assert '"event": "purged"' in done.stderr


def test_the_shell_holds_the_service_by_name(app: Flask):
    names = app.make_shell_context()

    expected = "app g db store mail clock User Session Chat users sessions verifications chats runs"
    assert {*expected.split(), "health", "agent", "client"} <= set(names)


def test_rows_print_without_their_secrets(app: Flask, alice: Person):
    with app.app_context():
        assert repr(User.get()) == "<User alice alice@example.org>"


def test_a_database_that_was_never_migrated_is_named_in_one_line_and_unhealthy(tmp_path: Path):
    file = tmp_path / "empty.sqlite3"
    settings = {"DATABASE_URL": f"sqlite:///{file}", "SECRET_KEY": "a-key-for-tests-" * 3}
    app = create_app({**settings, "INSTANCE_PATH": str(tmp_path)})

    shown = run(app, "users", "show", "ada@example.org")
    health = app.test_client().get("/api/v1/infra/health").json
    db.close_all()

    assert shown.exit_code == 1
    assert re.fullmatch("Error: [^\n]*no such table: users[^\n]*\n", shown.stderr)
    assert health["services"]["database"]["status"] == "unhealthy"


def test_the_embedded_model_is_checked_and_named(app: Flask):
    checked = run(app, "agent", "check")

    assert checked.exit_code == 0
    assert "the embedded model, since no model's server is configured." in checked.output
    assert "with tools: called " in checked.output


def test_a_model_that_does_not_answer_is_said_to_and_why(settings: dict[str, str]):
    with CompletionsServer(plain({"error": "no"}, 401)) as server:
        model = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-012345", "AGENT_MODEL": "m-1"}
        checked = run(create_app(settings | model), "agent", "check")

    assert checked.exit_code == 1
    assert "Chats are answered by m-1 on 127.0.0.1" in checked.output
    assert "is OPENAI_API_KEY this server's?" in checked.output
    assert "sk-012345" not in checked.output
