"""Bad input, everywhere: a corpus by hand, through the test client and over a raw socket.

Whatever comes in, the answer is a problem of the client's making, nothing is written, and no
secret that was sent is in the log.
"""

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from flask import Flask
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.test import TestResponse

from runtime.models.tables import MODELS
from tests.conftest import PREFIX, Log, Person
from tests.servers import Service

PASSWORD = "Hunter2-Tr0ub4dor&3-staple"
CODE = "735902"
TOKEN = "WyJrZWVwIHRoaXMgdG8geW91cnNlbGYiXQ.aQ.c2lnbmVk"
SECRETS = (PASSWORD, CODE, TOKEN)
MEBIBYTE = 1024 * 1024
MAX_BODY_BYTES = 16 * 1024
MAX_CHAT_BYTES = MEBIBYTE
# Of what a caller sent, at most so much is repeated.
ECHO_CHARS = 300


@dataclass(frozen=True)
class Route:
    """A route with a body, and one that is well-formed."""

    method: str
    path: str
    body: dict
    accepts_empty: bool = False

    def __str__(self):
        return f"{self.method} {self.path}"


ROUTES = (
    Route(
        "POST",
        "/auth/verifications",
        {"username": "mallory", "email": "mallory@example.org", "password": PASSWORD},
    ),
    Route("POST", "/auth/verifications/resend", {"email": "mallory@example.org"}),
    Route("POST", "/auth/verifications/verify", {"email": "mallory@example.org", "token": CODE}),
    Route("POST", "/auth/sessions", {"email": "mallory@example.org", "password": PASSWORD}),
    Route("POST", "/auth/sessions/refresh", {"refresh_token": TOKEN}),
    Route("DELETE", "/auth/sessions", {"refresh_token": TOKEN}),
    Route("PATCH", "/users/me", {"username": "mallory"}, accepts_empty=True),
    Route("DELETE", "/users/me", {"current_password": PASSWORD}),
    Route("POST", "/agent-chats", {"message": f"my password is {PASSWORD}"}),
)
PATHS = sorted(
    {route.path for route in ROUTES}
    | {
        "/users/ada",
        "/users/me/events",
        f"/auth/sessions/{UUID(int=1)}",
        "/health",
        "/infra/health",
    }
)

NOT_TEXT = (True, False, 0, -1, 1.5, 1e308, 10**17, [], {}, ["x"], {"$ne": ""}, [[[["x"]]]])
UNTEXTLIKE = ("\ud800", "\udfff\ud800", "x\udc00@example.org")
NO_ADDRESS = (
    "",
    " ",
    "ada",
    "@example.org",
    "ada@",
    "ada@localhost",
    "ada@example.org\n",
    "\u3000ada@example.org",
    "ada@example.org\x00",
    "ada@[127.0.0.1]",
    "ada@example..org",
    "ada@-example.org",
    "ada@example.org-",
    "ada@example.1",
    "a@b@example.org",
    '"a b"@example.org',
    "=?utf-8?q?ada=0d=0abcc:?=@example.org",
    "ada\r\nBcc: eve@example.org",
    "ada@example.org,eve@example.org",
    "ада@example.org",
    "ada@ехample.org",
    "ａda@example.org",
    "x" * 65 + "@example.org",
    "ada@" + "x" * 64 + ".org",
    "ada@" + "x." * 150 + "org",
    "a" * 10_000,
    "ada@" + "a." * 5_000,
)
NO_USERNAME = (
    *("", "ab", "x" * 31, "x" * 10_000, "mallory\n", "\nmallory", "mal lory", "mal-lory"),
    *(
        "mallory\x00",
        "ｍａｌｌｏｒｙ",
        "malloré",
        "ma\u202ellory",
        "１２３４",
        "İstanbul",
        "mal.lory",
    ),
)
NO_CODE = (
    *("", "12345", "1234567", "123456\n", "12 3456", "１２３４５６", "١٢٣٤٥٦", "12345a", "-12345"),
    *("1_2345", "0x1234", "12345\x00", "1" * 10_000),
)
NO_URL = (
    *("", "x", "//example.org", "javascript:alert(1)", "ftp://example.org", "http:/example.org"),
    *("http://", "http://:80", "https://a b", "http://example.org\n", "http://example.org/\x00"),
    *("http://example.org:99999", "http://example.org:x", "http://example.org:/", "http://[::1"),
    *("http://[:::::]", "http://[1.2.3]", "http://[::1]x", "http://user:pw@example.org"),
    *("http://example.org\\@evil.example", "http://exa\u2100mple.org", "http:///x", "http://%31"),
    *(
        "http://example.org/%",
        "http://example.org/%zz",
        "http://example.org/<>",
        "HTTP:example.org",
    ),
    *("https://example.org/" + "x" * 2048, "data:text/html,x", "http://example.org/\ud800"),
)
# Browsers take these, and so does a profile; no mail has them.
TAKEN = ("http://example.org:/", "http://example.org/%", "http://example.org/%zz")
# What is wrong for a field besides what is not text at all.
WRONG = {
    "email": NO_ADDRESS,
    "username": NO_USERNAME,
    "token": NO_CODE,
    "password": ("", "12345", "x" * 129, "x" * 10_000),
    "current_password": ("", "12345", "x" * 129, "x" * 10_000),
    "refresh_token": (),
    "scope": ("", "x", "ALL", "all ", "all\n", "x" * 10_000),
    "message": ("", "x" * 8001, "x" * 10_000, "a\x00b"),
    "redirect_to": (*NO_URL, "https://not-on-the-list.example/"),
    "avatar_url": tuple(url for url in NO_URL if url not in TAKEN),
    "bio": ("x" * 201, "x" * 10_000, "a\x00b"),
    "session_id": (
        *("", "x", "3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f1", "{3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11}"),
        *("urn:uuid:3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11", "3f1c1a526c1e4b439f0e0a3c5a0c2f11"),
        *("3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11\n", "３f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11"),
    ),
}
NULLABLE = {"redirect_to", "avatar_url", "bio", "session_id"}
OPTIONAL = {
    "POST /auth/verifications": ("redirect_to",),
    "DELETE /auth/sessions": ("scope",),
    "PATCH /users/me": ("avatar_url", "bio"),
    "POST /agent-chats": ("session_id",),
}

