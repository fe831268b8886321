"""What every answer carries, and what is known of every request."""

import json
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from flask import Flask

from runtime.api import http
from runtime.models.run_events import RunEvent
from tests.conftest import Log, Person, events_in

PAGE = "https://app.example.org"
SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@pytest.fixture
def settings(settings: dict) -> dict:
    return {**settings, "CORS_ORIGINS": f"{PAGE} http://localhost:5173"}


@pytest.fixture
def remade(serve, settings: dict) -> Callable[..., Flask]:
    """The service with other settings."""
    return lambda **changes: serve({**settings, **changes})


def preflight(
    person: Person,
    path: str = "/users/me",
    origin: str = PAGE,
    method: str = "PATCH",
    headers: str | None = "authorization,content-type",
):
    asked = {"Access-Control-Request-Headers": headers} if headers is not None else {}
    headers = {"Origin": origin, "Access-Control-Request-Method": method, **asked}
    return person.request("OPTIONS", path, headers=headers)


def try_code(app: Flask, remote: str, forwarded: str | None = None):
    """A request that is logged with its network."""
    body = {"email": "ada@example.org", "token": "123456"}
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return app.test_client().post(
        "/api/v1/auth/verifications/verify",
        json=body,
        headers=headers,
        environ_base={"REMOTE_ADDR": remote},
    )


def seen_network(log: Log) -> str:
    """What the service took the last request's network for."""
    return [line["network"] for line in log.events() if line["event"] == "code_refused"][-1]


# X-Request-ID


@pytest.mark.parametrize("path", ["/health", "/users/me", "/nothing", "/openapi.json"])
def test_every_answer_names_its_request(stranger: Person, path: str):
    first, second = (stranger.get(path).headers["X-Request-ID"] for _ in range(2))

    assert first != second
    assert SANE.fullmatch(first)


@pytest.mark.parametrize("given", ["abc", "req_1.2:3-4", "0" * 128])
def test_a_sane_id_is_kept(stranger: Person, given: str):
    answer = stranger.get("/health", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given", ["", "0" * 129, "a b", "a,b", "\xe9", '"', "{}", "\x1b[31m", "<script>", "a=1", "a\t"]
)
def test_any_other_is_replaced(stranger: Person, given: str):
    answer = stranger.get("/health", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] != given
    assert SANE.fullmatch(answer.headers["X-Request-ID"])


def test_every_line_of_the_log_has_the_requests_id(member, log: Log):
    alice = member("alice")
    log.clear()
    body = {"email": alice.email, "password": "not the right one"}

    alice.post("/auth/sessions", body, headers={"X-Request-ID": "r-1"})

    assert [line["event"] for line in log.events()] == ["sign_in_refused", "request"]
    assert {line["request_id"] for line in log.events()} == {"r-1"}


def test_the_log_says_who_asked_for_what_and_how_it_went(alice: Person, log: Log):
    log.clear()

    alice.get("/users/bob?secret=1")

    (line,) = log.events()
    assert (line["method"], line["route"], line["status"]) == (
        "GET",
        "/api/v1/users/<username>",
        404,
    )
    assert line["user_id"] == alice.id
    assert line["bytes"] > 0
    assert line["ms"] >= 0
    assert "secret" not in json.dumps(line)


# What no cache keeps, and no browser guesses


@pytest.mark.parametrize("path", ["/users/me", "/health", "/infra/health", "/no"])
def test_no_answer_is_cached(alice: Person, path: str):
    answer = alice.get(path)

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/users/me", "/no", "/openapi.json", "/docs/docs.js", "/docs/no"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "BREW"])
def test_an_answer_is_data_that_runs_nothing_and_names_no_referrer(
    stranger: Person, path: str, method: str
):
    answer = stranger.request(method, path)

    assert answer.headers["Referrer-Policy"] == "no-referrer"
    policy = "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["Content-Security-Policy"] == policy


@pytest.mark.parametrize("path", ["/docs", "/docs/docs.html"])
def test_a_page_runs_its_own_scripts_wherever_it_is_asked_for(stranger: Person, path: str):
    answer = stranger.get(path)

    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert answer.headers["Referrer-Policy"] == "no-referrer"


# JSON on one line for every reader


