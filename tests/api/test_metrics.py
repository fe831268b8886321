"""/metrics: who may see it, what moves which figure, and that there are few of them."""

import secrets
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from runtime import clock
from runtime.mail.letters import Letter
from runtime.mail.queue import Mail
from runtime.models.security_events import SecurityEvent
from runtime.security.passwords import Passwords
from runtime.services import purge
from tests.agent.completions_server import CompletionsServer, Reply
from tests.conftest import PASSWORD, PREFIX, Outbox, Person
from tests.servers import wait_until
from tests.smtp_server import SMTPServer

TOKEN = "a-token-for-prometheus"

Figures = Callable[..., float]


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    return settings | {"METRICS_TOKEN": TOKEN}


def scrape(app: Flask) -> dict[tuple, float]:
    """Every sample, by its name and the set of its labels, read as Prometheus reads it."""
    answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture
def figure(app: Flask) -> Figures:
    """What a metric grew by in the test: `figure("sign_ins_total", outcome="failed")`."""
    before = scrape(app)

    def figure(name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return scrape(app).get(key, 0) - before.get(key, 0)

    return figure


def test_metrics_are_shown_to_whoever_has_the_token(app: Flask):
    answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"http_requests", "mail_queue", "database_pool_wait_seconds"} <= names


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
def test_nobody_else_sees_metrics(app: Flask, authorization: str | None):
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = app.test_client().get("/metrics", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["instance"] == "/metrics"


def test_an_access_token_opens_no_metrics(app: Flask, admin: Person):
    bearer = f"Bearer {admin.tokens['access_token']}"
    assert app.test_client().get("/metrics", headers={"Authorization": bearer}).status_code == 401


def test_without_a_metrics_token_the_path_is_as_unknown_as_any(settings, request):
    del settings["METRICS_TOKEN"]
    client = request.getfixturevalue("app").test_client()

    bearer = {"Authorization": f"Bearer {TOKEN}"}
    metrics, unknown = (client.get(path, headers=bearer) for path in ("/metrics", "/nothing"))
    assert metrics.status_code == unknown.status_code == 404
    assert metrics.json == unknown.json | {"instance": "/metrics"}


def test_requests_are_counted_by_route_and_status(figure: Figures, alice: Person):
    for username in ("alice", "alice", "nobody_at_all"):
        alice.get(f"/users/{username}")

    route = {"route": f"{PREFIX}/users/<username>"}
    assert figure("http_requests_total", method="GET", status="200", **route) == 2
    assert figure("http_requests_total", method="GET", status="404", **route) == 1
    assert figure("http_request_duration_seconds_count", **route) == 3
    assert 0 < figure("http_request_duration_seconds_sum", **route) < 60


def test_a_thousand_paths_and_methods_add_next_to_nothing(app: Flask, stranger: Person):
    stranger.client.get("/nothing")
    stranger.client.open("/nothing", method="BREW")
    before = scrape(app)
    for _ in range(1000):
        stranger.client.get(f"/{secrets.token_hex(8)}")
        stranger.client.open("/nothing", method=secrets.token_hex(4).upper())

    after = scrape(app)
    new = {labels for name, labels in set(after) - set(before) if "/metrics" not in str(labels)}
    assert not new
    labels = {("method", "GET"), ("route", "none"), ("status", "404")}
    key = "http_requests_total", frozenset(labels)
    assert after[key] - before[key] == 1000


def test_no_figure_names_a_person(app: Flask, alice: Person, stranger: Person, outbox: Outbox):
    stranger.post("/auth/sessions", {"email": alice.email, "password": "wrong password"})
    alice.get("/users/alice")
    alice.chat("Who am I?")

    labels = {value for _, pairs in scrape(app) for _, value in pairs}
    for secret in ("alice", alice.id, alice.network, stranger.network, "example.org"):
        assert not [value for value in labels if secret in value]


def test_sign_ins_are_counted_by_outcome(figure: Figures, alice: Person, stranger: Person):
    def sign_in(password):
        body = {"email": alice.email, "password": password}
        return stranger.post("/auth/sessions", body).status_code

    assert sign_in(PASSWORD) == 200
    assert [sign_in("wrong password") for _ in range(11)] == [401] * 10 + [429]

    assert figure("sign_ins_total", outcome="succeeded") == 1
    assert figure("sign_ins_total", outcome="wrong_credentials") == 10
    assert figure("sign_ins_total", outcome="too_many_requests") == 1
    assert figure("limits_reached_total", limit="sign-ins-pair") == 1
    assert figure("password_hash_wait_seconds_count") == 11
    assert figure("database_pool_wait_seconds_count") >= 11


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_passwords_that_find_no_place_are_counted(figure: Figures, app: Flask, alice: Person):
    passwords = app.extensions["passwords"] = Passwords(1, queue=0)
    body = {"email": alice.email, "password": PASSWORD}
    holds, may_end = threading.Event(), threading.Event()
    hold = (alice.network, lambda: (holds.set(), may_end.wait(30)))
    busy = threading.Thread(target=passwords._run, args=hold)
    busy.start()
    holds.wait(30)

    assert alice.post("/auth/sessions", body).status_code == 429
    may_end.set()
    busy.join()
    assert figure("sign_ins_total", outcome="overloaded") == 1
    assert figure("limits_reached_total", limit="passwords") == 1


@pytest.mark.in_process("its passwords are busy because the test says so")
def test_the_time_a_password_waits_is_measured(figure: Figures, app, alice: Person, strong):
    app.extensions["passwords"] = Passwords(1)
    body = {"email": alice.email, "password": PASSWORD}
    threads = [threading.Thread(target=alice.post, args=("/auth/sessions", body)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert figure("password_hash_wait_seconds_count") == 2
    # The second waited for the first, which takes a tenth of a second on any machine.
    assert figure("password_hash_wait_seconds_bucket", le="0.05") <= 1
    assert figure("password_hash_wait_seconds_sum") > 0.05


def test_codes_are_counted_sent_refused_and_accepted(
    figure: Figures, stranger: Person, outbox: Outbox
):
    email = "ada@example.org"
    stranger.post("/auth/verifications", {"username": "ada", "email": email, "password": PASSWORD})
    code = outbox.code(email)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for token in (wrong, code):
        stranger.post("/auth/verifications/verify", {"email": email, "token": token})

    assert figure("codes_sent_total") == 1
    # The file is there before the thread that wrote it has counted it.
    wait_until(lambda: figure("mails_total", outcome="sent") == 1, 30, "the mail is counted")
    wait_until(lambda: figure("mail_queue") == 0, 30, "the queue is empty")
    assert figure("codes_checked_total", outcome="invalid_code") == 1
    assert figure("codes_checked_total", outcome="succeeded") == 1


def test_the_bound_on_wrong_codes_is_counted(figure: Figures, stranger: Person):
    body = {"email": "nobody@example.org", "token": "123456"}
    for _ in range(4):
        last = stranger.post("/auth/verifications/verify", body)

    assert last.status_code == 429
    assert figure("codes_checked_total", outcome="too_many_requests") == 1
    assert figure("limits_reached_total", limit="others-tries-network") == 1


def test_refreshes_are_counted_and_a_token_that_returns_apart(figure: Figures, bob: Person):
    first = bob.tokens["refresh_token"]
    second = bob.refresh(first).json["refresh_token"]
    third = bob.refresh(second).json["refresh_token"]
    bob.refresh("nonsense")
    assert figure("refresh_tokens_reused_total") == 0

    assert bob.refresh(first).status_code == 401
    assert bob.refresh(third).status_code == 401
    assert figure("sessions_refreshed_total", outcome="succeeded") == 2
    assert figure("sessions_refreshed_total", outcome="invalid_refresh_token") == 3
    assert figure("refresh_tokens_reused_total") == 1


def test_security_events_are_counted_by_type(
    alice: Person, ground, stranger: Person, figure: Figures
):
    for password in (PASSWORD, "wrong password"):
        body = {"email": alice.email, "password": password}
        stranger.post("/auth/sessions", body)
    stranger.post("/auth/sessions", {"email": "nobody@example.org", "password": PASSWORD})
    ground.settle()

    assert figure("security_events_total", type="signed_in") == 1
    assert figure("security_events_total", type="sign_in_refused") == 1


@pytest.mark.in_process("the service purges once an hour, and a test cannot wait")
def test_purged_rows_are_counted_by_table(figure: Figures, app: Flask, alice: Person):
    with app.app_context():
        SecurityEvent.update(created_at=clock.now() - timedelta(days=91)).execute()
        purge.purge()

    assert figure("purged_rows_total", table="security_events") == 1
    assert figure("purged_rows_total", table="sessions") == 0


def test_runs_and_their_tokens_are_counted(figure: Figures, alice: Person):
    assert alice.chat("What is 12 * (3 + 4)?").json["events"][-1]["type"] == "RUN_FINISHED"

    assert figure("runs_total", outcome="finished") == 1
    assert figure("run_tokens_total", kind="input") > 0
    assert figure("run_tokens_total", kind="output") > 0


def test_a_run_that_fails_is_counted_by_its_error(settings, request):
    with CompletionsServer(Reply(status=400)) as server:
        settings |= {"OPENAI_BASE_URL": server.url, "AGENT_MODEL": "test"}
        figure = request.getfixturevalue("figure")
        answer = request.getfixturevalue("alice").chat("Hello")

    assert answer.json["events"][-1]["type"] == "RUN_ERROR"
    assert figure("runs_total", outcome="provider_rejected") == 1
    assert figure("runs_total", outcome="finished") == 0


@pytest.mark.in_process("sends its mails from the test's own process")
def test_mails_are_counted_by_how_they_end(figure: Figures, tmp_path):
    server = SMTPServer().start()
    server.answers["later@example.org"].append("451 Later")
    server.answers["nobody@example.org"].append("550 No such user")
    mail = Mail(
        f"smtp://127.0.0.1:{server.port}",
        "Runtime <noreply@example.org>",
        tmp_path,
        first_delay_seconds=0.01,
    )
    letter = Letter("Subject", "Text", "<p>Text</p>")
    good, over = clock.now() + timedelta(minutes=10), clock.now() - timedelta(seconds=1)
    for to, until in (
        ("ada@example.org", good),
        ("later@example.org", good),
        ("nobody@example.org", good),
        ("late@example.org", over),
    ):
        mail.send(to, letter, until)
    assert mail.drain(30) == 0
    server.stop()
    no_room = Mail(None, "Runtime <noreply@example.org>", tmp_path, capacity=0)
    no_room.send("ada@example.org", letter, good)

    outcomes = ("sent", "refused", "expired", "dropped")
    assert [figure("mails_total", outcome=outcome) for outcome in outcomes] == [2, 1, 1, 1]
    assert figure("mail_failures_total") == 1
    assert figure("mail_queue") == 0


def test_metrics_are_shown_often_and_while_everything_else_is_away(settings, request):
    settings["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/none"
    settings["REDIS_URL"] = "redis://127.0.0.1:1"
    figure = request.getfixturevalue("figure")

    for _ in range(400):  # more than any limit
        assert figure("database_pool_wait_seconds_count") == 0
