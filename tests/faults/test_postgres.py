"""Postgres restarted, silent, full of connections: 503 while it is away, and no longer."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from glob import glob
from pathlib import Path
from statistics import median

import peewee
import psycopg
import pytest

from app import create_app
from runtime.database import migrate, migration_lock
from runtime.database.base import db
from runtime.database.connections import POSTGRES_CONNECTIONS, connect
from runtime.database.outages import is_outage
from runtime.database.postgres import FRESH_SECONDS, STUCK_SECONDS, PostgresDatabase
from runtime.database.postgres_connection import READ_SECONDS
from runtime.database.prepared import Prepared
from tests.agent.completions_server import CompletionsServer, Pause, finish, stream, text
from tests.faults.conftest import SignedIn, flask
from tests.faults.writers import Writer
from tests.servers import (
    PREFIX,
    Answer,
    Client,
    Load,
    Postgres,
    Redis,
    Service,
    program,
    wait_until,
)


@pytest.fixture
def service(settings: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "service", settings, RATE_LIMITS="off") as service:
        yield service


def assert_is_outage(answer: Answer) -> None:
    assert answer.status == 503, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["status"] == 503


def database_status(service: Service) -> str:
    answer = service.client.get("/infra/health")
    assert answer.status == 200
    return answer.json["services"]["database"]["status"]


def test_a_restart_is_503_until_the_server_is_back_and_loses_nothing(
    service: Service, postgres: Postgres, people: Callable[[int], list[SignedIn]]
):
    writers = [Writer(person, service.client) for person in people(6)]
    with ExitStack() as stack:
        loads = [
            stack.enter_context(Load(writer.write, threads=1, pause=0.01)) for writer in writers
        ]
        time.sleep(1)
        stopped_at = time.monotonic()
        postgres.stop()
        assert database_status(service) == "unhealthy"
        time.sleep(1)
        postgres.start()
        back_at = time.monotonic()
        time.sleep(2)

    asked = [each for load in loads for each in load.asked]
    failed = [each for each in asked if each.answer.status not in (200, 202)]
    last = max(each.at for each in failed) - back_at
    print(f"{len(asked)} requests, {len(failed)} of them 503, the last sent {last:.2f} s after")
    assert not [load.errors for load in loads if load.errors]
    for each in failed:
        assert_is_outage(each.answer)
        assert stopped_at < each.ended_at
    assert last < 1
    assert [writer.lost(postgres.url) for writer in writers] == [[]] * len(writers)
    assert all(writer.acknowledged > 10 for writer in writers)
    assert [len(service.events(f"database_{what}")) for what in ("away", "back")] == [1, 1]
    assert len(service.events("outage")) == len(failed)
    assert "Traceback" not in service.log


@pytest.mark.quiet("compares milliseconds, and counts seconds after the return")
def test_a_silent_server_costs_nobody_else_anything(
    service: Service, postgres: Postgres, people: Callable[[int], list[SignedIn]]
):
    """More clients than the service has threads, all of whom want the database."""
    tokens = [person.access_token for person in people(16)]
    bystander = Client(service.port)

    def ask(number: int) -> Answer:
        token = tokens[number % len(tokens)]
        if number % 2:
            return service.client.get("/users/me", token)
        return service.client.ask("PATCH", "/users/me", {"bio": str(number)}, token)

    with (
        Load(ask, threads=100, pause=0.3) as load,
        Load(lambda _: bystander.get("/health"), threads=2, pause=0.02) as health,
    ):
        time.sleep(1)
        paused_at = time.monotonic()
        postgres.pause()
        try:
            time.sleep(READ_SECONDS + 0.5)
            asked_at = time.monotonic()
            assert database_status(service) == "unhealthy"
            infra_seconds = time.monotonic() - asked_at
            time.sleep(3)
        finally:
            postgres.resume()
            resumed_at = time.monotonic()
        time.sleep(3)

    def times(a_load: Load, began: float, ended: float) -> list[float]:
        return sorted(each.answer.seconds for each in a_load.between(began, ended))

    before, meanwhile = times(health, 0, paused_at), times(health, paused_at, resumed_at)
    slowest = max(times(load, paused_at - 1, resumed_at))
    failed = [each for each in load.asked if each.answer.status != 200]
    last = max(each.ended_at for each in failed) - resumed_at
    print(
        f"{len(failed)} of {len(load.asked)} were 503, after {slowest:.2f} s at most, the last"
        f" {last:.2f} s after the return; /health {median(before) * 1e3:.1f} ms before, then"
        f" {median(meanwhile) * 1e3:.1f} ms, at most {max(meanwhile):.2f} s"
    )
    assert not load.errors and not health.errors
    for each in failed:
        assert_is_outage(each.answer)
    assert slowest < 5
    assert last < 2
    assert infra_seconds < 3
    assert set(health.statuses) == {200}
    assert median(meanwhile) < 5 * median(before) + 0.02
    # For a moment, until it is seen that no connection moves, threads wait for one.
    assert max(meanwhile) < STUCK_SECONDS + 1
    assert database_status(service) == "healthy"


def test_the_connections_to_a_silent_server_cost_one_wait_in_all(postgres: Postgres):
    together = threading.Barrier(4)
    with database(postgres.url) as pool, ThreadPoolExecutor(4) as threads:

        def ask() -> None:
            with pool.connection_context():
                together.wait()
                pool.execute_sql("SELECT 1")

        for each in [threads.submit(ask) for _ in range(4)]:
            each.result()
        began = time.monotonic()
        postgres.pause()
        try:
            for _ in range(4):
                with pytest.raises(peewee.OperationalError), pool.connection_context():
                    pool.execute_sql("SELECT 1")
        finally:
            postgres.resume()

        assert READ_SECONDS <= time.monotonic() - began < 4 * READ_SECONDS


def test_a_database_whose_migrations_were_taken_back_is_503_and_the_log_says_what_to_do(
    settings: dict[str, str], tmp_path: Path
):
    with Postgres(tmp_path / "postgres") as server:
        flask("db", "upgrade", DATABASE_URL=server.url)
        with Service(tmp_path / "service", {**settings, "DATABASE_URL": server.url}) as service:
            nobody = {"email": "ada@example.org", "password": "correct horse"}
            first = ["--to", "0001_create_users", "--yes"]
            flask("db", "downgrade", *first, DATABASE_URL=server.url)
            assert_is_outage(service.client.post("/auth/sessions", nobody))
            (outage,) = service.events("outage")

            assert "run flask db upgrade" in outage["reason"]
            assert "Traceback" not in service.log

            flask("db", "upgrade", DATABASE_URL=server.url)
            assert service.client.post("/auth/sessions", nobody).status == 401


@contextmanager
def database(url: str, threads: int = 64) -> Iterator[PostgresDatabase]:
    """The service's own pool, without the service."""
    pool = connect(url, threads)
    try:
        yield pool
    finally:
        pool.close_all()


