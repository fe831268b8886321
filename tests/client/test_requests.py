"""client.mjs keeps the tokens, renews them once, and does nothing twice."""

import json
from pathlib import Path

import pytest

from tests.client.scripted import (
    JSON,
    NOTHING,
    USER,
    Answer,
    Asked,
    new_pair,
    pair,
    play,
    problem,
    serving,
    value,
)

REFRESH = "POST /auth/sessions/refresh"
GET = 'say(await outcome(client.request("GET", "/users/me")));'
POST = 'say(await outcome(client.request("POST", "/things", { a: 1 })));'


def renewing(number: int, asked: Asked) -> Answer:
    """A service where the first access token is over."""
    if asked.path.endswith("/refresh"):
        return new_pair(2)
    if asked.headers.get("Authorization") == "Bearer access 1":
        return problem(401, "invalid_access_token")
    return value({"number": number})


@pytest.mark.parametrize("renew_at", [0, 9e15], ids=["by its time", "by a refusal"])
def test_a_token_that_is_over_is_renewed_once_for_all(tmp_path: Path, renew_at: float):
    script = """
    const asked = Array.from({ length: 9 }, () => client.request("GET", "/users/me"));
    say((await Promise.all(asked)).length);"""
    with serving(renewing) as server:
        played = play(tmp_path, server.origin, script, pair(renew_at=renew_at))

    assert (played.value, played.told) == (9, [])
    assert server.paths.count(REFRESH) == 1
    assert (server.paths[0] == REFRESH) == (renew_at == 0)
    [refresh] = [each for each in server.asked if each.path.endswith("/refresh")]
    assert refresh.body == {"refresh_token": "refresh 1"}
    assert "Authorization" not in refresh.headers
    assert played.kept["access_token"] == "access 2"
    assert played.kept["refresh_token"] == "refresh 2"


def test_a_new_token_is_used_until_shortly_before_its_end(tmp_path: Path):
    script = """
    const began = Date.now();
    await client.signIn("ada@example.org", "secret");
    await client.request("GET", "/x");
    Date.now = () => began + 3_300_000;
    await client.request("GET", "/x");
    Date.now = () => began + 3_590_000;
    await client.request("GET", "/x");
    say(client.user);"""
    with serving(lambda number, a: new_pair(number) if "auth" in a.path else value(1)) as server:
        played = play(tmp_path, server.origin, script)

    assert played.value == USER
    get = "GET /x"
    assert server.paths == ["POST /auth/sessions", get, get, REFRESH, get]


@pytest.mark.parametrize(
    "answer",
    [
        *(NOTHING, (500, {}, b""), (502, {}, b"<html>"), (200, JSON, b"{")),
        *(problem(503, "unavailable"), problem(429, "busy", **{"Retry-After": "99"})),
    ],
)
def test_only_a_refused_refresh_signs_out(tmp_path: Path, answer: Answer):
    with serving(lambda *_: answer) as server:
        played = play(tmp_path, server.origin, POST, pair(renew_at=0))

    assert played.value["problem"]["name"] == "Problem"
    assert (played.user, played.told) == (USER, [])
    assert played.kept == pair(renew_at=0)
    assert set(server.paths) == {REFRESH}
    assert len(server.asked) <= 3


def test_a_refused_refresh_signs_out(tmp_path: Path):
    with serving(lambda *_: problem(401, "invalid_refresh_token")) as server:
        played = play(tmp_path, server.origin, GET, pair(renew_at=0))

    assert played.value["problem"]["status"] == 401
    assert played.value["problem"]["code"] == "signed_out"
    assert played.value["problem"]["detail"] == "You are signed out. Please sign in again."
    assert (played.user, played.told) == (None, ["signedout"])
    assert played.kept == {"refresh_token": "refresh 1"}
    assert server.paths == [REFRESH]


def test_another_tabs_tokens_are_taken_as_they_are(tmp_path: Path):
    """It was renewed, or signed out, while this one waited for its turn."""
    script = f"""
    const asked = outcome(client.request("GET", "/users/me"));
    kept = {json.dumps(json.dumps(pair(2)))};
    say(await asked);"""
    with serving(renewing) as server:
        played = play(tmp_path, server.origin, script, pair(1))

    assert played.value == {"value": {"number": 2}}
    assert REFRESH not in server.paths