LINE_ENDS = "a\u0085b\u2028c\u2029d"
ESCAPED = rb"a\u0085b\u2028c\u2029d"


def test_no_answer_has_what_some_readers_take_for_the_end_of_a_line(alice: Person):
    alice.patch("/users/me", {"bio": LINE_ENDS})

    answer = alice.get("/users/me")

    assert answer.json["bio"] == LINE_ENDS
    assert ESCAPED in answer.data
    assert len(answer.text.splitlines()) == 1


def test_no_event_has_what_some_readers_take_for_the_end_of_a_line(app: Flask, alice: Person):
    """Nor one that an earlier release has written."""
    streamed = alice.stream(f"my name is {LINE_ENDS}").data
    chat = alice.get("/agent-chats").json["chats"][0]["session_id"]
    (message, *_) = alice.get(f"/agent-chats/{chat}/messages").json["messages"]
    with app.app_context():
        row = RunEvent.select().where(RunEvent.data.contains("TEXT_MESSAGE_CONTENT")).get()
        assert not set(LINE_ENDS) & set(row.data) - set("abcd")
        data = json.dumps({**json.loads(row.data), "delta": LINE_ENDS}, ensure_ascii=False)
        RunEvent.update(data=data).where(
            RunEvent.run == row.run_id, RunEvent.number == row.number
        ).execute()

    path = f"/agent-chats/{chat}/runs/{message['run_id']}/events"
    resumed = alice.get(path, headers={"Accept": "text/event-stream"})

    assert ESCAPED in resumed.data
    assert events_in(resumed)
    for stream in (streamed, resumed.data):
        text = stream.decode()
        assert text.splitlines() == text.split("\n")[:-1]


def test_a_problem_has_no_other_line_ends_either(alice: Person):
    answer = alice.get("/auth/users?" + quote(LINE_ENDS))

    assert LINE_ENDS in [fault["parameter"] for fault in answer.json["errors"]]
    assert ESCAPED in answer.data


@pytest.mark.parametrize("path", ["/users/me", "/health", "/no", "/docs/docs.js", "/agent-chats"])
def test_no_header_stands_there_twice(alice: Person, path: str):
    streamed = {"headers": {"Accept": "text/event-stream"}, "json": {"message": "hello"}}
    for method, more in (("GET", {}), ("POST", streamed), ("OPTIONS", {})):
        answer = alice.request(method, path, **more)
        names = [name.lower() for name, _ in answer.headers]
        assert {"x-request-id", "x-content-type-options", "cache-control"} <= set(names)
        assert len(names) == len(set(names))


def test_an_answer_without_content_has_no_media_type(alice: Person):
    answer = alice.delete("/auth/sessions", {"refresh_token": "x"})

    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers


def test_head_is_get_without_the_body(alice: Person):
    got, head = alice.get("/users/me"), alice.request("HEAD", "/users/me")

    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


def test_fields_come_in_the_documents_order(alice: Person):
    assert list(alice.get("/users/me").json) == ["id", "username", "avatar_url", "bio"]


# Pages of other origins (Fetch standard, CORS protocol)


@pytest.mark.parametrize("path", ["/users/me", "/auth/sessions", "/health"])
def test_a_browser_that_asks_first_is_told_what_it_may(stranger: Person, path: str):
    answer = preflight(stranger, path)

    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "asked",
    [
        "authorization,baggage,sentry-trace,traceparent,tracestate",
        "x-client-info, apikey, content-type",
        # CopilotKit's, assistant-ui's and HttpAgent's, with what their users add.
        "accept-language,authorization,content-type,if-running,last-event-id",
        "content-type,x-copilotcloud-public-api-key,x-copilotkit-runtime-client-gql-version",
        "x-" + "a" * 1000,
    ],
)
def test_a_page_may_send_the_headers_that_it_asks_for(stranger: Person, asked: str):
    assert preflight(stranger, headers=asked).headers["Access-Control-Allow-Headers"] == asked


