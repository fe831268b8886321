"""PgBouncer in transaction mode in front of Postgres: each transaction gets another session."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peewee
import psycopg
import pytest

from runtime.database import migrate, migration_lock
from runtime.database.base import db
from runtime.database.outages import is_outage
from tests.faults.conftest import flask
from tests.faults.test_postgres import database
from tests.servers import PgBouncer, Postgres, wait_until

SETTINGS = ("statement_timeout", "lock_timeout")


@pytest.fixture(scope="module")
def pgbouncer(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    """In front of this module's cluster."""
    with PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres.url) as server:
        yield server


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tuple[Postgres, PgBouncer]]:
    """A cluster that nobody migrated, and a pooler before it."""
    with (
        Postgres(tmp_path / "postgres") as server,
        PgBouncer(tmp_path / "pgbouncer", server.url) as pooler,
    ):
        yield server, pooler


def left_behind(pgbouncer: PgBouncer) -> set[tuple[str, ...]]:
    """What the server's sessions have of settings and prepared statements, as others find them."""
    found = set()
    with psycopg.connect(pgbouncer.url, autocommit=True, prepare_threshold=None) as other:
        for _ in range(50):
            values = [other.execute(f"SHOW {name}").fetchone()[0] for name in SETTINGS]
            prepared = other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0]
            found.add((*values, prepared))
    return found


def test_statements_of_many_threads_get_their_own_answers(pgbouncer: PgBouncer):
    """Prepared ones would meet those of other clients in the session that they get."""
    together = threading.Barrier(12)

    def work(number: int) -> list:
        together.wait()
        answers = []
        for turn in range(60):
            with pool.connection_context():
                text = f"SELECT {turn % 3} + %s::int, %s::text"
                answers += pool.fetch_all(text, (number, f"{number}-{turn}"))
        return answers

    with database(pgbouncer.url, 12) as pool, ThreadPoolExecutor(12) as threads:
        found = list(threads.map(work, range(12)))

    assert found == [[(t % 3 + n, f"{n}-{t}") for t in range(60)] for n in range(12)]
    assert left_behind(pgbouncer) == {("0", "0", 0)}


def test_a_statement_has_two_seconds_and_the_next_client_has_its_own(pgbouncer: PgBouncer):
    with database(pgbouncer.url, 1) as pool:
        for _ in range(2):
            with pytest.raises(peewee.OperationalError, match="statement timeout"):
                pool.execute_sql("SELECT pg_sleep(60)")
            # Ended by the server: the connection is still good.
            assert pool.execute_sql("SELECT 1").fetchone() == (1,)
        with pytest.raises(peewee.OperationalError, match="statement timeout"), pool.atomic():
            assert pool.execute_sql("SHOW statement_timeout").fetchone() == ("2s",)
            pool.execute_sql("SELECT pg_sleep(60)")
        assert pool.execute_sql("SHOW statement_timeout").fetchone() == ("2s",)

    assert left_behind(pgbouncer) == {("0", "0", 0)}


def test_failures_are_told_apart_as_without_it(pgbouncer: PgBouncer):
    with database(pgbouncer.url, 1) as pool:
        pool.execute_sql("CREATE TABLE one (id int PRIMARY KEY)")
        assert pool.execute_sql("INSERT INTO one VALUES (%s)", (1,)).rowcount == 1
        for _ in range(2):
            with pytest.raises(peewee.IntegrityError):
                pool.execute_sql("INSERT INTO one VALUES (%s)", (1,))
            with pytest.raises(peewee.ProgrammingError):
                pool.execute_sql("SELECT nothing")
        with pytest.raises(peewee.IntegrityError), pool.atomic():
            pool.execute_sql("INSERT INTO one VALUES (%s)", (2,))
            pool.execute_sql("INSERT INTO one VALUES (%s)", (1,))
        assert pool.execute_sql("SELECT id FROM one").fetchall() == [(1,)]
        pool.execute_sql("DROP TABLE one")


