"""Metrics of several workers: whichever answers, the sums are all of theirs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from runtime.config.settings import ROOT
from tests.ports import free_port
from tests.servers import PREFIX, Client, Service, wait_until

TOKEN = "a-token-for-prometheus"
FLASK = [sys.executable, "-m", "flask"]
HEALTH = {"method": "GET", "route": f"{PREFIX}/health", "status": "200"}


@contextmanager
def services(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services that end with the block, two workers each."""
    started = []

    def start(name: str = "service", **settings: str) -> Service:
        settings = {
            "METRICS_TOKEN": TOKEN,
            "WEB_CONCURRENCY": "2",
            "RATE_LIMITS": "off",
            **settings,
        }
        service = Service(tmp_path / name, settings)
        started.append(service)
        return wait_for_workers(service.start())

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    with services(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all who only look at what is added; its mail server is dead."""
    with services(tmp_path_factory.mktemp("metrics")) as start:
        yield start(SMTP_URL=f"smtp://127.0.0.1:{free_port()}")


def wait_for_workers(service: Service) -> Service:
    """Both are there, and each answers."""
    wait_until(lambda: len(service.workers()) == 2, 30, "two workers")
    for worker in service.workers():
        with alone(service, worker) as client:
            assert client.get("/health").status == 200
    return service


@contextmanager
def alone(service: Service, worker: int) -> Iterator[Client]:
    """Only this worker answers, the others being paused; a client with connections of its own."""
    others = [pid for pid in service.workers() if pid != worker]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield Client(service.port)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def scrape(port: int) -> dict[tuple, float]:
    """Every sample, by its name and the set of its labels, read as Prometheus reads it.

    Over a new connection, which any worker may take.
    """
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", f"http://127.0.0.1:{port}/metrics", headers=bearer)
    assert answer.status == 200, answer.data
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.data.decode())
        for sample in family.samples
    }


def figure(service: Service, name: str, **labels: str) -> float:
    return scrape(service.port).get((name, frozenset(labels.items())), 0)


def health_requests(service: Service) -> float:
    return figure(service, "http_requests_total", **HEALTH)


def folder(service: Service) -> Path:
    """Where the workers keep what they count, as their memory maps tell."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in service.pids())
    (found,) = set(re.findall(r"(/\S*/metrics-\w+)/", maps))
    return Path(found)


def end(service: Service, worker: int, how: signal.Signals = signal.SIGKILL) -> None:
    """End it, and wait until another stands in its place."""
    os.kill(worker, how)
    wait_until(lambda: worker not in service.workers(), 30, "the worker is gone")
    wait_for_workers(service)


def test_every_worker_answers_for_all(service):
    before = health_requests(service)

    for worker in service.workers():
        with alone(service, worker):
            for _ in range(25):  # each over a connection of its own
                assert Client(service.port).get("/health").status == 200

    for worker in service.workers():
        with alone(service, worker):
            assert health_requests(service) - before == 50
    assert {health_requests(service) - before for _ in range(20)} == {50}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_worker_has_counted_stays_when_it_ends(service, how: signal.Signals):
    before = scrape(service.port)

    for _ in range(2):
        end(service, service.workers()[0], how)
        after = scrape(service.port)
        fell = [key for key, value in before.items() if after.get(key, -1) < value]
        assert not fell
        before = after
    counted = health_requests(service)
    assert Client(service.port).get("/health").status == 200
    assert health_requests(service) == counted + 1


def test_workers_that_crash_leave_no_more_files_than_workers_that_live(service):
    for worker in service.workers():
        with alone(service, worker) as client:
            client.get("/health")
    files = set(folder(service).iterdir())

    for _ in range(4):
        end(service, service.workers()[0])
        for worker in service.workers():
            with alone(service, worker) as client:
                client.get("/health")
    assert set(folder(service).iterdir()) == files


def test_mail_that_waits_is_added_up_and_what_a_killed_worker_held_is_gone(service):
    first, second = service.workers()
    for worker, mails in ((first, 2), (second, 3)):
        with alone(service, worker) as client:
            for number in range(mails):
                name = f"person_{worker}_{number}"
                body = {"username": name, "email": f"{name}@example.org", "password": "a password"}
                assert client.post("/auth/verifications", body).status == 202

    for worker in (first, second):
        with alone(service, worker):
            assert figure(service, "mail_queue") == 5
    end(service, first)
    assert {figure(service, "mail_queue") for _ in range(10)} == {3}
    end(service, second)
    assert {figure(service, "mail_queue") for _ in range(10)} == {0}
    assert figure(service, "codes_sent_total") == 5
    assert figure(service, "mail_failures_total") > 0


def test_requests_refused_before_the_application_are_counted(service):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", service.port), 10) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 400")

    assert figure(service, "http_requests_refused_total", status="400") == 3


