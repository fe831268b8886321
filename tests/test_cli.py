"""The flask command."""

import re
import sqlite3
from pathlib import Path

from flask import Flask

from app import create_app
from runtime.db import db
from runtime.models import User
from tests.conftest import Person


def run(app: Flask, *words: str):
    return app.test_cli_runner().invoke(args=words)


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


def test_an_account_that_is_not_there_is_named(app: Flask):
    for command in ("show", "promote"):
        answer = run(app, "users", command, "nobody@example.org")
        assert answer.exit_code == 1
        assert "nobody@example.org" in answer.output


def test_the_database_is_upgraded_by_a_command(app: Flask, settings: dict, tmp_path: Path):
    from app import create_app

    fresh = tmp_path / "fresh.sqlite3"
    other = create_app({**settings, "DATABASE_URL": f"sqlite:///{fresh}"})

    assert "applied 0001_create_users" in run(other, "db", "upgrade").output
    assert run(other, "db", "upgrade").output.endswith("up to date\n")
    names = sqlite3.connect(fresh).execute("SELECT name FROM sqlite_master").fetchall()
    assert ("users",) in names


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