def backends(postgres: Postgres) -> list[int]:
    """The processes that serve its connections, but for this one."""
    with psycopg.connect(postgres.url) as server:
        rows = server.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [row[0] for row in rows]


def test_nothing_is_opened_before_the_first_query_and_nothing_before_the_fork(
    settings: dict[str, str],
    postgres: Postgres,
    redis: Redis,
    people: Callable[[int], list[SignedIn]],
    tmp_path: Path,
):
    (person,) = people(1)
    with Service(tmp_path / "service", settings, WEB_CONCURRENCY="2") as service:
        ports = {postgres.port, redis.port}
        assert service.client.get("/health").status == 200
        assert not [pid for pid in service.pids() if connected_ports(pid) & ports]

        for _ in range(20):
            client = Client(service.port)
            assert client.post("/agent-chats", {"message": "hi"}, person.access_token).status == 200
        master, *workers = service.pids()
        assert not connected_ports(master) & ports
        assert set.union(*map(connected_ports, workers)) >= ports


def connected_ports(pid: int) -> set[int]:
    """The ports that a process has TCP connections to."""
    links = [os.readlink(fd) for fd in glob(f"/proc/{pid}/fd/*") if os.path.lexists(fd)]
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links}
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(line[2].partition(":")[2], 16) for line in lines if line[9] in sockets}


