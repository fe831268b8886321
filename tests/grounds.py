"""The two grounds that the same tests stand on.

`InProcess` makes the service in the tests' own process, on a SQLite file. `OverSockets` asks it
under gunicorn: two workers, on Postgres and Redis. Either way a test has a Flask application, and
what it asks of `app.test_client()` or of the models is answered by that service and its database.
"""

import gc
import json
import shutil
import string
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import redis
from flask import Flask
from flask.testing import FlaskClient
from pytest import CaptureFixture
from werkzeug.datastructures import EnvironHeaders
from werkzeug.test import run_wsgi_app

from app import create_app
from runtime.database import migrate
from runtime.database.base import db
from runtime.database.connections import connect
from runtime.models.tables import MODELS
from runtime.security import passwords
from tests.quick import QuickPasswords
from tests.servers import PgBouncer, Redis, Service, wait_until

SECRET_KEY = "a-key-for-tests-" * 3
MAIL_SECONDS = 10
TESTS_A_COLLECTION = 20


class InProcess:
    """Every test has an application and a database file of its own."""

    def __init__(self, folder: Path):
        # To copy: applying the migrations takes 50 ms.
        self._migrated = folder / "runtime.sqlite3"
        database = connect(f"sqlite:///{self._migrated}", 1)
        migrate.upgrade(database)
        database.close_all()
        self._apps: list[Flask] = []
        self._cleared = 0

    def settings(self, folder: Path) -> dict[str, str]:
        """The environment of a service in `folder`, its database empty."""
        instance = folder / "instance"
        instance.mkdir()
        file = shutil.copy(self._migrated, instance)
        return {
            "DATABASE_URL": f"sqlite:///{file}",
            "SECRET_KEY": SECRET_KEY,
            "INSTANCE_PATH": str(instance),
        }

    def serve(self, settings: dict[str, str]) -> Flask:
        """The service with these settings; the models follow the one served last."""
        app = create_app(settings)
        app.extensions["passwords"] = QuickPasswords()
        self._apps.append(app)
        return app

    @contextmanager
    def under_gunicorn(self, app: Flask, settings: dict[str, str], folder: Path) -> Iterator:
        """The same service, to be asked over raw sockets."""
        with Service(folder / "service", settings) as service:
            yield service

    def hold(self, instant: datetime | None) -> None:
        """Hold the service's clock, as the tests' own is already."""

    def strengthen(self, app: Flask) -> None:
        """Let passwords cost what they do in service, until the end of the test."""
        passwords.init_app(app)

    def settle(self) -> None:
        """Wait until nothing is to be recorded, and no mail to be sent."""
        for app in self._apps:
            app.extensions["refusals"].flush()
            app.extensions["mail"].drain(MAIL_SECONDS)

    def read_log(self, capfd: CaptureFixture) -> str:
        """What the service has logged since this was asked last."""
        return "".join(capfd.readouterr())

    def clear(self) -> None:
        """The end of a test."""
        for app in self._apps:
            app.extensions["agent"].journal.interrupt(10)
            database = app.extensions["db"]
            database.close()
            # Not those that a journal's thread is using: SQLite would crash.
            database.close_idle()
        self._apps.clear()
        self._cleared += 1
        # An application is a circle: by itself the collector lets hundreds come together.
        if self._cleared % TESTS_A_COLLECTION == 0:
            gc.collect()

    def close(self) -> None:
        """The end of all tests."""


@dataclass
class Served:
    """A running service, and an application beside it that tells the tests what it does."""

    app: Flask
    service: Service
    extensions: dict
    uses: int = 0

    def stop(self) -> None:
        self.service.stop()
        self.extensions["db"].close_all()