def test_a_restart_counts_from_zero_and_a_stop_leaves_no_files(start):
    service = start()
    for _ in range(100):
        service.client.get("/health")
    assert health_requests(service) >= 100
    files = folder(service)
    service.stop()
    assert not files.exists()

    service.start()
    assert health_requests(service) < 100


def test_files_that_are_cleared_away_break_no_answer(start):
    service = start()
    shutil.rmtree(folder(service))

    for worker in service.workers():
        end(service, worker)
    assert health_requests(service) > 0


def assert_each_worker_counts_for_itself(service: Service) -> None:
    """And the log says so, once."""
    (said,) = service.events("metrics_not_shared")
    assert said["level"] == "warning"
    for requests, worker in enumerate(service.workers(), 2):
        with alone(service, worker) as client:
            before = health_requests(service)
            for _ in range(requests):
                assert client.get("/health").status == 200
            assert health_requests(service) - before == requests


class Cramped(Service):
    """With an INSTANCE_PATH of its own, of as many bytes as are given."""

    def __init__(self, folder: Path, size: str, **settings: str):
        super().__init__(folder, {"METRICS_TOKEN": TOKEN, "WEB_CONCURRENCY": "2", **settings})
        instance = folder / "instance"
        instance.mkdir()
        # Outside, so that there is room for it.
        self.settings["DATABASE_URL"] = f"sqlite:///{folder}/runtime.sqlite3"
        self.settings["SECRET_KEY"] = "x" * 32
        self.mount = f"mount -t tmpfs -o size={size} tmpfs {instance}"
        if subprocess.run(["unshare", "--mount", "sh", "-c", self.mount]).returncode:
            assert not os.environ.get("CI"), "CI must be allowed to mount small disks"
            pytest.skip("small disks cannot be mounted here")

    def command(self) -> list[str]:
        inside = f'{self.mount} && {sys.executable} -m flask db upgrade && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", inside, "sh", *super().command()]


@contextmanager
def cramped(folder: Path, size: str, **settings: str) -> Iterator[Service]:
    with Cramped(folder, size, **settings) as service:
        yield wait_for_workers(service)


def test_with_no_room_each_worker_counts_for_itself(tmp_path):
    with cramped(tmp_path, "64k", TMPDIR=str(tmp_path / "instance")) as service:
        assert_each_worker_counts_for_itself(service)
        instance = Path(f"/proc/{service.process.pid}/root{tmp_path}/instance")
        assert not [*instance.glob("metrics-*"), *instance.glob("runtime-*")]


