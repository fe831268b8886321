"""What goes wrong, as the client sees it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee
import psycopg
import pytest
from flask import Flask, abort
from werkzeug.exceptions import HTTPException, default_exceptions

from runtime import errors, i18n
from runtime.api import route_document
from runtime.config.settings import ROOT
from runtime.database.base import db
from runtime.errors import Failure, Overloaded, TooManyRequests, Unavailable
from tests.conftest import PASSWORD, Log, Person
from tests.ports import nobody_listening

asks_at_a_broken_route = pytest.mark.in_process("asks at a route that is not the service's")

MEMBERS = {"type", "title", "status", "code", "detail", "instance"}


def failures(kind: type[Failure] = Failure) -> list[type[Failure]]:
    children = kind.__subclasses__()
    return children + [grandchild for child in children for grandchild in failures(child)]


@pytest.fixture
def broken(app: Flask) -> Callable[[Callable], Person]:
    """Somebody who asks at a route that does what they are told it does."""

    def make(view: Callable) -> Person:
        app.add_url_rule("/api/v1/broken", view_func=view, methods=["GET", "POST"])
        return Person(app.test_client())

    return make


def raises(error: Exception) -> Callable:
    def view():
        raise error

    return view


def test_an_error_has_the_six_members_and_no_other(stranger: Person):
    answer = stranger.get("/users/me?token=123456")

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "code": "not_authenticated",
        "detail": "未认证",
        "instance": "/api/v1/users/me",
    }


@pytest.mark.parametrize("failure", failures(), ids=lambda failure: failure.__name__)
def test_every_failure_has_a_status_and_a_sentence_in_both_languages(failure: type[Failure]):
    assert 400 <= failure.status < 600
    chinese, english = (i18n.sentence(failure.code, language) for language in ("zh", "en"))
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert english.isascii()


def test_every_failure_stands_on_the_one_page():
    assert set(errors.FAILURES) == set(failures())
    assert {failure.__module__ for failure in errors.FAILURES} == {errors.__name__}


@pytest.mark.parametrize(
    "accepted, language",
    [
        (None, "zh"),
        ("", "zh"),
        ("en", "en"),
        ("EN", "en"),
        ("en-US,en;q=0.9", "en"),
        ("en-GB, zh;q=0.5", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hant-TW", "zh"),
        ("fr", "zh"),
        ("fr, en;q=0.3", "en"),
        ("*", "zh"),
        ("en;q=0", "zh"),
        pytest.param(
            ";;q=,=\x7f\xff",
            "zh",
            marks=pytest.mark.in_process("gunicorn refuses a control character in a header"),
        ),
        (";;q=,=\xff", "zh"),
        ("en;q=nan", "zh"),
        ("x" * 5000, "zh"),
    ],
)
def test_the_detail_is_chinese_unless_english_is_preferred(
    stranger: Person, accepted: str | None, language: str
):
    stranger.language = accepted

    answer = stranger.post("/auth/sessions", {"email": "nobody"})

    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]
    assert answer.json["detail"] == i18n.sentence("invalid_parameters", language)
    assert answer.json["errors"] == [
        {
            "pointer": "#/email",
            "code": "not_an_email",
            "detail": i18n.sentence("not_an_email", language),
        },
        {
            "pointer": "#/password",
            "code": "required",
            "detail": i18n.sentence("required", language),
        },
    ]


def test_every_code_is_snake_case_and_listed_in_the_route_document():
    listed = route_document.codes_in("zh")
    codes = [code for code, _status, _sentence in listed]

    assert all(re.fullmatch("[a-z][a-z_]*", code) for code in codes)
    assert {failure.code for failure in failures()} <= set(codes)
    document = (ROOT / "runtime" / "ROUTES.md").read_text()
    for code, status, sentence in listed:
        assert f"| `{code}` | {status} | {sentence} |" in document


def test_no_code_is_ever_renamed():
    """Clients tell failures apart by these. Add to the list; take nothing out."""
    published = {
        *("bad_request", "not_authenticated", "invalid_access_token", "invalid_code"),
        *("invalid_refresh_token", "wrong_credentials", "forbidden", "chat_not_found"),
        *("run_not_found", "session_not_found", "user_not_found", "not_found"),
        *("method_not_allowed", "not_acceptable", "request_timeout", "chat_busy"),
        *("content_too_large", "uri_too_long", "expectation_failed", "common_password"),
        *("idempotency_key_reused", "invalid_parameters", "nothing_new", "own_name_as_password"),
        *("username_taken", "username_taken_meanwhile", "wrong_password", "overloaded"),
        *("out_of_tokens", "too_many_requests", "header_fields_too_large", "server_error"),
        *("not_implemented", "unavailable", "day_full", "too_many_chats", "run_replaced"),
        *("recent_sign_in_needed", "administrator_protected"),
    }
    assert published <= {code for code, _status, _sentence in route_document.codes_in("zh")}


@pytest.mark.parametrize(
    "seconds, chinese, english",
    [
        (0, "1 秒", "1 second"),
        (1.2, "2 秒", "2 seconds"),
        (59, "59 秒", "59 seconds"),
        (59.1, "1 分钟", "1 minute"),
        (61, "2 分钟", "2 minutes"),
        (3540, "59 分钟", "59 minutes"),
        (3541, "1 小时", "1 hour"),
        (5400, "2 小时", "2 hours"),
        (86400, "24 小时", "24 hours"),
    ],
)
@asks_at_a_broken_route
def test_a_429_says_how_long_to_wait(broken, seconds: float, chinese: str, english: str):
    person = broken(raises(TooManyRequests(seconds)))

    assert person.get("/broken").json["detail"] == f"请求过于频繁，请 {chinese}后再试"
    person.language = "en"
    answer = person.get("/broken")
    assert answer.json["detail"] == f"Too many requests. Please try again in {english}."
    assert int(answer.headers["Retry-After"]) >= seconds


@pytest.mark.parametrize(
    "failure", [TooManyRequests, *failures(TooManyRequests)], ids=lambda failure: failure.__name__
)
@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_limit_says_how_long_to_wait(failure: type[TooManyRequests], language: str):
    wait = i18n.duration(7200, language)

    assert wait in i18n.told(failure(7200), language)


def test_an_unknown_address_is_404(stranger: Person):
    answer = stranger.get("/no/such/thing?secret=1")

    assert (answer.status_code, answer.json["title"]) == (404, "Not Found")
    assert answer.json["instance"] == "/api/v1/no/such/thing"
    assert answer.json["detail"] == "请求的地址不存在"


def test_the_instance_is_a_uri_reference_whatever_the_path(stranger: Person):
    answer = stranger.get('/用户/"%0a%ff')

    assert answer.json["instance"] == "/api/v1/%E7%94%A8%E6%88%B7/%22%0A%EF%BF%BD"


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("PUT", "/auth/sessions", {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}),
        ("PUT", "/users/me", {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}),
        ("TRACE", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/users/ada", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_and_told_the_right_ones(
    stranger: Person, method: str, path: str, allowed: set[str]
):
    answer = stranger.request(method, path)

    assert (answer.status_code, answer.json["title"]) == (405, "Method Not Allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_a_body_above_sixteen_kibibytes_is_413(stranger: Person):
    body = b'{"refresh_token": "%s"}' % (b"x" * (16 * 1024))

    answer = stranger.request(
        "DELETE", "/auth/sessions", data=body, content_type="application/json"
    )

    assert answer.status_code == 413
    assert set(answer.json) == MEMBERS


def test_a_body_of_exactly_sixteen_kibibytes_is_read(stranger: Person):
    frame = b'{"refresh_token": ""}'
    body = frame.replace(b'""', b'"%s"' % (b"x" * (16 * 1024 - len(frame))))

    answer = stranger.request(
        "DELETE", "/auth/sessions", data=body, content_type="application/json"
    )

    assert (len(body), answer.status_code) == (16 * 1024, 204)


@asks_at_a_broken_route
def test_an_unhandled_exception_is_500_with_nothing_internal_in_it(broken, log: Log):
    answer = broken(raises(ZeroDivisionError("in /srv/secret.py"))).get("/broken")

    assert answer.status_code == 500
    assert answer.json == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "code": "server_error",
        "detail": "服务器内部错误，请稍后再试",
        "instance": "/api/v1/broken",
    }
    assert "ZeroDivisionError" in log.text
    assert answer.headers["X-Request-ID"] in log.text


@asks_at_a_broken_route
@pytest.mark.parametrize("setting", ["TESTING", "DEBUG", "TRAP_HTTP_EXCEPTIONS"])
def test_no_mode_of_flask_shows_an_exception(app: Flask, broken, setting: str):
    app.config[setting] = True

    answer = broken(raises(RuntimeError("internal"))).get("/broken")

    assert (answer.status_code, set(answer.json)) == (500, MEMBERS)
    assert "internal" not in answer.text


@asks_at_a_broken_route
@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_whatever_the_framework_raises_is_a_problem(broken, status: int):
    answer = broken(lambda: abort(status)).get("/broken")

    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert set(answer.json) == MEMBERS
    fallback = errors.REFUSALS[500 if status >= 500 else 400]
    refusal = errors.REFUSALS.get(status, fallback)
    assert answer.json["detail"] == i18n.told(refusal, "zh")
    assert answer.json["code"] == refusal.code


@asks_at_a_broken_route
def test_headers_that_the_framework_sets_stay(broken):
    class Teapot(HTTPException):
        code = 418

        def get_headers(self, *args, **kwargs):
            return [("Retry-After", "7"), ("Content-Type", "text/html")]

    answer = broken(raises(Teapot())).get("/broken")

    assert answer.headers["Retry-After"] == "7"
    assert answer.headers.getlist("Content-Type") == ["application/problem+json"]


@asks_at_a_broken_route
@pytest.mark.parametrize(
    "failure, status, seconds",
    [
        (TooManyRequests(1.2), 429, "2"),
        (TooManyRequests(0), 429, "1"),
        (Overloaded(3), 429, "3"),
        (Unavailable(), 503, "1"),
    ],
)
def test_who_shall_come_back_is_told_when(broken, failure: Failure, status: int, seconds: str):
    answer = broken(raises(failure)).get("/broken")

    assert (answer.status_code, answer.headers["Retry-After"]) == (status, seconds)


def test_who_presents_nothing_is_challenged_without_a_code(stranger: Person):
    assert stranger.get("/users/me").headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/verifications/verify", {"email": "ada@example.org", "token": "000000"}),
        (
            "/auth/recoveries/verify",
            {"email": "ada@example.org", "token": "000000", "password": "some other words"},
        ),
        ("/auth/sessions", {"email": "ada@example.org", "password": "some other words"}),
        ("/auth/email-restorations", {"token": "a.b"}),
    ],
)
def test_who_presents_a_code_or_a_password_is_told_of_no_token(stranger: Person, path, body):
    """Clients refresh theirs when they read of one, and repeat what was refused."""
    answer = stranger.post(path, body)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["nonsense", "", "a.b.c", "\xff", "x" * 4000])
def test_a_wrong_token_is_challenged_with_a_code(stranger: Person, token: str):
    answer = stranger.get("/users/me", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("header", ["garbage", "Basic YTpi", "Basic %%%", "Bearer", "Digest x=1"])
def test_another_scheme_is_no_token(stranger: Person, header: str):
    answer = stranger.get("/users/me", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_who_may_not_is_told_so(alice: Person, bob: Person):
    answer = alice.get(f"/auth/users?email={bob.email}")

    assert (answer.status_code, answer.json["detail"]) == (403, "无权限访问")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


@pytest.mark.in_process("its database is a file")
def test_a_database_file_that_vanished_is_503_until_it_is_back(
    app: Flask, alice: Person, settings: dict
):
    file = Path(settings["INSTANCE_PATH"]) / "runtime.sqlite3"
    db.obj.close_all()
    hidden = file.rename(file.with_suffix(".hidden"))
    file.mkdir()

    answer = alice.get("/users/me")

    assert_unavailable(answer)
    file.rmdir()
    hidden.rename(file)
    assert alice.get("/users/me").status_code == 200


def test_a_database_server_that_is_not_there_is_503(serve, settings: dict, log: Log):
    with nobody_listening() as port:
        settings["DATABASE_URL"] = f"postgres://ada:hunter2@127.0.0.1:{port}/runtime"
        client = serve(settings).test_client()
        body = {"email": "ada@example.org", "password": PASSWORD}

        assert_unavailable(client.post("/api/v1/auth/sessions", json=body))
        assert client.get("/api/v1/health").status_code == 200
        health = client.get("/api/v1/infra/health")

    assert (health.status_code, health.json["services"]["database"]["status"]) == (200, "unhealthy")
    assert "outage" in log.text
    assert "hunter2" not in log.text
    assert PASSWORD not in log.text


def test_a_database_that_somebody_keeps_locked_is_503(app: Flask, alice: Person):
    with locked_for_writing(app):
        assert_unavailable(alice.patch("/users/me", {"bio": "words"}))
        assert alice.get("/users/me").json["bio"] is None

    assert alice.patch("/users/me", {"bio": "words"}).status_code == 200


@contextmanager
def locked_for_writing(app: Flask) -> Iterator[None]:
    """Somebody else holds the lock that a change of a profile needs."""
    url = app.config["DATABASE_URL"]
    if url.startswith("sqlite:"):
        with app.app_context():
            db.pragma("busy_timeout", 50, permanent=True)
        # By the library that the service uses: two in one process do not see each other's locks.
        locked = peewee.sqlite3.connect(db.obj.database, isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
    else:
        locked = psycopg.connect(url)
        locked.execute("LOCK TABLE users IN SHARE MODE")
    yield
    locked.rollback()
    locked.close()


def assert_unavailable(answer) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(answer.json) == MEMBERS
    assert answer.json["detail"] == "服务暂时不可用，请稍后再试"


def test_a_failure_on_purpose_is_not_logged_as_an_error(alice: Person, bob: Person, log: Log):
    alice.get(f"/auth/users?email={bob.email}")

    assert log.events()
    assert all(line["level"] == "info" for line in log.events())