class OverSockets:
    """One database for all tests, emptied for each, as is a Redis; a service for each setting.

    The database is made on the server at `server_url`, and asked through PgBouncer if `is_pooled`;
    the Redis is one of its own. Raises psycopg.OperationalError when the server is not there.
    """

    # gunicorn takes a second to start, and each service holds some of Postgres' connections.
    SERVICES_AT_ONCE = 3

    # The clock that the tests hold, as Postgres has it. A function in pg_catalog is found first
    # unless the path says otherwise.
    CLOCK = """
        CREATE SCHEMA held;
        CREATE TABLE held.clock (instant timestamptz);
        INSERT INTO held.clock VALUES (NULL);
        CREATE FUNCTION held.now() RETURNS timestamptz STABLE LANGUAGE sql AS
            'SELECT coalesce((SELECT instant FROM held.clock), pg_catalog.now())';
    """
    PATH = "public, held, pg_catalog"

    def __init__(self, folder: Path, server_url: str, is_pooled: bool = False):
        self._folder = folder
        self._instance = folder / "instance"
        (self._instance / "sending").mkdir(parents=True)
        self._server_url = server_url
        self._name = f"test_{uuid4().hex}"
        self._url = urlsplit(server_url)._replace(path=f"/{self._name}").geturl()
        self._served: dict[frozenset, Served] = {}
        self._held: dict[str, str | bool | None] = {}
        self._log = (folder / "log").open("a+")
        with ExitStack() as started:
            self._redis_server = started.enter_context(Redis(folder / "redis"))
            self._make_database()
            self._service_url = self._url
            if is_pooled:
                pooler = started.enter_context(PgBouncer(folder / "pgbouncer", self._url))
                self._service_url = pooler.url
            self._servers = started.pop_all()
        self._redis = redis.Redis.from_url(self._redis_server.url)
        self._connection = psycopg.connect(self._url, autocommit=True)

    def _make_database(self) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {self._name}")
            server.execute(f"ALTER DATABASE {self._name} SET search_path = {self.PATH}")
        database = connect(self._url, 1)
        migrate.upgrade(database)
        database.close_all()
        with psycopg.connect(self._url) as connection:
            connection.execute(self.CLOCK)

    def settings(self, _folder: Path) -> dict[str, str]:
        """The environment of a service whose database, Redis and outbox are empty."""
        # A TRUNCATE would take 70 ms.
        tables = [model._meta.table_name for model in reversed(MODELS)]
        self._connection.execute(";".join(f"DELETE FROM {table}" for table in tables))
        self._redis.flushdb()
        for name in ("outbox", "sending"):
            shutil.rmtree(self._instance / name, ignore_errors=True)
        (self._instance / "sending").mkdir()
        self._hold(now=None, has_quick_passwords=True)
        return {
            "DATABASE_URL": self._service_url,
            "REDIS_URL": self._redis_server.url,
            "SECRET_KEY": SECRET_KEY,
            "INSTANCE_PATH": str(self._instance),
            "WEB_CONCURRENCY": "2",
        }

    def serve(self, settings: dict[str, str]) -> Flask:
        """The service with these settings; the models follow the one served last."""
        key = frozenset(settings.items())
        if key not in self._served:
            self._make_room()
            self._served[key] = self._start(settings)
        served = self._served[key]
        served.uses += 1
        db.initialize(served.extensions["db"])
        return served.app

    def _make_room(self) -> None:
        """Stop the service that was wanted least."""
        if len(self._served) == self.SERVICES_AT_ONCE:
            least = min(self._served, key=lambda key: self._served[key].uses)
            self._served.pop(least).stop()

    def _start(self, settings: dict[str, str]) -> Served:
        # Each request says who asks as a router would: one more proxy, and one to be believed.
        hops = int(settings.get("TRUSTED_PROXIES", "0")) + 1
        behind = {**settings, "TRUSTED_PROXIES": str(hops)}
        service = Service(self._folder, behind, application="tests.held:app").start()
        del service.client  # and its connection, which a stop would wait for
        workers = int(settings["WEB_CONCURRENCY"])
        wait_until(lambda: len(service.workers()) == workers, 10, f"there are {workers} workers")
        # This process may have as many connections to the database as one with one worker.
        app = create_app({**settings, "WEB_CONCURRENCY": "1"})
        app.extensions["passwords"] = QuickPasswords()
        app.test_client_class = partial(SocketClient, port=service.port)
        return Served(app, service, dict(app.extensions))

    @contextmanager
    def under_gunicorn(self, app: Flask, settings: dict[str, str], _folder: Path) -> Iterator:
        """The same service, to be asked over raw sockets."""
        yield next(each.service for each in self._served.values() if each.app is app)

    def hold(self, instant: datetime | None) -> None:
        """Hold the clock of the workers and of Postgres."""
        self._connection.execute("UPDATE held.clock SET instant = %s", (instant,))
        self._hold(now=instant and instant.isoformat())

    def strengthen(self, app: Flask) -> None:
        """Let passwords cost what they do in service, until the end of the test."""
        passwords.init_app(app)
        self._hold(has_quick_passwords=False)

    def _hold(self, **what) -> None:
        """Tell the workers, there whole or not at all."""
        self._held |= what
        draft = self._instance / "held.json.part"
        draft.write_text(json.dumps(self._held))
        draft.rename(self._instance / "held.json")

    def settle(self) -> None:
        """Wait until nothing is to be recorded, and no mail to be sent, here or by a worker."""
        for served in self._served.values():
            served.app.extensions["refusals"].flush()
            served.app.extensions["mail"].drain(MAIL_SECONDS)
        sending = self._instance / "sending"
        wait_until(lambda: not any(sending.iterdir()), MAIL_SECONDS, "all is recorded and sent")

    def read_log(self, _capfd: CaptureFixture) -> str:
        """What the services have logged since this was asked last."""
        return self._log.read()

    def clear(self) -> None:
        """The end of a test."""
        for served in self._served.values():
            served.app.extensions |= served.extensions
            served.app.extensions["db"].close_all()

    def close(self) -> None:
        """The end of all tests."""
        for served in self._served.values():
            served.stop()
        self._log.close()
        self._redis.close()
        self._connection.close()
        self._servers.close()
        with psycopg.connect(self._server_url, autocommit=True) as server:
            server.execute(f"DROP DATABASE {self._name} WITH (FORCE)")


