"""/, /page/<name> and /page/outbox"""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from runtime.api.routes.page import FOLDER, TYPES
from runtime.config.load import load
from tests.conftest import Person

SIGN_UP = {"username": "ada", "email": "ada@example.org", "password": "correct horse"}
HERE = {"Host": "localhost:8000"}
here = pytest.mark.in_process("asks as this machine, which nobody is behind a proxy")


@pytest.fixture
def page_app(serve: Callable, settings: dict) -> Flask:
    return serve({**settings, "PAGE": "on"})


def get(app: Flask, path: str, network: str = "127.0.0.1", **options) -> TestResponse:
    where = {"REMOTE_ADDR": network, **options.pop("environ", {})}
    return app.test_client().get(path, buffered=True, environ_overrides=where, **options)


def is_unknown(answer: TestResponse) -> bool:
    """Whether an answer is what any path that is none gets."""
    return (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_the_page_is_html_under_a_strict_policy(page_app: Flask):
    answer = get(page_app, "/")

    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy and "https:" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_each_file_has_its_type_and_is_checked_for_changes(page_app: Flask):
    paths = {f"/page/{file.name}": TYPES[file.suffix] for file in FOLDER.iterdir()}
    assert "/page/index.html" in paths

    for path, kind in {"/": "text/html", **paths}.items():
        answer = get(page_app, path)
        assert (answer.status_code, answer.mimetype) == (200, kind), path
        assert answer.headers["Cache-Control"] == "no-cache"
        again = get(page_app, path, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304


@pytest.mark.parametrize(
    "name", ["none.js", "..%2fdocs%2fdocs.js", "../docs/docs.js", "%2e%2e/docs.css", "page", ".js"]
)
def test_nothing_else_is_a_file_of_the_page(page_app: Flask, name: str):
    assert is_unknown(get(page_app, f"/page/{name}"))


@pytest.mark.parametrize("path", ["/", "/page/index.html", "/page/outbox"])
def test_a_page_that_is_off_is_not_there(app: Flask, path: str):
    answer = get(app, path, headers=HERE)

    assert is_unknown(answer)
    assert answer.mimetype == "application/problem+json"


def test_no_other_path_leads_to_the_files(app: Flask):
    assert is_unknown(get(app, "/api/v1/docs/page/index.html"))
    assert is_unknown(get(app, "/api/v1/docs/../page/index.html"))


def test_the_page_is_on_until_something_is_configured():
    database = {"DATABASE_URL": "sqlite:///x", "SECRET_KEY": "k" * 32}

    assert load({})["PAGE"] is True
    assert load({"REDIS_URL": "redis://localhost", "APP_NAME": "Acme"})["PAGE"] is True
    assert load({"PAGE": "off"})["PAGE"] is False
    assert load(database)["PAGE"] is False
    assert load({"SMTP_URL": "smtp://localhost"})["PAGE"] is False
    assert load({**database, "PAGE": "on"})["PAGE"] is True


def test_the_page_is_no_part_of_the_document(page_app: Flask):
    paths = Person(page_app.test_client()).get("/openapi.json").json["paths"]

    assert paths
    assert [path for path in paths if not path.startswith("/api/v1/")] == []


@pytest.fixture
def written(page_app: Flask) -> Flask:
    person = Person(page_app.test_client(), language="en")
    for number in range(3):
        email = f"ada{number}@example.org"
        person.post("/auth/verifications", {**SIGN_UP, "email": email})
    page_app.extensions["mail"].drain(10)
    return page_app


@here
def test_the_newest_mails_come_first(written: Flask):
    answer = get(written, "/page/outbox", headers=HERE)

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    mails = answer.json["mails"]
    assert [mail["to"] for mail in mails] == [f"ada{n}@example.org" for n in (2, 1, 0)]
    for mail in mails:
        assert re.search(r"^Code: \d{6}", mail["text"], re.MULTILINE)
        assert "verification code" in mail["subject"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mail["at"])


@here
def test_there_are_twenty_at_most(page_app: Flask):
    outbox = page_app.extensions["mail"].outbox
    folder = outbox._folder
    folder.mkdir(exist_ok=True)
    for number in range(25):
        text = f"To: a@b.co\nSubject: {number}\nDate: Tue, 1 Dec 2026 10:00:00 +0000\n\nHi\n"
        (folder / f"20261201T100000.000000Z-{number:06}-a.eml").write_text(text)
    (folder / ".20261201T100000.000000Z-000030-a.part").write_text("")
    (folder / "a copy.eml").write_text("")

    mails = get(page_app, "/page/outbox", headers=HERE).json["mails"]

    assert [mail["subject"] for mail in mails] == [str(number) for number in range(24, 4, -1)]


@here
def test_an_outbox_that_is_not_there_yet_is_empty(page_app: Flask):
    assert get(page_app, "/page/outbox", headers=HERE).json == {"mails": []}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
@here
@pytest.mark.parametrize("network", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_reads_it(page_app: Flask, host: str, network: str):
    headers = {"Host": host, "Sec-Fetch-Site": "same-origin"}

    assert get(page_app, "/page/outbox", network, headers=headers).status_code == 200


@here
@pytest.mark.parametrize("network", ["192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "", "unix"])
def test_another_machine_does_not(page_app: Flask, network: str):
    assert is_unknown(get(page_app, "/page/outbox", network, headers=HERE))


@here
@pytest.mark.parametrize(
    "name",
    [
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded"),
        *("Forwarded", "Via", "X-Real-IP", "CF-Connecting-IP"),
    ],
)
def test_nobody_does_through_a_proxy(page_app: Flask, name: str):
    headers = {**HERE, name: "127.0.0.1"}

    assert is_unknown(get(page_app, "/page/outbox", headers=headers))


@here
def test_nobody_does_through_a_proxy_that_adds_nothing(page_app: Flask):
    old = {"SERVER_PROTOCOL": "HTTP/1.0"}

    assert is_unknown(get(page_app, "/page/outbox", headers=HERE, environ=old))


@here
def test_nobody_does_where_proxies_are_trusted(serve: Callable, settings: dict):
    behind = serve({**settings, "PAGE": "on", "TRUSTED_PROXIES": "1"})

    assert is_unknown(get(behind, "/page/outbox", headers=HERE))


@here
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000"),
        *("localhost:x", "127.0.0.2", "[::2]", "localhost@evil.example", "localhost:8000\n"),
    ],
)
def test_no_page_whose_name_leads_here_does(page_app: Flask, host: str):
    """DNS rebinding: the browser connects to this machine, and says what it was told."""
    wsgi = {"HTTP_HOST": host}

    assert is_unknown(get(page_app, "/page/outbox", environ=wsgi))


@here
@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_no_page_of_another_origin_does(page_app: Flask, site: str):
    headers = {**HERE, "Sec-Fetch-Site": site}

    assert is_unknown(get(page_app, "/page/outbox", headers=headers))


@here
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8001"])
def test_no_page_that_an_old_browser_names_does(serve, settings: dict, origin: str):
    open_to_all = serve({**settings, "PAGE": "on", "CORS_ORIGINS": "*"})
    headers = {**HERE, "Origin": origin}

    assert is_unknown(get(open_to_all, "/page/outbox", headers=headers))


@here
def test_there_is_none_where_mail_is_sent(serve: Callable, settings: dict):
    mailing = serve({**settings, "PAGE": "on", "SMTP_URL": "smtp://localhost"})

    assert get(mailing, "/").status_code == 200
    assert is_unknown(get(mailing, "/page/outbox", headers=HERE))