@pytest.mark.parametrize(
    "asked", [None, "", "a b", "a,,b", "a,", "a\tb", "x:y", "\xe9", "(x)", "x-" + "a" * 1023]
)
def test_what_is_no_list_of_headers_is_answered_with_those_that_are_read(
    stranger: Person, asked: str | None
):
    answer = preflight(stranger, headers=asked)

    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "x-request-id"} <= set(allowed)
    assert len(allowed) == 7


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://M\u00fcnchen.example", "https://xn--mnchen-3ya.example"),
        ("https://my_app.example.org", "https://my_app.example.org"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://", "app://"),
    ],
)
def test_pages_of_any_kind_of_origin_read_the_answer(
    remade: Callable, stranger: Person, written: str, sent: str
):
    client = remade(CORS_ORIGINS=written).test_client()

    answer = client.get("/api/v1/health", headers={"Origin": sent})
    assert answer.headers["Access-Control-Allow-Origin"] == sent
    stranger.client = client
    assert preflight(stranger, origin=sent).headers["Access-Control-Allow-Origin"] == sent


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", f"{PAGE}.evil.example", "http://app.example.org", "null", PAGE + ":8"],
)
def test_other_pages_are_told_nothing(stranger: Person, origin: str):
    for answer in (
        preflight(stranger, origin=origin),
        stranger.get("/health", headers={"Origin": origin}),
    ):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
        assert "Origin" in answer.headers["Vary"]


def test_a_page_reads_the_answer(alice: Person):
    answer = alice.get("/users/me", headers={"Origin": PAGE})

    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Retry-After", "X-Request-ID"} <= set(exposed)
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "method, path, status",
    [("GET", "/users/me", 401), ("GET", "/no", 404), ("PUT", "/health", 405)],
)
def test_a_page_reads_errors_too(stranger: Person, method: str, path: str, status: int):
    answer = stranger.request(method, path, headers={"Origin": PAGE})

    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"Origin", "Accept-Language"} <= set(answer.headers["Vary"].split(", "))


@pytest.mark.in_process("asks at a route that is not the service's")
def test_a_page_reads_a_fault_of_ours(app: Flask):
    app.add_url_rule("/api/v1/broken", view_func=lambda: 1 / 0)

    answer = app.test_client().get("/api/v1/broken", headers={"Origin": PAGE})

    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (500, PAGE)


def test_any_page_may_when_any_origin_is_allowed(remade):
    client = remade(CORS_ORIGINS="*").test_client()

    for origin in (PAGE, "https://other.example", "null"):
        answer = client.get("/api/v1/health", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_without_the_setting_there_is_no_cors(remade):
    client = remade(CORS_ORIGINS="").test_client()

    answer = client.get("/api/v1/health", headers={"Origin": PAGE})

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Vary" not in answer.headers


def test_options_says_what_a_path_takes(stranger: Person):
    answer = stranger.request("OPTIONS", "/users/me")

    assert (answer.status_code, answer.data) == (204, b"")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}
    assert "Access-Control-Allow-Methods" not in answer.headers


def test_options_of_nothing_is_404(stranger: Person):
    assert stranger.request("OPTIONS", "/no").status_code == 404
    assert preflight(stranger, "/no").status_code == 404


# Networks and proxies


def test_what_a_client_says_of_itself_is_ignored(app: Flask, log: Log):
    try_code(app, "192.0.2.1", forwarded="203.0.113.9")

    assert seen_network(log) == "192.0.2.1"