def test_the_room_that_workers_count_in_is_theirs_from_the_start(tmp_path):
    """Whatever else fills the disk later, no worker meets a page that is not there."""
    with cramped(tmp_path, "4m") as service:
        files = Path(f"/proc/{service.process.pid}/root{folder(service)}")
        with suppress(OSError), (files.parent / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        pids = service.pids()
        for worker in service.workers():
            with alone(service, worker) as client:
                for path in ("/health", "/infra/health", "/openapi.json", "/users/me", "/no"):
                    for method in ("GET", "PUT", "PATCH", "DELETE", "BREW"):
                        client.ask(method, path)
        end(service, service.workers()[0])
        end(service, service.workers()[0])
        assert health_requests(service) > 0
        assert service.process.pid == pids[0]
        assert not service.events("metrics_not_shared")
        assert "SIGBUS" not in service.log


def test_what_a_killed_service_left_is_gone_after_the_next_start(start):
    service = start()
    files = folder(service)
    for pid in service.pids():
        os.kill(pid, signal.SIGKILL)
    service.process.wait(10)
    assert files.exists()

    service.start()
    assert not files.exists()
    assert folder(service).exists()


def run(program: str, **environ: str) -> str:
    """What a Python program prints that runs by itself."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=os.environ | environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_where_nothing_can_be_written_workers_count_among_temporary_files(tmp_path):
    """As in a container whose disk is read-only."""
    program = """
    import os
    from runtime.gunicorn import metrics_folder
    assert metrics_folder.make("/proc/none-such", 1) is None
    print(os.environ[metrics_folder.VARIABLE])
    metrics_folder.delete()
    """
    found = Path(run(program, TMPDIR=str(tmp_path)).strip())

    assert found.parent.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_all_routes_counted_fit_in_the_files_as_they_are_made(tmp_path):
    """A file that has to grow is given holes, and on a full disk those end the process."""
    program = f"""
    from runtime.gunicorn import metrics_folder
    assert metrics_folder.make({str(tmp_path)!r}, 1) is None
    from app import create_app
    from runtime import metrics
    metrics.count_at(0)
    app = create_app({{"INSTANCE_PATH": {str(tmp_path / "instance")!r}}})
    for rule in app.url_map.iter_rules():
        for method in rule.methods:
            for status in (200, 401, 404, 422, 429):
                metrics.count_request(method, rule.rule, status, 0.01)
    for kind, size in metrics_folder.FILE_BYTES.items():
        with open(f"{{metrics_folder._folder}}/{{kind}}_0.db", "rb") as file:
            print(int.from_bytes(file.read(4), "little"), size)
    metrics_folder.delete()
    """
    figures = [line.split() for line in run(program).splitlines() if line[:1].isdigit()]

    assert len(figures) == 3
    assert [used for used, size in figures if int(used) > int(size) * 0.8] == []


def test_another_programs_folder_is_left_alone(tmp_path):
    program = f"""
    from app import create_app
    create_app({{"INSTANCE_PATH": {str(tmp_path / "instance")!r}}})
    from runtime import metrics
    metrics.count_request("GET", "/x", 200, 0.01)
    """
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    run(program, PROMETHEUS_MULTIPROC_DIR=str(theirs))
    run(program, PROMETHEUS_MULTIPROC_DIR="/none-such")

    assert not list(theirs.iterdir())


def test_the_folder_is_its_owners_alone(service):
    assert folder(service).stat().st_mode & 0o777 == 0o700
    assert folder(service).parent.stat().st_mode & 0o777 == 0o700


def test_two_services_do_not_mix(start, tmp_path):
    """As in a rolling restart: the same settings, the same folder, another port."""
    old = start("old", INSTANCE_PATH=str(tmp_path / "instance"))
    for _ in range(100):
        old.client.get("/health")
    new = start("new", INSTANCE_PATH=str(tmp_path / "instance"))

    assert health_requests(new) < 100
    old.stop()
    assert health_requests(new) < 100


def test_each_worker_tells_administrators_the_sums(start):
    service = start(RATE_LIMITS="on")
    credentials = {"email": "ada@example.org", "password": "correct horse battery"}
    subprocess.run(
        [*FLASK, "users", "create", "ada@example.org", "ada", "--admin", "--password-stdin"],
        input=credentials["password"],
        cwd=ROOT,
        env=service.environ(),
        check=True,
        text=True,
    )
    token = service.client.post("/auth/sessions", credentials).json["access_token"]
    wrong = {**credentials, "email": "nobody@example.org"}
    one, _other = service.workers()
    with alone(service, one) as client:
        asked = [client.post("/auth/sessions", wrong).status for _ in range(12)]
    assert asked == [401] * 10 + [429] * 2

    for worker in service.workers():
        with alone(service, worker) as client:
            assert client.get("/admin/limits", token).json == {
                "scope": "machine",
                "limits": [{"limit": "sign-ins-pair", "refusals": 2}],
            }
            assert client.get("/admin/health", token).json["workers"] == 2


def test_without_a_token_there_are_no_files(start):
    service = start(METRICS_TOKEN="")

    assert "/metrics-" not in Path(f"/proc/{service.process.pid}/maps").read_text()
    answer = urllib3.request("GET", f"http://127.0.0.1:{service.port}/metrics")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
