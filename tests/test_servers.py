"""The servers that tests start: each gets a port, whatever else runs on this machine."""

import socket
import sys
from pathlib import Path
from threading import Timer

import psycopg
import pytest

from tests.ports import EPHEMERAL, free_port, nobody_listening
from tests.servers import Postgres, Server, Service
from tests.smtp_server import SMTPServer


class Files(Server):
    """A server that takes a moment to start: Python's own, of an empty folder."""

    def command(self) -> list[str]:
        (self.folder / "empty").mkdir(exist_ok=True)
        where = ["--directory", str(self.folder / "empty"), "--bind", "127.0.0.1"]
        return [sys.executable, "-m", "http.server", *where, str(self.port)]


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="the system does not say which ports it gives")
def test_no_server_gets_a_port_that_the_kernel_gives_to_clients():
    first, last = map(int, EPHEMERAL.read_text().split())

    assert not [port for port in (free_port() for _ in range(200)) if first <= port <= last]


def test_a_server_whose_port_is_taken_gets_another(tmp_path: Path):
    server = Files(tmp_path)
    taken = server.port
    with socket.create_server(("127.0.0.1", taken)), server:
        assert server.port != taken


def test_so_does_one_that_goes_on_trying(tmp_path: Path):
    """gunicorn waits for its port; and what answers there meanwhile is not the service."""
    service = Service(tmp_path / "service", {})
    other = Files(tmp_path / "other")
    other.move(service.port)
    with other, service:
        assert service.port != other.port
        assert service.client.get("/health").json == {"status": "ok"}


def test_a_server_that_comes_back_waits_for_its_port(tmp_path: Path):
    with Files(tmp_path) as server:
        port = server.port
        server.stop()
        taken = socket.create_server(("127.0.0.1", port))
        Timer(0.5, taken.close).start()
        server.start()

        assert server.port == port


def test_a_mail_server_that_was_dead_is_back_on_its_port():
    server = SMTPServer()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        server.start()
        socket.create_connection(("127.0.0.1", server.port)).close()
        server.stop()


def test_another_pytest_does_not_shut_postgres_out(tmp_path: Path):
    """When one starts, it lets nobody but its owner into the folder that all of them share."""
    shared = tmp_path / "shared"
    with Postgres(shared / "postgres") as server, psycopg.connect(server.url) as client:
        shared.mkdir(exist_ok=True)
        shared.chmod(0o700)
        client.execute("CHECKPOINT")
        with psycopg.connect(server.url) as another:
            assert another.execute("SELECT 1").fetchone() == (1,)


def test_a_port_without_a_listener_refuses():
    with nobody_listening() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