def test_more_threads_than_connections_wait_their_turn(postgres: Postgres):
    together = threading.Barrier(64)
    with database(postgres.url) as pool:

        def work(_number: int) -> int:
            together.wait()
            for _ in range(5):
                with pool.connection_context():
                    pool.execute_sql("SELECT pg_sleep(0.01)")
                    taken = len(pool._in_use)
            return taken

        with ThreadPoolExecutor(64) as threads:
            most = max(threads.map(work, range(64)))

        assert most <= POSTGRES_CONNECTIONS
        assert len(backends(postgres)) == POSTGRES_CONNECTIONS


def test_a_thread_takes_the_connection_that_it_had_last(postgres: Postgres):
    together = threading.Barrier(4)
    with database(postgres.url) as pool:

        def work(_number: int) -> int:
            taken = set()
            for _ in range(50):
                with pool.connection_context():
                    together.wait()  # each has one
                    taken.add(pool.connection())
                together.wait()  # all are given back
            return len(taken)

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(work, range(4))) == [1] * 4


def test_no_connection_is_held_while_passwords_are_hashed_or_a_model_thinks(
    settings: dict[str, str], people: Callable[[int], list[SignedIn]], tmp_path: Path
):
    everybody = people(5)
    with CompletionsServer() as model, ThreadPoolExecutor(40) as threads:
        model.script(stream(Pause(1.5), text("well"), finish()))
        options = {"OPENAI_BASE_URL": model.url, "AGENT_MODEL": "test", "RATE_LIMITS": "off"}
        app = create_app({**settings, **options, "INSTANCE_PATH": str(tmp_path)})
        pool = app.extensions["db"]

        def ask(path: str, body: dict, token: str = "") -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return app.test_client().post(PREFIX + path, json=body, headers=headers).status_code

        def sign_in(each: SignedIn) -> int:
            return ask("/auth/sessions", {"email": each.email, "password": each.password})

        def chat(each: SignedIn) -> int:
            return ask("/agent-chats", {"message": "?"}, each.access_token)

        for slow in (sign_in, chat):
            asked = [threads.submit(slow, everybody[number % 5]) for number in range(15)]
            time.sleep(0.5)
            held = []
            while not all(each.done() for each in asked):
                held.append(len(pool._in_use))
                time.sleep(0.01)

            assert {each.result() for each in asked} == {200}
            # Each takes one for a moment at its beginning and its end.
            assert len(held) > 10 and median(held) == 0, slow
        db.close_all()


def test_a_statement_has_two_seconds_unless_the_url_says_otherwise(postgres: Postgres):
    with database(postgres.url) as pool:
        began = time.monotonic()
        with pytest.raises(peewee.OperationalError, match="statement timeout"):
            pool.execute_sql("SELECT pg_sleep(60)")
        assert time.monotonic() - began < 30
        # Ended by the server: the connection is still good.
        assert pool.execute_sql("SELECT 1").fetchone() == (1,)
    with database(f"{postgres.url}?options=-c%20statement_timeout%3D123") as pool:
        assert pool.execute_sql("SHOW statement_timeout").fetchone() == ("123ms",)


def test_options_of_the_url_reach_libpq(postgres: Postgres):
    options = "application_name=ours&options=-c%20work_mem%3D5MB"
    with database(f"{postgres.url.replace('postgresql:', 'postgres:')}?{options}") as pool:
        assert pool.execute_sql("SHOW application_name").fetchone() == ("ours",)
        assert pool.execute_sql("SHOW work_mem").fetchone() == ("5MB",)


def test_sslmode_of_the_url_is_obeyed(tmp_path: Path):
    with Postgres(tmp_path / "postgres") as server:
        with (
            database(f"{server.url}?sslmode=require") as pool,
            pytest.raises(peewee.OperationalError, match="SSL"),
        ):
            pool.execute_sql("SELECT 1")

        give_certificate(server)
        for mode, encrypted in (("require", True), ("disable", False)):
            with database(f"{server.url}?sslmode={mode}") as pool:
                rows = pool.execute_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                assert rows.fetchone() == (encrypted,)