def test_a_pair_that_arrives_after_a_sign_out_signs_nobody_in(tmp_path: Path):
    """Another password answers a pair, perhaps only when somebody else uses the browser."""
    script = """
    const asked = outcome(client.request("PUT", "/users/me/password", {}));
    kept = "{}";
    say(await asked);"""
    with serving(lambda *_: new_pair(2)) as server:
        played = play(tmp_path, server.origin, script, pair(1))

    assert server.paths == ["PUT /users/me/password"]
    assert (played.user, played.kept) == (None, {})


def test_a_sign_out_during_a_refresh_stays_one(tmp_path: Path):
    def answer(number: int, asked: Asked) -> Answer:
        return (204, {}, b"") if asked.method == "DELETE" else renewing(number, asked)

    script = """
    const asked = outcome(client.request("GET", "/users/me"));
    await client.signOut();
    say(await asked);"""
    with serving(answer) as server:
        played = play(tmp_path, server.origin, script, pair(renew_at=0))

    assert played.value["problem"]["code"] == "signed_out"
    assert (played.user, played.told) == (None, ["signedout"])


@pytest.mark.parametrize("code", ["invalid_code", "wrong_credentials", "not_authenticated"])
def test_a_code_or_password_that_is_refused_is_not_tried_again(tmp_path: Path, code: str):
    with serving(lambda *_: problem(401, code)) as server:
        played = play(tmp_path, server.origin, POST, pair())

    assert played.value["problem"]["code"] == code
    assert len(server.asked) == 1
    assert played.user == USER


def test_a_token_that_is_refused_again_is_told(tmp_path: Path):
    def answer(_number: int, asked: Asked) -> Answer:
        refresh = asked.path.endswith("/refresh")
        return new_pair(2) if refresh else problem(401, "invalid_access_token")

    with serving(answer) as server:
        played = play(tmp_path, server.origin, GET, pair())

    assert played.value["problem"]["code"] == "invalid_access_token"
    assert len(server.asked) == 3


def test_nothing_is_done_in_the_name_of_who_signed_in_meanwhile(tmp_path: Path):
    other = json.dumps(json.dumps(pair(2, user={"id": "another", "email": "b@example.org"})))
    script = f"""
    const asked = outcome(client.request("DELETE", "/users/me", {{}}));
    while (!requests.length) await new Promise((go) => setImmediate(go));
    kept = {other};
    say(await asked);"""
    with serving(renewing) as server:
        played = play(tmp_path, server.origin, script, pair())

    assert played.value["problem"]["code"] == "signed_out"
    assert server.paths == ["DELETE /users/me"]
    assert played.kept["access_token"] == "access 2"


def test_what_may_be_asked_twice_is_asked_again(tmp_path: Path):
    script = """
    const keyed = { headers: { "Idempotency-Key": "k" } };
    say([
      await client.request("GET", "/a"),
      await client.request("POST", "/b", {}, keyed),
      await client.stop("c", "d").then(() => "stopped"),
    ]);"""
    with serving(lambda number, _: value(number) if number % 3 == 0 else NOTHING) as server:
        played = play(tmp_path, server.origin, script)

    assert played.value == [3, 6, "stopped"]
    assert len(server.asked) == 9
    assert len(played.waits) == 6 and max(played.waits) < 2


@pytest.mark.parametrize("answer", [NOTHING, (502, {}, b""), (503, {}, b"")])
def test_what_may_not_be_done_twice_is_not(tmp_path: Path, answer: Answer):
    with serving(lambda *_: answer) as server:
        played = play(tmp_path, server.origin, POST)

    assert played.value["problem"]["code"] == "unreachable"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_what_was_refused_until_later_is_asked_again_then(tmp_path: Path, status: int):
    busy = problem(status, "busy", **{"Retry-After": "4"})
    with serving(lambda number, _: busy if number == 1 else value(number)) as server:
        played = play(tmp_path, server.origin, POST)

    assert played.value == {"value": 2}
    assert len(server.asked) == 2
    assert 4 <= played.waits[0] <= 5


def test_who_would_have_to_wait_long_is_told_how_long(tmp_path: Path):
    busy = problem(429, "too_many_requests", **{"Retry-After": "600"})
    with serving(lambda *_: busy) as server:
        played = play(tmp_path, server.origin, GET)

    assert played.value["problem"]["retryAfter"] == 600
    assert (len(server.asked), played.waits) == (1, [])


