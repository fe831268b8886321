"""/users/me/events"""

import pytest
from flask import Flask

from runtime.services.accounts.security_log import Kind
from tests.conftest import PASSWORD, Person, instant

DEVICE = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1) Version/18.1 Safari/604.1"}


def at(app: Flask, network: str, **tokens) -> Person:
    """Somebody on another network."""
    return Person(app.test_client(), network, tokens=tokens)


def sign_in(person: Person, password=PASSWORD, email="alice@example.org"):
    body = {"email": email, "password": password}
    return person.post("/auth/sessions", body, headers=DEVICE)


def journal(person: Person, **query) -> list[dict]:
    answer = person.get("/users/me/events", query_string=query)
    assert answer.status_code == 200
    return answer.json["events"]


def kinds(person: Person) -> list[str]:
    return [event["type"] for event in journal(person)]


def test_one_reads_what_happened_to_ones_account(app: Flask, alice: Person):
    tokens = sign_in(at(app, "192.0.2.7")).json
    newest = journal(alice)[0]

    assert newest.keys() == {
        "id",
        "type",
        "created_at",
        "network",
        "device",
        "session_id",
        "by_administrator",
    }
    assert (newest["type"], newest["network"]) == ("signed_in", "192.0.2.7")
    assert newest["device"] == "Safari · iPhone"
    assert instant(newest["created_at"])
    current = at(app, "192.0.2.7", **tokens).get("/auth/sessions").json["sessions"][0]
    assert (newest["session_id"], current["is_current"]) == (current["id"], True)


def test_refused_tries_are_in_it_and_whose_they_were(app: Flask, ground, alice: Person):
    thief = at(app, "203.0.113.66")
    sign_in(thief, "not the password")
    body = {"email": alice.email.upper(), "token": "000000"}
    thief.post("/auth/verifications/verify", body, headers=DEVICE)
    ground.settle()

    refused = [event for event in journal(alice) if event["type"].endswith("_refused")]
    assert sorted(event["type"] for event in refused) == ["code_refused", "sign_in_refused"]
    for event in refused:
        assert (event["network"], event["device"]) == ("203.0.113.66", "Safari · iPhone")
        assert event["session_id"] is None


def test_a_stolen_refresh_token_is_in_it_once(app: Flask, alice: Person):
    reader = at(app, alice.network, **sign_in(alice).json)
    second = at(app, alice.network, **alice.refresh().json)
    second.refresh()
    thief = at(app, "203.0.113.66")
    for _ in range(3):
        assert thief.refresh(alice.tokens["refresh_token"]).status_code == 401

    stolen = [event for event in journal(reader) if event["type"] == "refresh_token_reused"]
    assert [event["network"] for event in stolen] == ["203.0.113.66"]


def test_every_way_to_end_a_session_is_in_it(app: Flask, alice: Person):
    reader = at(app, alice.network, **sign_in(alice).json)
    others = [at(app, alice.network, **sign_in(alice).json) for _ in range(2)]
    ids = [session["id"] for session in reader.get("/auth/sessions").json["sessions"]]
    reader.delete(f"/auth/sessions/{ids[0]}")
    others[0].delete("/auth/sessions", {"refresh_token": others[0].tokens["refresh_token"]})
    own = {"refresh_token": reader.tokens["refresh_token"]}
    reader.delete("/auth/sessions", own | {"scope": "others"})
    assert kinds(reader)[:3] == ["other_sessions_ended", "signed_out", "session_ended"]
    assert journal(reader)[2]["session_id"] == ids[0]

    reader.delete("/auth/sessions", own | {"scope": "all"})
    assert kinds(at(app, alice.network, **sign_in(alice).json))[1] == "all_sessions_ended"


def test_what_ended_nothing_is_not_in_it(app: Flask, alice: Person):
    own = {"refresh_token": alice.tokens["refresh_token"]}
    alice.delete("/auth/sessions", own | {"scope": "others"})
    assert kinds(alice) == ["signed_in"]

    reader = at(app, alice.network, **sign_in(alice).json)
    for _ in range(3):
        alice.delete("/auth/sessions", own)
    assert kinds(reader).count("signed_out") == 1


def test_nobody_reads_anybody_elses(alice: Person, charlie: Person):
    hers, his = journal(alice), journal(charlie)

    assert len(hers) == len(his) == 1
    assert hers[0]["id"] != his[0]["id"]


def test_it_is_for_who_is_signed_in(stranger: Person):
    answer = stranger.get("/users/me/events")

    assert (answer.status_code, answer.json["detail"]) == (401, "未认证")


def test_it_comes_in_pages(alice: Person):
    for _ in range(4):
        sign_in(alice)
    whole = journal(alice)
    seen, query = [], {"limit": 2}
    for _ in range(3):
        answer = alice.get("/users/me/events", query_string=query).json
        seen += answer["events"]
        query = {"limit": 2, "cursor": answer["next_cursor"]}

    assert (seen, answer["next_cursor"]) == (whole, None)
    assert len(whole) == 5


def test_nothing_secret_is_in_it(app: Flask, ground, alice: Person):
    sign_in(at(app, "192.0.2.7"), "a wrong Passw0rd")
    alice.post("/auth/verifications/verify", {"email": alice.email, "token": "735902"})
    alice.post("/auth/verifications/resend", {"email": alice.email})
    alice.refresh()
    ground.settle()

    text = alice.get("/users/me/events").text
    assert len(journal(alice)) == 4
    for secret in (PASSWORD, "a wrong Passw0rd", "735902", *alice.tokens.values(), alice.email):
        assert str(secret) not in text


NONSENSE = [
    ("limit=0", "limit", "应为 1 到 100 的整数"),
    ("limit=101", "limit", "应为 1 到 100 的整数"),
    *((f"limit={text}", "limit", "应为 1 到 100 的整数") for text in ("", "-1", "1.0", "1_0", "٣")),
    *((f"limit={text}", "limit", "应为 1 到 100 的整数") for text in ("%2B1", " 1", "9" * 5000)),
    ("limit=1&limit=2", "limit", "字段重复"),
    *((f"cursor={text}", "cursor", "应为上一页返回的 next_cursor") for text in ("", "x", "0" * 45)),
    ("cursor=" + "0" * 47, "cursor", "应为上一页返回的 next_cursor"),
    ("cursor=" + "F" * 46, "cursor", "应为上一页返回的 next_cursor"),
    ("cursor=" + "0" * 45 + "٣", "cursor", "应为上一页返回的 next_cursor"),
    ("cursor=" + "0" * 46 + "%0a", "cursor", "应为上一页返回的 next_cursor"),
    ("page=2", "page", "未知字段"),
]


@pytest.mark.parametrize("path", ["/users/me/events", "/auth/sessions"])
def test_a_page_that_makes_no_sense_is_refused(alice: Person, path: str):
    for query, parameter, detail in NONSENSE:
        answer = alice.get(f"{path}?{query}")
        assert answer.status_code == 422, query
        [error] = answer.json["errors"]
        assert (error["parameter"], error["detail"]) == (parameter, detail), query


@pytest.mark.parametrize("query", ["cursor=" + "0" * 46, "cursor=" + "f" * 46, "limit=100"])
def test_any_place_may_be_asked_for(alice: Person, query: str):
    assert alice.get(f"/users/me/events?{query}").status_code == 200


def test_every_type_is_in_the_document(stranger: Person):
    shapes = stranger.get("/openapi.json").json["components"]["schemas"]

    assert shapes["SecurityEvent"]["properties"]["type"]["enum"] == [str(kind) for kind in Kind]