def give_certificate(server: Postgres) -> None:
    data = server.folder / "data"
    certificate, key = str(data / "server.crt"), str(data / "server.key")
    make = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=db"]
    make += ["-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True)
    for path in (certificate, key):
        os.chmod(path, 0o600)
        if server.user:
            shutil.chown(path, **server.user)
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET ssl = on")
        admin.execute("SELECT pg_reload_conf()")
    wait_until(lambda: has_ssl(server), 10, "the server speaks TLS")


def has_ssl(server: Postgres) -> bool:
    with psycopg.connect(server.url) as admin:
        return admin.execute("SHOW ssl").fetchone() == ("on",)


def test_a_connection_that_the_server_closed_is_not_used(postgres: Postgres):
    with database(postgres.url) as pool:
        with pool.connection_context():
            pid = pool.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            wait_until(lambda: pid not in backends(postgres), 10, "it is closed")
        time.sleep(FRESH_SECONDS)
        with pool.connection_context():
            assert pool.execute_sql("SELECT pg_backend_pid()").fetchone()[0] != pid


def test_rows_that_are_read_bit_by_bit_outlast_those_that_are_read_at_once(postgres: Postgres):
    """A connection keeps a cursor for the latter, and its last rows with it."""
    with database(postgres.url) as pool, pool.connection_context():
        with pytest.raises(peewee.DatabaseError):
            pool.fetch_all("SELECT 1 / %s", (0,))
        found = pool.execute_sql("SELECT * FROM generate_series(1, 3)")
        assert found.fetchone() == (1,)
        assert pool.fetch_all("SELECT %s", (4,)) == [(4,)]
        assert found.fetchall() == [(2,), (3,)]


def test_only_rows_of_a_prepared_statement_are_kept_by_a_connection(postgres: Postgres):
    def some() -> peewee.Select:
        return peewee.Select(columns=[peewee.SQL("generate_series(1, 3)")])

    with database(postgres.url) as pool, pool.connection_context():
        db.initialize(pool)
        assert len(db.execute_sql("SELECT generate_series(1, 3)").fetchall()) == 3
        assert pool.connection().kept_cursor is None
        assert len(Prepared(some, values=0).rows()) == 3
        assert pool.connection().kept_cursor.rowcount == 3


def test_a_server_without_room_for_another_connection_is_not_away(postgres: Postgres):
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 3")

    def ask(pool: PostgresDatabase) -> int:
        with pool.connection_context():
            return pool.execute_sql("SELECT 1 FROM pg_sleep(0.1)").fetchone()[0]

    with (
        database(postgres.url.replace("postgres@", "few@")) as pool,
        ThreadPoolExecutor(8) as threads,
    ):
        for _ in range(2):
            assert list(threads.map(ask, [pool] * 8)) == [1] * 8
        assert not pool.breaker.is_open


def test_a_statement_may_take_as_long_as_the_url_says(postgres: Postgres):
    url = f"{postgres.url}?options=-c%20statement_timeout%3D10s"
    with database(url) as pool, pool.connection_context():
        slept = pool.execute_sql(f"SELECT 1 FROM pg_sleep({READ_SECONDS + 0.5})")
        assert slept.fetchone() == (1,)


def test_a_server_that_has_become_read_only_is_an_outage(postgres: Postgres):
    url = f"{postgres.url}?options=-c%20default_transaction_read_only%3Don"
    with database(url) as pool, pool.connection_context():
        with pytest.raises(peewee.InternalError) as refusal:
            pool.execute_sql("DELETE FROM users")
        assert is_outage(refusal.value)


def test_three_releases_at_once_migrate_once(tmp_path: Path):
    with (
        Postgres(tmp_path / "postgres") as server,
        ThreadPoolExecutor(3) as threads,
        psycopg.connect(server.url, autocommit=True) as first,
    ):
        first.execute("SELECT pg_advisory_lock(%s)", (migration_lock.ADVISORY_LOCK,))
        upgrades = [
            threads.submit(flask, "db", "upgrade", DATABASE_URL=server.url) for _ in range(3)
        ]
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        waiting += " AND pid <> pg_backend_pid()"
        wait_until(lambda: first.execute(waiting).fetchone() == (3,), 60, "all three wait")
        first.execute("SELECT pg_advisory_unlock_all()")
        lines = [line for each in upgrades for line in each.result().stdout.splitlines()]
        names = [path.stem for path in migrate.DIRECTORY.glob("0*.py")]

        assert sorted(lines) == sorted([f"applied {name}" for name in names] + ["up to date"] * 3)


@pytest.fixture
def half_migrated(tmp_path: Path) -> Iterator[Postgres]:
    """A server with the first migration alone: the second takes a lock on `users`."""
    with Postgres(tmp_path / "postgres") as server:
        with database(server.url) as pool:
            migrate.upgrade(pool)
            migrate.downgrade(pool, "0002_create_sessions")
        yield server


def test_a_migration_keeps_nobody_from_a_table_longer_than_an_instant(half_migrated: Postgres):
    with (
        database(half_migrated.url) as pool,
        psycopg.connect(half_migrated.url) as user,
        psycopg.connect(
            half_migrated.url, autocommit=True, options="-c statement_timeout=5s"
        ) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        user.execute("UPDATE users SET bio = 'busy'")
        upgrade = threads.submit(migrate.upgrade, pool)
        waits, ends_at = [], time.monotonic() + 3
        while time.monotonic() < ends_at:
            began = time.monotonic()
            other.execute("UPDATE users SET bio = 'other'")
            waits.append(time.monotonic() - began)
        assert not upgrade.done()
        user.commit()

        assert upgrade.result(30)[0] == "0002_create_sessions"
        assert migrate.pending(pool) == []
        # One that waits for the lock 200 ms at a time is seen, one that waits 2 s is too long.
        assert max(waits) < 1.8


def test_a_migration_that_finds_its_table_in_use_gives_up_with_nothing_half_done(
    half_migrated: Postgres,
):
    with database(half_migrated.url) as pool, psycopg.connect(half_migrated.url) as user:
        before = migrate.pending(pool)
        user.execute("UPDATE users SET bio = 'busy'")

        with pytest.raises(migrate.TableInUse, match="0002_create_sessions"):
            migrate.upgrade(pool, patience_seconds=0.1)

        assert migrate.pending(pool) == before
        assert "sessions" not in pool.get_tables()
        user.commit()
        assert migrate.upgrade(pool) == before


def test_an_index_that_was_left_half_made_is_made_anew(tmp_path: Path):
    with (
        Postgres(tmp_path / "postgres") as server,
        database(server.url) as pool,
        psycopg.connect(server.url) as reader,
        psycopg.connect(server.url, autocommit=True, options="-c statement_timeout=5s") as other,
        ThreadPoolExecutor(1) as threads,
    ):
        migrate.upgrade(pool)
        migrate.downgrade(pool, "0006_name_and_sort_chats")
        # Who reads for long, and anywhere, has Postgres wait with an index made beside others.
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM users")
        upgrade = threads.submit(migrate.upgrade, pool)
        waits, ends_at = [], time.monotonic() + 3
        while time.monotonic() < ends_at:
            began = time.monotonic()
            other.execute("DELETE FROM chats")
            waits.append(time.monotonic() - began)
        assert not upgrade.done()
        reader.commit()

        assert "0006_name_and_sort_chats" in upgrade.result(30)
        index = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'chats_activity'::regclass"
        assert other.execute(index).fetchone() == (True,)
        assert max(waits) < 1.8


def test_an_index_that_was_not_renamed_yet_is_kept(half_migrated: Postgres):
    """It is the only one by then that keeps names apart."""
    name = "0024_index_users_by_prefix"
    with (
        database(half_migrated.url) as pool,
        psycopg.connect(half_migrated.url, autocommit=True) as other,
    ):
        migrate.upgrade(pool)
        of_names = "SELECT oid FROM pg_class WHERE relname = 'users_username'"
        [made] = other.execute(of_names).fetchall()
        other.execute("ALTER INDEX users_username RENAME TO users_username_new")
        other.execute("DELETE FROM schema_migration WHERE name = %s", (name,))

        assert migrate.upgrade(pool) == [name]
        assert other.execute(of_names).fetchall() == [made]