# Beyond any parser's recursion, within what every route takes.
DEEP = 2_000
NOT_JSON = (
    *(b"", b" ", b"{", b"}", b"x", b"'{}'", b"{'a': 1}", b"{} {}", b"{},", b"{}\x00", b"// {}"),
    *(
        b'{"email": }',
        b'{"email": "x",}',
        b'{"email": "x"',
        b'{email: "x"}',
        b"\xa0{}",
        b"undefined",
    ),
    *(b"[]", b"null", b"true", b"0", b'""', b"[{}]", b"NaN", b"-Infinity"),
    # Nesting.
    *(b"[" * DEEP, b"{" * DEEP, b'{"a":' * DEEP, b"[" * DEEP + b"]" * DEEP),
    b'{"email": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"email": ' + b'{"a": ' * DEEP + b"1" + b"}" * DEEP + b"}",
    b'{"email": ' + b"[" * 40 + b"]" * 40 + b"}",
    # Numbers.
    *(b'{"email": %s}' % n for n in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400")),
    *(
        b'{"email": %s}' % n
        for n in (b"9" * 5000, b"-" + b"9" * 5000, b"1" * 19, b"1e" + b"9" * 99)
    ),
    *(b'{"email": %s}' % n for n in (b"0x10", b"01", b"+1", b".5", b"1.", b"1_000", b"1e")),
    b'{"email": 1' + b"0" * 15_000 + b".5}",
    # Names twice, at the top and below.
    b'{"email": "a@example.org", "email": "b@example.org"}',
    b'{"email": {"a": 1, "a": 2}}',
    b'{"password": "%s", "password": "%s"}' % (PASSWORD.encode(), PASSWORD.encode()),
    # Characters.
    *(b'{"email": "%s"}' % c for c in (b"\x00", b"\x1f", b"\n", b"\\x00", b"\\u12", b"\\")),
    *(b'{"email": "%s"}' % c for c in (b"\\ud800", b"\\udc00", b"\\udc00\\ud800", b"x\\ud83dx")),
    *(b'{"%s": 1}' % c for c in (b"\\ud800", b"\xff", b"\xed\xa0\x80")),
    b'{"email": [{"a": "\\ud800"}]}',
    # Encodings.
    *(b'{"email": "%s"}' % c for c in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80")),
    *(b'{"email": "%s"}' % c for c in (b"\xe4\xbd", b"\x80", b"\xfe\xff", b"\xf8\x88\x80\x80\x80")),
    *('{"email": "ada@example.org"}'.encode(e) for e in ("utf-8-sig", "utf-16", "utf-16-be")),
    *('{"email": "ada@example.org"}'.encode(e) for e in ("utf-32", "utf-16-le")),
    gzip.compress(b'{"email": "ada@example.org"}'),
    b"\x00" * 1000,
    bytes(range(256)) * 10,
)
NOT_THE_TYPE = (
    *(None, "", " ", "garbage", "/", "application/", "json", "text/plain", "text/json"),
    *(
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
    ),
    *("application/json; charset=utf-16", "application/json; charset=latin-1", "application/xml"),
    *("application/jsonx", "*/*"),
    *("application/json, text/html", "application/json;charset=gbk", "application/problem+json"),
    *("application/json; charset*=utf-16''x", "\xff", "x" * 4000, "application/octet-stream"),
)
FAULTY = (
    {"unknown": 1},
    {"": 1},
    {"__proto__": {}},
    {"a/b~c %\n密码\"'": "x"},
    {"x" * 10_000: 1},
    {f"x{number}": number for number in range(1_000)},
    {"Email": "ada@example.org", "EMAIL": "ada@example.org"},
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "CONNECT")
ODD_METHODS = ("BREW", "PROPFIND", "G" * 20, "M-SEARCH", "PRI")
ODD_PATHS = (
    *("/", "//", "///health", "/%00", "/%ff", "/%ff%fe", "/..", "/../../etc/passwd", "/%2e%2e/%2e"),
    *("/users/", "/users//", "/users/me/", "/users/%2f", "/users/ada/x", "/USERS/ME", "/health%00"),
    *("/health%20", "/health;x=1", "/health%0a", "/health%0d%0aX: y", "/%25", "/%", "/%zz", "/~"),
    *("/" + "x" * 7000, "/x" * 3500, "/%F0%9F%92%A9", "/%ED%A0%80", "/docs/..%2f..%2fapp.py"),
    *("/docs/../../app.py", "/docs/%00", "/docs/" + "x" * 300, "/docs/nothing"),
    *("/docs//etc/passwd", "/docs/..", "/docs/", "/<script>", "/{}", "/[", "/openapi.json/", "/*"),
)
ODD_NAMES = (
    *("%00", "%ff", "ab", "x" * 31, "x" * 7000, "ada%0a", "ada%20", "%20ada", "a-b", "ada.html"),
    *(
        "%EF%BD%81%EF%BD%84%EF%BD%81",
        "%F0%9F%92%A9",
        "%ED%A0%80",
        "<b>",
        "..%00",
        "ad%C3%A9",
        "a%2",
    ),
)
ODD_QUERIES = (
    *("", "email", "email=", "email=ada", "email=a%00b@example.org", "email=a@%ffexample.org"),
    *("email=a@example.org&email=b@example.org", "email=a@example.org&email=a@example.org"),
    *("email=a@example.org&x=1", "email=a@example.org&x=", "&&&", "=", "%"),
    *("Email=a@example.org", "email[]=a@example.org", "email=a@example.org%0a", "email=%ED%A0%80"),
    *("email=" + "x" * 7000, "&".join("x=1" for _ in range(1500)), "email=%uD800", "email=null"),
    *("email=%EF%BC%A1@example.org", "email=a@example.org%00", "email=a@example.org&%ff=1", "\xff"),
)
ODD_AUTHORIZATIONS = (
    *("", " ", "garbage", "Bearer", "Bearer ", "Bearer  x", "bearer x", "BEARER x", "Bearer x y"),
    *(
        "Basic",
        "Basic YTpi",
        "Basic %%%",
        "Basic /w==",
        "Basic " + "A" * 5000,
        "Digest a=b",
        "=,=,=",
    ),
    *(
        "Bearer \xff\xfe",
        "Bearer " + "x" * 6000,
        "Bearer a=b",
        "Bearer a.b.c.d",
        "Bearer ..",
        "Bearer =",
    ),
    *("Bearer null", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer \x80", 'Bearer "x"', "Token x"),
    *(f"Bearer {TOKEN}", f"Basic {TOKEN}", f"Bearer,{TOKEN}", f"{TOKEN}", f"Digest x={TOKEN}"),
)
ODD_HEADERS = (
    *(
        {"Accept-Language": v}
        for v in ("", ";;;", "en;q=x", "x" * 6000, "\xff", "en;q=-1", "*;q=0")
    ),
    *({"X-Request-ID": v} for v in ("\xff", "x" * 6000, "a b", "{}", '"', "../..")),
    *({"Accept": v} for v in ("text/html", "garbage", "\xff", "application/xml;q=1")),
    *({"Host": v} for v in ("", "evil.example", "a b", "[::1", "x:99999", "\xff", "." * 300, "@")),
    *({"Origin": v} for v in ("null", "\xff", "x" * 6000, "*")),
    *({"Range": v} for v in ("bytes=0-", "bytes=x", "bytes=9-1")),
    *({"If-None-Match": v} for v in ("*", '"', "\xff")),
    *({"If-Modified-Since": v} for v in ("garbage", "Mon, 99 Foo 9999 99:99:99 GMT")),
    *({"Cookie": v} for v in ("\xff", "session=x; =; ;", "x" * 6000)),
    *({"X-HTTP-Method-Override": v} for v in ("DELETE", "\xff")),
    *({"X-Forwarded-For": v} for v in ("garbage", "\xff", "1.2.3.4," * 500)),
    *({"Forwarded": v} for v in ("for=x", "\xff")),
    *({"Content-Encoding": v} for v in ("gzip", "br", "\xff")),
    {"Access-Control-Request-Method": "\xff", "Origin": "x"},
    {"Connection": "Upgrade", "Upgrade": "websocket"},
)


def assert_problem(answer: TestResponse, path: str) -> None:
    """A client's fault, told as the contract says."""
    assert 400 <= answer.status_code < 500, answer.status_code
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-language"] in ("zh", "en")
    assert "Accept-Language" in headers["vary"]
    assert headers["x-request-id"].isascii()
    if answer.status_code == 401:
        assert headers["www-authenticate"].startswith("Bearer")
    if answer.status_code == 405:
        assert headers["allow"]
    if answer.request.method != "HEAD":
        assert_members(answer.json, answer.status_code)
        assert answer.json["instance"] == path


def assert_members(problem: dict, status: int) -> None:
    members = {"type", "title", "status", "code", "detail", "instance"}
    assert set(problem) == (members | {"errors"} if status == 422 else members)
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"] == HTTP_STATUS_CODES[status]
    assert problem["detail"]
    for fault in problem.get("errors", ()):
        assert set(fault) in ({"pointer", "code", "detail"}, {"parameter", "code", "detail"})
        assert fault["detail"]
        assert fault.get("pointer", "#").startswith("#")


@dataclass
class Corpus:
    """Sends what is wrong, remembers what was answered wrongly, shows it all at the end."""

    sent: int = 0
    wrong: list[str] = field(default_factory=list)

    def judge(self, what: object, assertion: Callable, *arguments) -> None:
        self.sent += 1
        try:
            assertion(*arguments)
        except Exception as error:
            self.wrong.append(f"{str(what)[:150]!r}: {type(error).__name__} {str(error)[:300]}")

    def end(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} of {self.sent}:\n" + "\n".join(self.wrong[:20])


@pytest.fixture
def settings(settings: dict) -> dict:
    return {**settings, "RATE_LIMITS": "off", "REDIRECT_ALLOWLIST": "https://app.example.org"}


@pytest.fixture
def corpus(app: Flask, log: Log) -> Iterator[Corpus]:
    """At the end of a test nothing has leaked."""
    yield Corpus()
    assert_no_secret(log.text)


def assert_no_secret(log: str) -> None:
    """Not in whole, nor eight characters of one."""
    for secret in SECRETS:
        for start in range(max(1, len(secret) - 7)):
            assert secret[start : start + 8] not in log, secret


@contextmanager
def nothing_written(app: Flask) -> Iterator[None]:
    with app.app_context():
        before = {model: model.select().count() for model in MODELS}
    yield
    with app.app_context():
        assert {model: model.select().count() for model in MODELS} == before


def refused(answer: TestResponse, path: str, *where: str) -> None:
    """422, and every fault is at one of these places, if some are named."""
    assert_problem(answer, path)
    assert answer.status_code == 422, answer.status_code
    found = {fault.get("pointer", fault.get("parameter")) for fault in answer.json["errors"]}
    assert not where or found <= set(where), found


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_body_that_is_not_a_json_object_is_422(
    app: Flask, alice: Person, corpus: Corpus, route: Route
):
    with nothing_written(app):
        for body in NOT_JSON:
            answer = alice.request(
                route.method, route.path, data=body, content_type="application/json"
            )
            corpus.judge(body, refused, answer, PREFIX + route.path, "#")
    corpus.end()


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_body_of_another_media_type_is_422(
    app: Flask, alice: Person, corpus: Corpus, route: Route
):
    body = json.dumps(route.body).encode()
    with nothing_written(app):
        for kind in NOT_THE_TYPE:
            answer = alice.request(route.method, route.path, data=body, content_type=kind)
            corpus.judge(kind, refused, answer, PREFIX + route.path, "#")
    corpus.end()


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_field_that_is_wrong_is_422_and_pointed_at(
    app: Flask, alice: Person, corpus: Corpus, route: Route
):
    with nothing_written(app):
        for name in (*route.body, *OPTIONAL.get(str(route), ())):
            for value in (*NOT_TEXT, *WRONG[name], *([] if name in NULLABLE else [None])):
                body = {**route.body, name: value}
                answer = alice.request(route.method, route.path, json=body)
                whole = ("#",) if isinstance(value, str) and "\ud800" in value else ()
                places = (f"#/{name}", *whole)
                corpus.judge((name, value), refused, answer, PREFIX + route.path, *places)
            for value in UNTEXTLIKE:
                answer = alice.request(route.method, route.path, json={**route.body, name: value})
                corpus.judge((name, value), refused, answer, PREFIX + route.path, "#")
    corpus.end()


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_fields_that_are_unknown_or_missing_are_422(
    app: Flask, alice: Person, corpus: Corpus, route: Route
):
    with nothing_written(app):
        for more in FAULTY:
            answer = alice.request(route.method, route.path, json={**route.body, **more})
            corpus.judge(more, refused, answer, PREFIX + route.path)
            corpus.judge(more, demand_small, answer)
        for name in () if route.accepts_empty else route.body:
            less = {n: value for n, value in route.body.items() if n != name}
            answer = alice.request(route.method, route.path, json=less)
            corpus.judge(less, refused, answer, PREFIX + route.path, f"#/{name}")
    corpus.end()


def demand_small(answer: TestResponse) -> None:
    """Nobody can make the service repeat much of what was said to it."""
    assert len(answer.json["errors"]) <= 20
    places = [fault.get("pointer", fault.get("parameter")) for fault in answer.json["errors"]]
    assert max(map(len, places)) <= ECHO_CHARS + len("...")


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_body_that_is_too_large_is_413(app: Flask, alice: Person, corpus: Corpus, route: Route):
    limit = MAX_CHAT_BYTES if route.path == "/agent-chats" else MAX_BODY_BYTES
    with nothing_written(app):
        for body in (b"x" * (limit + 1), b'{"a": "' + b"x" * (20 * MEBIBYTE) + b'"}'):
            for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
                answer = alice.request(route.method, route.path, data=body, content_type=kind)
                corpus.judge(kind, assert_problem, answer, PREFIX + route.path)
                assert answer.status_code == 413
        answer = alice.request(route.method, route.path, data=b"x" * limit)
        assert answer.status_code == 422
    corpus.end()


def test_a_pointer_is_one_whatever_the_fields_name(alice: Person):
    answer = alice.patch("/users/me", {"a/b~c %\n密": 1})

    assert answer.json["errors"][0]["pointer"] == "#/a~1b~0c%20%25%0A%E5%AF%86"


def test_queries_that_are_wrong_are_422(app: Flask, alice: Person, corpus: Corpus):
    with nothing_written(app):
        for query in ODD_QUERIES:
            answer = alice.get(f"/auth/users?{query}")
            corpus.judge(query, refused, answer, f"{PREFIX}/auth/users")
            corpus.judge(query, demand_small, answer)
    corpus.end()


def test_names_that_are_wrong_are_422(alice: Person, corpus: Corpus):
    for name in ODD_NAMES:
        answer = alice.get(f"/users/{name}")
        instance = instance_of(f"{PREFIX}/users/{name}")
        corpus.judge(name, refused, answer, instance, "username")
    corpus.end()


def instance_of(path: str) -> str:
    """The path as a problem has it: what no encoding knows is replaced."""
    is_plain = path.isascii() and "%" not in path and "<" not in path
    return urlsplit(path).path if is_plain and len(path) <= ECHO_CHARS else ANY


class _Any(str):
    def __eq__(self, other):
        return isinstance(other, str) and other.startswith("/") and other.isascii()

    __hash__ = str.__hash__


ANY = _Any("any")


def test_paths_that_lead_nowhere_are_404(stranger: Person, corpus: Corpus):
    for path in ODD_PATHS:
        answer = stranger.get(path)
        corpus.judge(path, assert_problem, answer, ANY)
        corpus.judge(path, demand_status, answer, 401, 404)
        corpus.judge(path, demand_brief, answer)
    corpus.end()


def demand_brief(answer: TestResponse) -> None:
    assert len(answer.json["instance"]) <= ECHO_CHARS + len("...")


def demand_status(answer: TestResponse, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.status_code


@pytest.mark.parametrize("method", [*METHODS, *ODD_METHODS])
def test_a_method_that_a_path_has_not_is_405(
    app: Flask, stranger: Person, corpus: Corpus, method: str
):
    with nothing_written(app):
        for path in PATHS:
            answer = stranger.request(method, path)
            taken = {m.split()[0] for m in map(str, ROUTES) if m.endswith(f" {path}")}
            has_get = path in ("/auth/sessions", "/agent-chats")
            if has_get or path.startswith(("/users", "/health", "/infra")):
                taken |= {"GET", "HEAD"}
            if path.startswith("/auth/sessions/"):
                taken |= {"DELETE"}
            if method == "OPTIONS":
                corpus.judge(path, demand_status, answer, 204)
            elif method not in taken:
                corpus.judge(path, demand_status, answer, 405)
                corpus.judge(path, assert_problem, answer, PREFIX + path)
            elif "health" not in path:
                corpus.judge(path, assert_problem, answer, PREFIX + path)
    corpus.end()


def test_credentials_that_are_none_are_401(app: Flask, stranger: Person, corpus: Corpus):
    with nothing_written(app):
        for header in ODD_AUTHORIZATIONS:
            for method, path in (("GET", "/users/me"), ("POST", "/agent-chats")):
                answer = stranger.request(
                    method, path, headers={"Authorization": header}, data=b"{"
                )
                corpus.judge(header, assert_problem, answer, PREFIX + path)
                corpus.judge(header, demand_status, answer, 401)
    corpus.end()


def test_odd_headers_change_nothing(app: Flask, alice: Person, corpus: Corpus):
    with nothing_written(app):
        for headers in ODD_HEADERS:
            for path, status in (("/users/me", 200), ("/health", 200), ("/no", 404)):
                answer = alice.get(path, headers=headers)
                corpus.judge((headers, path), demand_status, answer, status)
    corpus.end()


@pytest.mark.in_process("gunicorn refuses a control character in a header")
def test_a_control_character_for_an_id_changes_nothing(alice: Person, corpus: Corpus):
    for path, status in (("/users/me", 200), ("/health", 200), ("/no", 404)):
        answer = alice.get(path, headers={"X-Request-ID": "\x7f"})
        corpus.judge(path, demand_status, answer, status)
        assert "\x7f" not in answer.headers["X-Request-ID"]
    corpus.end()


# What no client library sends, to the real server.


@dataclass
class Wire:
    """A socket's end, at a port of the service."""

    port: int

    def send(self, *pieces: bytes, ends: bool = False) -> tuple[int, dict, bytes]:
        """Send bytes as they are; status, headers and body of the first answer but `100`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            with suppress(ConnectionError):  # it may have heard enough
                for piece in pieces:
                    sock.sendall(piece)
                if ends:
                    sock.shutdown(socket.SHUT_WR)
            return self._answer(sock)

    def _answer(self, sock: socket.socket) -> tuple[int, dict, bytes]:
        with sock.makefile("rb") as file:
            status = 100
            while status == 100:
                status = int(file.readline().split()[1])
                headers = dict(self._fields(file))
            return status, headers, file.read(int(headers["content-length"]))

    def _fields(self, file) -> Iterator[tuple[str, str]]:
        while line := file.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()


def request(target: str, body: bytes = b"", method: str = "POST", **headers: str) -> bytes:
    """A request's bytes; `X_Y="z"` is a header, `Host` and `Content_Length` have defaults."""
    fields = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
    return head.encode("latin-1") + body


@pytest.fixture
def wire(service: Service) -> Iterator[Wire]:
    """To gunicorn; at the end of a test nothing has leaked there, and nothing broken."""
    logged_before = len(service.log)
    yield Wire(service.port)
    log = service.log[logged_before:]
    assert_no_secret(log)
    assert "Traceback" not in log


LOGIN = "/api/v1/auth/sessions"
CREDENTIALS = json.dumps(ROUTES[3].body).encode()
CHUNKED = {"Transfer_Encoding": "chunked", "Content_Length": None}
HEALTH = "/api/v1/health"


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


RAW: dict[str, tuple[bytes, set[int]]] = {
    "no HTTP at all": (b"hello\r\n\r\n", {400}),
    "a TLS greeting": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /api/v1/health\r\n\r\n", {400}),
    "HTTP/1.2.3": (b"GET / HTTP/1.2.3\r\nHost: x\r\n\r\n", {400}),
    "no host": (request(HEALTH, method="GET", Host=None), {400}),
    "an empty name": (b"GET /api/v1/no HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", {400}),
    "a name with a space": (b"GET /api/v1/no HTTP/1.1\r\nHost : x\r\n\r\n", {400}),
    "NUL in a header": (b"GET /api/v1/no HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", {400}),
    "a bare CR": (b"GET /api/v1/no HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", {400}),
    "a bare LF": (b"GET /api/v1/no HTTP/1.1\nHost: x\n\n", {400}),
    "a folded header": (b"GET /api/v1/no HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", {400}),
    "a lowercase method": (request("/api/v1/no", method="get"), {400, 404}),
    "an unknown method": (request(HEALTH, method="BREW"), {405}),
    "CONNECT": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404, 405}),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404}),
    "another host's address": (request("http://evil.example/no", method="GET"), {404}),
    "no path": (b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "bytes in the path": (b"GET /api/v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404}),
    "NUL in the path": (request("/api/v1/%00", method="GET"), {404}),
    "a long path": (request("/" + "x" * 9000, method="GET"), {414}),
    "a longer path": (request("/" + "x" * 200_000, method="GET"), {414, 431}),
    "a long header": (request(HEALTH, method="GET", A="x" * 9000), {431}),
    "a longer header": (request(HEALTH, method="GET", A="x" * 200_000), {431}),
    "a long token": (request(HEALTH, method="GET", Authorization="Bearer " + TOKEN * 300), {431}),
    "many headers": (request(HEALTH, method="GET", **{f"A{n}": "x" for n in range(200)}), {431}),
    "another expectation": (request(LOGIN, CREDENTIALS, Expect="200-ok"), {417}),
    "another coding": (request(LOGIN, CREDENTIALS, Transfer_Encoding="gzip"), {400, 501}),
    "both lengths": (request(LOGIN, chunked(CREDENTIALS), Transfer_Encoding="chunked"), {400, 401}),
    "chunked twice": (
        request(LOGIN, chunked(b"{}"), **{**CHUNKED, "Transfer_Encoding": "chunked, chunked"}),
        {400, 501},
    ),
    "a length that is none": (request(LOGIN, CREDENTIALS, Content_Length="x"), {400}),
    "a negative length": (request(LOGIN, CREDENTIALS, Content_Length="-1"), {400}),
    "a length with a sign": (request(LOGIN, CREDENTIALS, Content_Length="+5"), {400}),
    "a length beyond any": (request(LOGIN, CREDENTIALS, Content_Length="9" * 4000), {400, 413}),
    "a length in full-width digits": (
        request(LOGIN, CREDENTIALS, Content_Length="\xb2\xb3"),
        {400},
    ),
    "two lengths": (request(LOGIN, CREDENTIALS, **{"content_length": "5"}), {400}),
    "a short length": (request(LOGIN, CREDENTIALS, Content_Length="9"), {422}),
    "no length": (request(LOGIN, CREDENTIALS, Content_Length=None), {422}),
    "a chunk size that is none": (request(LOGIN, b"zz\r\n{}\r\n0\r\n\r\n", **CHUNKED), {400}),
    "a negative chunk": (request(LOGIN, b"-1\r\n{}\r\n0\r\n\r\n", **CHUNKED), {400}),
    "an endless chunk size": (request(LOGIN, b"f" * 4000 + b"\r\n", **CHUNKED), {400, 413}),
    "a chunk beyond any": (request(LOGIN, b"ffffffffffff\r\n{}\r\n", **CHUNKED), {400, 413}),
    "a chunk without its end": (request(LOGIN, b"2\r\n{}xx0\r\n\r\n", **CHUNKED), {400}),
    "no chunk": (request(LOGIN, b"0\r\n\r\n", **CHUNKED), {422}),
    "a body that is no JSON in chunks": (request(LOGIN, chunked(b"{", b"x"), **CHUNKED), {422}),
    "broken UTF-8 across chunks": (
        request(LOGIN, chunked(b'{"email": "\xe4', b'\xbd"}'), **CHUNKED),
        {422},
    ),
    "the wrong credentials in chunks": (
        request(LOGIN, chunked(*(bytes([byte]) for byte in CREDENTIALS)), **CHUNKED),
        {401},
    ),
    "bytes in a header": (request("/api/v1/no", method="GET", X_Request_ID="\xff\xfe"), {400, 404}),
    "bytes in a token": (
        request("/api/v1/users/me", method="GET", Authorization=f"Bearer \xff{TOKEN}"),
        {400, 401},
    ),
    "two tokens": (
        request(
            "/api/v1/users/me",
            method="GET",
            Authorization=f"Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}",
        ),
        {400, 401},
    ),
    "deep nesting": (request(LOGIN, b"[" * DEEP), {422}),
    "a script name": (request("/api/v1/no", method="GET", Script_Name="/x"), {400, 404}),
}


def test_what_no_client_sends_is_answered_all_the_same(app: Flask, wire: Wire, corpus: Corpus):
    with nothing_written(app):
        for name, (data, statuses) in RAW.items():
            corpus.judge(name, demand_answer, wire, statuses, data)
            corpus.judge(f"{name}, and then it stops", demand_alive, wire)
    corpus.end()


def demand_answer(wire: Wire, statuses: set[int], *pieces: bytes, ends=False) -> None:
    status, headers, body = wire.send(*pieces, ends=ends)
    assert status in statuses, (status, body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-language"] in ("zh", "en")
    assert headers["x-request-id"]
    problem = json.loads(body)
    members = {"type", "title", "status", "code", "detail", "instance"}
    assert set(problem) - {"errors"} == members
    assert problem["status"] == status
    assert problem["instance"].startswith("/")
    assert "?" not in problem["instance"]


def demand_alive(wire: Wire) -> None:
    assert wire.send(request(HEALTH, method="GET"))[0] == 200


def test_bodies_that_break_off_are_refused(app: Flask, wire: Wire, corpus: Corpus):
    whole = request(LOGIN, CREDENTIALS, Content_Length=str(len(CREDENTIALS) + 10))
    in_chunks = request(LOGIN, b"%x\r\n%s" % (len(CREDENTIALS) + 10, CREDENTIALS), **CHUNKED)
    no_last = request(LOGIN, b"%x\r\n%s\r\n" % (len(CREDENTIALS), CREDENTIALS), **CHUNKED)
    with nothing_written(app):
        for name, data in (("whole", whole), ("in chunks", in_chunks), ("no last", no_last)):
            corpus.judge(name, demand_answer_at_end, wire, data)
            corpus.judge(f"{name}, and then it stops", demand_alive, wire)
    corpus.end()


def demand_answer_at_end(wire: Wire, data: bytes) -> None:
    demand_answer(wire, {400, 422}, data, ends=True)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_twenty_megabytes_are_413_however_they_come(
    app: Flask, wire: Wire, alice: Person, corpus: Corpus, route: Route
):
    target = PREFIX + route.path
    token = f"Bearer {alice.tokens['access_token']}"
    more = {"method": route.method, "Authorization": token}
    piece = PASSWORD.encode() * (MEBIBYTE // len(PASSWORD))
    length = str(20 * len(piece))
    pieces = {
        "with a length": [request(target, Content_Length=length, **more), *[piece] * 20],
        "asking first": [request(target, Content_Length=length, Expect="100-continue", **more)],
        "in chunks": [
            request(target, **CHUNKED, **more),
            *[b"%x\r\n%s\r\n" % (len(piece), piece)] * 20,
            b"0\r\n\r\n",
        ],
        "in one chunk": [
            request(target, **CHUNKED, **more),
            b"%x\r\n" % (20 * len(piece)),
            *[piece] * 20,
        ],
    }
    with nothing_written(app):
        for name, data in pieces.items():
            corpus.judge(name, demand_answer, wire, {413}, *data)
            corpus.judge(f"{name}, and then it stops", demand_alive, wire)
    corpus.end()


def test_a_path_in_another_spelling_takes_as_much(wire: Wire, alice: Person):
    """The server asks how much a route takes before it receives it, and decodes the path."""
    for target in ("/api/v1/agent%2Dchats?x", "http://x/api/v1/agent-chats"):
        body = b'{"message": "' + b"x" * 500_000 + b'"}'
        token = f"Bearer {alice.tokens['access_token']}"
        status, _, answer = wire.send(request(target, body, Authorization=token))
        assert (status, json.loads(answer)["errors"][0]["pointer"]) == (422, "#/message")


# What a chat takes, at its longest.


def pad(unit: str, *, end: str, begin: str, join: str = ",") -> bytes:
    """A body of a mebibyte at most, of as many units as fit."""
    count = (MAX_CHAT_BYTES - len(begin) - len(end)) // len((unit + join).encode())
    return (begin + join.join([unit] * count) + end).encode()


def numbered(count: int) -> str:
    return ",".join(f'"a{number}": 0' for number in range(count))


RUN = '{"threadId": "t", "runId": "r", "messages": ['
MESSAGE = '{"id": "1", "role": "user", "content": "x"}'
UI = '{"id": "c", "messages": ['
UI_MESSAGE = '{"id": "1", "role": "user", "parts": ['
LARGE = {
    "/agent-chats": {
        "unknown fields": ("{" + numbered(80_000) + "}").encode(),
        "objects": pad('{"": 0}', begin='{"message": [', end="]}"),
        "lists": pad("[]", begin='{"message": [', end="]}"),
        "numbers": pad("1.5", begin='{"message": [', end="]}"),
        "one number": pad("7", begin='{"message": 0.', end="}", join=""),
        "nesting": pad('{"a":', begin="", end="", join=""),
        "escapes": pad("\\u00e9", begin='{"message": "', end='"}', join=""),
        "text": pad("é", begin='{"message": "', end='"}', join=""),
        "a name": pad("é", begin='{"', end='": 1}', join=""),
    },
    "/agent-chats/ag-ui": {
        "messages that are none": pad("{}", begin=RUN, end="]}"),
        "a few of them": (RUN + ",".join(["{}"] * 15_000) + "]}").encode(),
        "messages": (RUN + ",".join([MESSAGE] * 15_000) + "]}").encode(),
        "calls that are null": (
            RUN + ",".join([MESSAGE[:-1] + ', "toolCallId": null}'] * 15_000) + "]}"
        ).encode(),
        "tools": pad('{"name": "a"}', begin=RUN + MESSAGE + '], "tools": [', end="]}"),
        "a few tools": (
            RUN + MESSAGE + '], "tools": [' + ",".join(['{"name": "a"}'] * 15_000) + "]}"
        ).encode(),
        "parameters": (
            RUN + MESSAGE + '], "tools": [{"name": "a", "parameters": {' + numbered(70_000) + "}}]}"
        ).encode(),
    },
    "/agent-chats/ai-sdk": {
        "messages that are none": pad("{}", begin=UI, end="]}"),
        "a few of them": (UI + ",".join(["{}"] * 15_000) + "]}").encode(),
        "messages": (UI + ",".join([UI_MESSAGE + "]}"] * 15_000) + "]}").encode(),
        "parts": pad('{"type":"text"}', begin=UI + UI_MESSAGE, end="]}]}"),
        "a few parts": (UI + UI_MESSAGE + ",".join(["{}"] * 15_000) + "]}]}").encode(),
        "parts that are none": pad("1", begin=UI + UI_MESSAGE, end="]}]}"),
    },
}


@pytest.mark.in_process("measures its own processor time")
@pytest.mark.parametrize("path", LARGE)
def test_a_mebibyte_costs_less_than_a_second_of_processor(
    app: Flask, alice: Person, corpus: Corpus, path: str
):
    for name, body in LARGE[path].items():
        assert len(body) <= MAX_CHAT_BYTES
        before = time.process_time()
        answer = alice.post(path, data=body, content_type="application/json")
        corpus.judge(name, demand_less, time.process_time() - before, 1)
        corpus.judge(name, refused, answer, PREFIX + path)
        corpus.judge(name, demand_small, answer)
    corpus.end()


def demand_less(seconds: float, most: float) -> None:
    assert seconds < most


@pytest.mark.in_process("measures its own memory")
def test_a_mebibyte_of_objects_takes_no_memory_for_most_of_them(app: Flask, alice: Person):
    for unit, most in (('{"": 0}', 12 * MEBIBYTE), ("[]", 30 * MEBIBYTE)):
        body = pad(unit, begin='{"message": [', end="]}")
        tracemalloc.start()
        try:
            answer = alice.post("/agent-chats", data=body, content_type="application/json")
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        refused(answer, f"{PREFIX}/agent-chats", "#")
        assert peak < most
