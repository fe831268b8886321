"""The database's connections: opened late, given back early."""

from flask import Flask

from runtime.database import connections, sqlite
from runtime.database.base import db, from_now
from runtime.models.users import User
from tests.conftest import Person


def test_nothing_is_opened_before_the_first_query(app: Flask):
    with app.app_context():
        assert db.is_closed()
        User.select().count()
        assert not db.is_closed()
    assert db.is_closed()


def test_a_request_gives_its_connection_back(app: Flask, alice: Person):
    alice.get("/users/me")

    assert not app.extensions["db"]._in_use


def test_sqlite_is_set_up_to_be_written_by_many(app: Flask):
    with app.app_context():
        pragmas = ["journal_mode", "synchronous", "foreign_keys", "busy_timeout"]
        found = [db.execute_sql(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
        assert found == ["wal", 2, 1, sqlite.BUSY_MS]


def test_an_sqlite_that_may_corrupt_its_file_is_named_at_start(app: Flask, monkeypatch, capsys):
    monkeypatch.setattr(sqlite, "SOUND_VERSION", (99, 0, 0))

    connections.init_app(app)

    assert "sqlite_may_corrupt_its_file" in capsys.readouterr().out


def test_a_statement_has_one_instant_for_all_its_rows(app: Flask):
    with app.app_context():
        rows = "WITH RECURSIVE rows(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM rows LIMIT 1000)"
        found = db.execute_sql(f"{rows} SELECT DISTINCT {from_now().sql} FROM rows").fetchall()

    assert len(found) == 1
