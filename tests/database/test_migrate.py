"""Migrations: forwards, back, and the models they lead to."""

import threading
import uuid
from collections.abc import Iterator

import peewee
import pytest
from playhouse.migrations import Runner
from playhouse.schema_diff import diff_models

from runtime import clock
from runtime.database import migrate
from runtime.database.base import db
from runtime.database.connections import connect
from runtime.database.migrate import DIRECTORY
from runtime.models.chats import Chat, Run
from runtime.models.codes import EmailChange, Recovery, SignUp
from runtime.models.run_events import RunEvent
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.spendings import FormerSpending, Spending
from runtime.models.tables import MODELS
from runtime.models.users import User
from runtime.services.chats.entries import Entry, read
from tests.conftest import url_of


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path) -> Iterator[peewee.Database]:
    """An empty database of each kind, the models bound to it."""
    if request.param == "sqlite":
        database, drop = connect(f"sqlite:///{tmp_path}/test.sqlite3", 4), lambda: None
    else:
        database, drop = _scratch_postgres()
    db.initialize(database)
    yield database
    database.close_all()
    drop()


def _scratch_postgres():
    url = url_of("TEST_DATABASE_URL")
    server = connect(url, 1)
    name = f"test_{uuid.uuid4().hex}"
    server.execute_sql(f"CREATE DATABASE {name}")

    def drop():
        server.execute_sql(f"DROP DATABASE {name}")
        server.close_all()

    return connect(url.rpartition("/")[0] + f"/{name}", 4), drop


def fill() -> None:
    """A row in every table."""
    user = User.create(username="ada", email="ada@example.org", password_hash="-")
    Session.create(user=user, network="127.0.0.1")
    SecurityEvent.create(user=user, kind="signed_in", network="127.0.0.1")
    SignUp.create(
        email="bob@example.org",
        username="bob",
        password_hash="-",
        network="127.0.0.1",
        code_hash="-",
        code_expires_at=clock.now(),
    )
    Recovery.create(
        email="ada@example.org", network="127.0.0.1", code_hash="-", code_expires_at=clock.now()
    )
    EmailChange.create(
        user=user,
        old_email="ada@example.org",
        email="ada@example.com",
        network="127.0.0.1",
        code_hash="-",
        code_expires_at=clock.now(),
    )
    run = Run.create(chat=Chat.create(user=user), message="hello", lease_until=clock.now())
    RunEvent.create(run=run, number=1, data="{}")
    Spending.create(user=user, day=clock.now().date(), tokens=1)
    FormerSpending.create(owner_hash="-", day=clock.now().date(), tokens=1)


def test_the_migrations_lead_to_the_models(database: peewee.Database):
    migrate.upgrade(database)

    assert str(diff_models(database, MODELS)) == ""
    assert migrate.pending(database) == []


def test_a_second_upgrade_does_nothing(database: peewee.Database):
    migrate.upgrade(database)

    assert migrate.upgrade(database) == []


def test_every_migration_can_be_taken_back_with_rows_in_the_tables(database: peewee.Database):
    applied = migrate.upgrade(database)
    fill()

    for name in reversed(applied):
        assert migrate.downgrade(database) == [name]

    assert set(database.get_tables()) <= {"schema_migration"}


def test_what_was_taken_back_can_be_applied_again(database: peewee.Database):
    applied = migrate.upgrade(database)
    migrate.downgrade(database, applied[0])

    assert migrate.upgrade(database) == applied
    fill()


def test_an_event_from_before_it_had_a_type_is_read_as_before(database: peewee.Database):
    migrate.upgrade(database)
    fill()
    RunEvent.update(data='{"type":"RUN_STARTED"}').execute()
    run_id = Run.get().id

    migrate.downgrade(database, "0023_add_type_to_run_events")
    migrate.upgrade(database)

    assert RunEvent.get().type is None
    assert read({run_id: 0})[run_id] == [Entry(1, "RUN_STARTED", '{"type":"RUN_STARTED"}')]


def test_deleting_a_user_deletes_all_that_is_theirs(database: peewee.Database):
    migrate.upgrade(database)
    fill()

    User.delete().execute()

    for model in (Session, SecurityEvent, Chat, Run, RunEvent, Spending):
        assert model.select().count() == 0, model


@pytest.mark.parametrize("column", ["username", "email"])
def test_names_and_addresses_are_unique_whatever_their_case(database, column: str):
    migrate.upgrade(database)
    fill()
    other = {"username": "other", "email": "other@example.org", "password_hash": "-"}

    with pytest.raises(peewee.IntegrityError):
        User.create(**other | {column: getattr(User.get(), column).upper()})


def test_instants_come_back_as_they_went(database: peewee.Database):
    migrate.upgrade(database)
    fill()
    user = User.get()
    user.created_at = clock.now().replace(microsecond=0)
    user.save()

    assert User.get().created_at == user.created_at


def test_upgrades_at_once_apply_each_migration_once(database: peewee.Database):
    start = threading.Barrier(4)
    applied = []

    def upgrade():
        start.wait()
        applied.extend(migrate.upgrade(database))
        if not database.is_closed():
            database.close()

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert applied == [migration.name for migration in Runner(database, str(DIRECTORY)).status()]