def test_a_request_is_given_up(tmp_path: Path):
    with serving(lambda *_: problem(503, "busy", **{"Retry-After": "1"})) as server:
        played = play(tmp_path, server.origin, GET)

    assert played.value["problem"]["status"] == 503
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((404, {"Content-Type": "text/html"}, b"<html>nginx</html>"), 404),
        ((413, JSON, b"[1]"), 413),
        ((403, {}, b""), 403),
        ((400, JSON, b"null"), 400),
        ((200, {"Content-Type": "text/html"}, b"<html>login</html>"), 0),
    ],
)
def test_what_a_proxy_says_becomes_a_problem(tmp_path: Path, answer: Answer, status: int):
    with serving(lambda *_: answer):
        pass
    with serving(lambda *_: answer) as server:
        played = play(tmp_path, server.origin, POST)

    told = played.value["problem"]
    assert (told["name"], told["status"], told["errors"]) == ("Problem", status, [])
    assert told["message"] == told["detail"] != ""


def test_a_problem_has_what_the_service_told(tmp_path: Path):
    errors = [
        {"pointer": "#/a", "code": "required", "detail": "This is required."},
        {"parameter": "limit", "code": "too_large", "detail": "At most 100."},
    ]
    members = {"title": "Unprocessable Entity", "detail": "No.", "code": "c", "errors": errors}
    with serving(lambda *_: (422, JSON, json.dumps(members).encode())) as server:
        played = play(tmp_path, server.origin, POST)

    whole = {**members, "errors": [errors[0], {**errors[1], "pointer": ""}]}
    assert played.value["problem"] == {**whole, "name": "Problem", "status": 422, "message": "No."}


def test_an_empty_answer_is_null(tmp_path: Path):
    with serving(lambda *_: (204, {}, b"")) as server:
        assert play(tmp_path, server.origin, POST).value == {"value": None}


def test_who_signs_out_offline_is_signed_out_here(tmp_path: Path):
    script = "say(await outcome(client.signOut()));"

    played = play(tmp_path, "http://127.0.0.1:9", script, pair())

    assert played.value["problem"]["status"] == 0
    assert (played.user, played.told, played.kept) == (None, ["signedout"], {})


def test_a_device_is_known_by_its_last_token(tmp_path: Path):
    script = """
    await client.signOut();
    await client.signOut();
    say(await client.signIn("ada@example.org", "secret"));"""
    with serving(lambda _, a: (204, {}, b"") if a.method == "DELETE" else new_pair(2)) as server:
        played = play(tmp_path, server.origin, script, pair())

    assert server.paths == ["DELETE /auth/sessions", "POST /auth/sessions"]
    assert server.asked[1].body["refresh_token"] == "refresh 1"
    assert (played.value, played.told) == (USER, ["signedout", "signedin"])


def test_a_new_pair_in_an_answer_is_kept(tmp_path: Path):
    script = 'say(await client.request("PUT", "/users/me/password", {}));'
    with serving(lambda *_: new_pair(2)) as server:
        played = play(tmp_path, server.origin, script, pair())

    assert played.kept["access_token"] == "access 2"
    assert played.told == []


def test_no_secret_is_in_a_url(tmp_path: Path):
    script = """
    await client.signUp({ username: "ada", email: "ada@example.org", password: "secret" });
    await client.resend("ada@example.org");
    await client.verify("ada@example.org", "123456");
    await client.signIn("ada@example.org", "secret");
    await client.request("GET", "/users/me");
    await client.signOut();
    say(0);"""
    with serving(lambda *_: new_pair(1)) as server:
        played = play(tmp_path, server.origin, script)

    assert len(played.urls) == 6
    assert [url for url in played.urls if "?" in url or "@" in url or "secret" in url] == []
    assert server.asked[2].body == {"email": "ada@example.org", "token": "123456"}
    assert {each.headers["Accept-Language"] for each in server.asked} == {"en"}


def test_what_is_sent_goes_nowhere_else(tmp_path: Path):
    with serving(lambda *_: value(1)) as other:
        there = (307, {"Location": f"{other.origin}/api/v1/things"}, b"")
        with serving(lambda *_: there) as server:
            played = play(tmp_path, server.origin, POST, pair())

    assert played.value["problem"]["code"] == "unreachable"
    assert (len(server.asked), other.asked) == (1, [])