class SocketClient(FlaskClient):
    """Sends over a socket what a test client would hand to the application."""

    def __init__(self, *arguments, port: int, **options):
        super().__init__(*arguments, **options)
        self._port = port

    def run_wsgi_app(self, environ: dict, buffered: bool = False):
        return run_wsgi_app(partial(forward, self._port), environ, buffered)


# What a server adds to an application's answer.
ADDED = {"Connection", "Date", "Server", "Transfer-Encoding"}


def forward(port: int, environ: dict, start_response) -> list[bytes]:
    """A WSGI application that passes requests on to a port of this machine, as a router does.

    Each goes over a connection of its own, so that any worker may get it.
    """
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        method = environ["REQUEST_METHOD"]
        connection.putrequest(method, _target(environ), skip_host=True, skip_accept_encoding=True)
        for name, value in _headers(environ).items():
            connection.putheader(name, value)
        with suppress(ConnectionError):  # it may have heard enough
            connection.endheaders(environ["wsgi.input"].read())
        answer = connection.getresponse()
        headers = [each for each in answer.getheaders() if each[0].title() not in ADDED]
        start_response(f"{answer.status} {answer.reason}", headers)
        return [answer.read()]


def _target(environ: dict) -> str:
    """The path as it was typed, and the query."""
    path = environ["RAW_URI"].partition("?")[0]
    query = environ["QUERY_STRING"]
    target = f"{path}?{query}" if query else path
    return quote(target.encode("latin-1"), safe=string.punctuation)


def _headers(environ: dict) -> dict[str, str]:
    headers = dict(EnvironHeaders(environ))
    said, caller = headers.get("X-Forwarded-For"), environ["REMOTE_ADDR"]
    headers["X-Forwarded-For"] = f"{said}, {caller}" if said else caller
    return {**headers, "Connection": "close"}