@pytest.mark.parametrize(
    "hops, forwarded, seen",
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 7.7.7.7,203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9:4711", "203.0.113.9"),
        (1, "6.6.6.6, 2001:db8:1:2::1", "2001:db8:1::/56"),
        (1, "[2001:db8:1:2::1]:4711", "2001:db8:1::/56"),
        (1, "[2001:db8:1:2::1]", "2001:db8:1::/56"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "[::ffff:203.0.113.9]:4711", "203.0.113.9"),
        (1, "64:ff9b::203.0.113.9", "203.0.113.9"),
        (1, "fe80::1%eth0", "fe80::/56"),
        (1, " 6.6.6.6 ,\t203.0.113.9 ", "203.0.113.9"),
        (1, '", 203.0.113.9', "203.0.113.9"),
        # Fewer than there are proxies: not the proxy itself, whose network all others share.
        (2, "203.0.113.9", "unknown"),
        (3, "203.0.113.9, 10.0.0.1", "unknown"),
        (1, None, "unknown"),
        (1, "", "unknown"),
        (1, '"', "unknown"),
        (1, '6.6.6.6, "', "unknown"),
        (1, '"203.0.113.9"', "unknown"),
        (1, "203.0.113.9,", "unknown"),
        (1, "unknown", "unknown"),
        (1, "_hidden", "unknown"),
        (1, "203.0.113.9 6.6.6.6", "unknown"),
        (1, "203.0.113.09", "unknown"),
        (1, "203.0.113", "unknown"),
        (1, "0xcb007109", "unknown"),
        (1, "3405803785", "unknown"),
        (1, "203.0.113.9:x", "unknown"),
        (1, "2001:db8::1::2", "unknown"),
        (1, "[2001:db8::1", "unknown"),
        (1, "for=203.0.113.9", "unknown"),
        (1, 'fe80::1%"', "unknown"),
        (1, "example.org", "unknown"),
    ],
)
def test_behind_proxies_the_last_one_trusted_says_who_asks(
    remade, log: Log, hops: int, forwarded: str | None, seen: str
):
    app = remade(TRUSTED_PROXIES=str(hops))

    try_code(app, "127.0.0.1", forwarded)

    assert seen_network(log) == seen


@pytest.mark.parametrize(
    "address, seen",
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/56"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1::/56"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/56"),
        ("fe80::1%" + "x" * 200, "fe80::/56"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("[2001:db8:1:2::1]:5678", "2001:db8:1::/56"),
        ("unix:", "unknown"),
        ("1.2.3.4.5", "unknown"),
    ],
)
def test_a_network_is_an_address_or_the_56_that_one_customer_has(
    app: Flask, log: Log, address: str, seen: str
):
    try_code(app, address)

    assert seen_network(log) == seen


def test_a_socket_without_an_address_is_of_an_unknown_network(app: Flask):
    with app.test_request_context(environ_base={"REMOTE_ADDR": ""}):
        assert http.caller().network == "unknown"


@pytest.mark.parametrize("address", ["192.0.2.1", "198.51.100.7"])
def test_requests_that_came_past_the_proxies_count_as_one_network(remade, log: Log, address: str):
    try_code(remade(TRUSTED_PROXIES="1"), address)

    assert seen_network(log) == "unknown"


def test_strangers_whose_address_is_unknown_are_not_the_proxy(remade, log: Log):
    """Whom a proxy speaks for is one network apart: what they use up is nobody else's."""
    app = remade(TRUSTED_PROXIES="1", RATE_LIMITS="on")

    for forwarded, seen in (('"', "unknown"), ("10.0.0.2", "10.0.0.2")):
        try_code(app, "10.0.0.2", forwarded)
        assert seen_network(log) == seen


@pytest.mark.in_process("each worker says it once")
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_a_proxy_that_is_not_counted_is_told_once(remade, log: Log, name: str):
    client = remade(TRUSTED_PROXIES="0").test_client()
    client.get("/api/v1/health")
    assert not [line for line in log.events() if line.get("level") == "warning"]

    for _ in range(3):
        client.get("/api/v1/health", headers={name: "for=203.0.113.9"})

    [line] = [line for line in log.events() if line["event"] == "forwarded_address_ignored"]
    assert "TRUSTED_PROXIES" in line["hint"]


@pytest.mark.in_process("each worker would say it once")
def test_a_proxy_that_is_counted_is_not_told(remade, log: Log):
    remade(TRUSTED_PROXIES="1").test_client().get(
        "/api/v1/health", headers={"X-Forwarded-For": "203.0.113.9"}
    )

    assert "forwarded_address_ignored" not in log.text


@pytest.mark.parametrize("forwarded", ["garbage", "x" * 4000, "\xff", ",,,", "203.0.113.9:4711"])
def test_nonsense_from_a_proxy_breaks_nothing(remade, forwarded: str):
    assert try_code(remade(TRUSTED_PROXIES="1"), "10.0.0.2", forwarded).status_code == 401


# Paths are what they are


@pytest.mark.parametrize(
    "path", ["//health", "/health/", "/./health", "/users/../health", "/%2e%2e/", "/Health"]
)
def test_a_path_that_looks_alike_is_another(stranger: Person, path: str):
    answer = stranger.get(path)

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
