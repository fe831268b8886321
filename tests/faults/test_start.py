"""Starts that must not happen, and what is said of them: one line that tells what to do."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runtime.config.settings import ROOT
from runtime.gunicorn.port import PORT_SECONDS
from tests.faults.conftest import SECRET_KEY, flask
from tests.ports import free_port, nobody_listening
from tests.servers import Postgres, Service, wait_until


def lines_of_a_start(folder: Path, **settings: str) -> tuple[int, list[str]]:
    """The status that gunicorn ends with, and what it writes besides its own log."""
    service = Service(folder, settings)
    environ = {**service.environ(), **settings}
    ended = subprocess.run(
        service.command(), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    lines = (ended.stdout + ended.stderr).splitlines()
    return ended.returncode, [line for line in lines if not line.startswith("[20")]


@pytest.fixture
def make_database(postgres: Postgres) -> Iterator[Callable[[str, str], str]]:
    """Makes a database with these options; the URL of it."""
    made = []

    def make(name: str, options: str) -> str:
        with psycopg.connect(postgres.url, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        made.append(name)
        return postgres.url.rpartition("/")[0] + f"/{name}"

    yield make
    with psycopg.connect(postgres.url, autocommit=True) as server:
        for name in made:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


UNFIT = {
    "latin1": ("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'", "LATIN1"),
    "no_encoding": ("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'", "SQL_ASCII"),
    "turkish": ("ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'", "locale"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_database_that_would_keep_names_or_words_wrong_is_refused(
    make_database: Callable, tmp_path: Path, name: str
):
    options, reason = UNFIT[name]
    url = make_database(name, options)
    status, lines = lines_of_a_start(tmp_path, DATABASE_URL=url, SECRET_KEY=SECRET_KEY)

    assert status != 0
    assert len(lines) == 1 and lines[0].startswith("DATABASE_URL ") and reason in lines[0]
    assert "ENCODING 'UTF8'" in lines[0]


@pytest.mark.parametrize("name", UNFIT)
def test_nor_is_it_migrated(make_database: Callable, name: str):
    url = make_database(name, UNFIT[name][0])
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        flask("db", "upgrade", DATABASE_URL=url)

    assert refusal.value.returncode == 1
    assert refusal.value.stderr.startswith("Error: DATABASE_URL names a database ")
    assert refusal.value.stderr.count("\n") == 1
    with psycopg.connect(url) as database:
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert database.execute(tables).fetchone() == (0,)


@pytest.mark.parametrize(
    "options",
    [
        "ENCODING 'UTF8' LOCALE 'C.UTF-8'",
        "ENCODING 'UTF8' LOCALE 'C'",
        "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'",
        "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'zh-CN' LOCALE 'C'",
    ],
)
def test_other_locales_are_taken(make_database: Callable, options: str):
    assert "up to date" in flask("db", "upgrade", DATABASE_URL=make_database("fit", options)).stdout


def test_a_database_that_is_not_migrated_stops_the_start_until_it_is(
    make_database: Callable, tmp_path: Path
):
    url = make_database("fresh", "")
    status, lines = lines_of_a_start(tmp_path, DATABASE_URL=url, SECRET_KEY=SECRET_KEY)

    assert status != 0
    assert lines == [
        "DATABASE_URL names a database that is not migrated (0001_create_users is pending):"
        " run flask db upgrade"
    ]
    flask("db", "upgrade", DATABASE_URL=url)
    with Service(tmp_path / "service", {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}) as service:
        assert (
            service.client.get("/infra/health").json["services"]["database"]["status"] == "healthy"
        )


def test_so_does_a_file_that_is_not_migrated(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/mine.sqlite3"
    status, lines = lines_of_a_start(tmp_path, DATABASE_URL=url, SECRET_KEY=SECRET_KEY)

    assert status != 0
    assert len(lines) == 1 and lines[0].endswith("run flask db upgrade")


def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path):
    (tmp_path / "mine.sqlite3").write_text("Dear diary, " * 100)
    url = f"sqlite:///{tmp_path}/mine.sqlite3"
    status, lines = lines_of_a_start(tmp_path, DATABASE_URL=url, SECRET_KEY=SECRET_KEY)

    assert status != 0
    assert len(lines) == 1 and lines[0].startswith("DATABASE_URL ")


@pytest.mark.parametrize("how", ["rubbish", "folder"])
def test_so_does_one_under_instance(tmp_path: Path, how: str):
    file = tmp_path / "instance" / "runtime.sqlite3"
    file.parent.mkdir()
    file.write_text("Dear diary, " * 100) if how == "rubbish" else file.mkdir()
    status, lines = lines_of_a_start(tmp_path)

    assert status != 0
    assert len(lines) == 1 and lines[0].startswith("INSTANCE_PATH ")


def test_a_database_that_is_away_stops_no_start(tmp_path: Path):
    with nobody_listening() as port:
        url = f"postgres://ada:S3cret@127.0.0.1:{port}/runtime"
        with Service(tmp_path, {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}) as service:
            assert service.client.get("/health").status == 200
            assert service.log.count("DATABASE_URL cannot be reached") == 1
            assert "S3cret" not in service.log


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path):
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        status, lines = lines_of_a_start(tmp_path, PORT=str(port))

    assert status != 0
    assert lines == [f"PORT {port} is taken by another program: stop that, or set PORT to another"]


def test_a_port_that_is_free_in_a_moment_is_waited_for(tmp_path: Path):
    service = Service(tmp_path, {})
    with socket.create_server(("127.0.0.1", service.port)) as taken:
        service.process = service.popen()
        with pytest.raises(subprocess.TimeoutExpired):
            service.process.wait(PORT_SECONDS / 3)
        taken.close()
        with service:
            wait_until(service.is_ready, 30, "it has the port")


def test_a_setting_that_is_misspelt_is_told_once(tmp_path: Path):
    with Service(tmp_path, {"OPENAI_APIKEY": "sk-S3cret", "WEB_CONCURRENCY": "2"}) as service:
        assert service.log.count("OPENAI_APIKEY is no setting: is OPENAI_API_KEY meant?") == 1
        assert "S3cret" not in service.log


def test_a_command_says_so_too_when_the_database_is_not_migrated(make_database: Callable):
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        flask("users", "list", DATABASE_URL=make_database("fresh", ""))

    assert refusal.value.stderr.count("\n") == 1
    assert "run flask db upgrade" in refusal.value.stderr
    assert sys.executable not in refusal.value.stderr