def test_rows_that_are_read_bit_by_bit_outlast_those_that_are_read_at_once(pgbouncer: PgBouncer):
    with database(pgbouncer.url, 1) as pool, pool.connection_context():
        found = pool.execute_sql("SELECT * FROM generate_series(1, 3)")
        assert found.fetchone() == (1,)
        assert pool.fetch_all("SELECT %s", (4,)) == [(4,)]
        assert found.fetchall() == [(2,), (3,)]


def test_a_pooler_that_is_silent_is_an_outage_and_is_used_again(pgbouncer: PgBouncer):
    with database(pgbouncer.url, 1) as pool:
        pool.execute_sql("SELECT 1")
        pgbouncer.pause()
        began = time.monotonic()
        with pytest.raises(peewee.OperationalError) as failure:
            pool.execute_sql("SELECT 1")
        assert is_outage(failure.value)
        assert time.monotonic() - began < 30
        pgbouncer.resume()
        pool.close()
        deadline = time.monotonic() + 30
        while pool.breaker.is_open:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert pool.execute_sql("SELECT 1").fetchone() == (1,)


def test_a_server_that_is_away_behind_it_is_an_outage_and_is_used_again(empty: tuple):
    server, pooler = empty
    with database(pooler.url, 2) as pool:
        with pool.connection_context():
            pool.execute_sql("SELECT 1")
        server.stop()
        for _ in range(3):
            with pytest.raises(peewee.OperationalError) as failure, pool.connection_context():
                pool.execute_sql("SELECT 1")
            assert is_outage(failure.value)
        server.start()
        wait_until(lambda: answers(pool), 30, "it is used again")


def answers(pool: peewee.Database) -> bool:
    try:
        with pool.connection_context():
            return pool.execute_sql("SELECT 1").fetchone() == (1,)
    except peewee.OperationalError:
        return False


def test_a_pooler_of_sessions_is_as_good(postgres: Postgres, tmp_path: Path):
    with (
        PgBouncer(tmp_path / "pgbouncer", postgres.url, mode="session") as pooler,
        database(pooler.url, 2) as pool,
    ):
        for number in range(10):
            with pool.connection_context():
                assert pool.fetch_all("SELECT %s::int", (number,)) == [(number,)]


def test_three_upgrades_at_once_migrate_once_and_leave_no_lock(empty: tuple):
    server, pooler = empty
    with ThreadPoolExecutor(3) as threads:
        upgrades = [
            threads.submit(flask, "db", "upgrade", DATABASE_URL=pooler.url) for _ in range(3)
        ]
        lines = [line for each in upgrades for line in each.result(60).stdout.splitlines()]
    names = [path.stem for path in migrate.DIRECTORY.glob("0*.py")]

    assert sorted(lines) == sorted([f"applied {name}" for name in names] + ["up to date"] * 3)
    with psycopg.connect(server.url) as admin:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert admin.execute(locks).fetchone() == (0,)
    assert left_behind(pooler) == {("0", "0", 0)}


def test_an_upgrade_waits_for_one_that_is_under_way(empty: tuple):
    """The other came past the pooler, and is of a release that locks a session."""
    server, pooler = empty
    with (
        database(pooler.url) as pool,
        psycopg.connect(server.url, autocommit=True) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        db.initialize(pool)
        other.execute("SELECT pg_advisory_lock(%s)", (migration_lock.ADVISORY_LOCK,))
        upgrade = threads.submit(migrate.upgrade, pool)
        time.sleep(1)
        assert not upgrade.done()
        other.execute("SELECT pg_advisory_unlock_all()")

        assert upgrade.result(60)


def test_a_migration_keeps_nobody_from_a_table_longer_than_an_instant(empty: tuple):
    server, pooler = empty
    with database(pooler.url) as pool:
        migrate.upgrade(pool)
        migrate.downgrade(pool, "0002_create_sessions")
        with psycopg.connect(server.url) as user:
            user.execute("UPDATE users SET bio = 'busy'")
            with pytest.raises(migrate.TableInUse, match="0002_create_sessions"):
                migrate.upgrade(pool, patience_seconds=0.1)
        assert "0002_create_sessions" in migrate.upgrade(pool)
    assert left_behind(pooler) == {("0", "0", 0)}
