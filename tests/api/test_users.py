"""/users"""

import pytest

from tests.conftest import Person


def test_one_reads_ones_own_profile(alice: Person):
    answer = alice.get("/users/me")

    assert answer.status_code == 200
    assert answer.json == {"id": alice.id, "username": "alice", "avatar_url": None, "bio": None}


def test_a_change_touches_only_what_is_present(alice: Person):
    alice.patch("/users/me", {"bio": "first", "avatar_url": "https://example.org/a.png"})

    answer = alice.patch("/users/me", {"bio": "second"})

    assert answer.status_code == 200
    assert answer.json["bio"] == "second"
    assert answer.json["avatar_url"] == "https://example.org/a.png"
    assert alice.get("/users/me").json == answer.json


def test_null_clears_avatar_and_bio(alice: Person):
    alice.patch("/users/me", {"bio": "words", "avatar_url": "https://example.org/a.png"})

    alice.patch("/users/me", {"bio": None, "avatar_url": None})

    me = alice.get("/users/me").json
    assert (me["bio"], me["avatar_url"]) == (None, None)


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://Example.org/a.png",
        "http://[2001:db8::1]:8080/?x#y",
        "http://[::ffff:192.0.2.1]/",
        "http://192.0.2.1/a.png",
        "http://localhost:9000/a.png",
        "https://my_bucket.example.org/a.png",
        "https://-a-.example.org./a.png",
        "https://münchen.example/a.png",
        "https://例え.テスト/アバター.png",
        "https://例子。中国/头像.png",
        "https://💩.la/",
        "https://example.org/头像/😀.png",
        "https://example.org/👨‍👩‍👧/❤️/🏴󠁧󠁢󠁥󠁮󠁧󠁿.png?名=😀#片",
        "https://example.org/a%20b(1)[2]{3}|^~'!$&*+,;=:@.png",
        "https://example.org?x",
        "https://example.org#x",
        "https://example.org:/%zz",
        "https://example.org/" + "字" * (2048 - 20),
    ],
)
def test_an_avatar_may_be_anywhere_on_the_web_and_is_kept_as_typed(alice: Person, url: str):
    assert alice.patch("/users/me", {"avatar_url": url}).json["avatar_url"] == url
    assert alice.get("/users/me").json["avatar_url"] == url


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("example.org/a.png", "应为 http 或 https 开头的完整网址"),
        ("//example.org/a.png", "应为 http 或 https 开头的完整网址"),
        ("https:example.org/a.png", "应为 http 或 https 开头的完整网址"),
        ("ftp://example.org/a.png", "应为 http 或 https 开头的完整网址"),
        ("data:image/png;base64,AAAA", "应为 http 或 https 开头的完整网址"),
        ("", "应为 http 或 https 开头的完整网址"),
        ("https://example.org/a b.png", "含有不支持的字符"),
        (" https://example.org/a.png", "含有不支持的字符"),
        ("https://example.org/a.png\n", "含有不支持的字符"),
        ("https://example.org/\u00a0", "含有不支持的字符"),
        ("https://example.org/\u2028", "含有不支持的字符"),
        ("https://example.org/\u202egnp.a", "含有不支持的字符"),
        ("https://example.org\\@evil.example", "含有不支持的字符"),
        ('https://example.org/"onerror=', "含有不支持的字符"),
        ("https://ada@example.org/", "网址中不能有用户名或密码"),
        ("https://ada:pw@example.org/", "网址中不能有用户名或密码"),
        ("https:///a.png", "网址中的域名或端口不正确"),
        ("https://:80/", "网址中的域名或端口不正确"),
        ("https://a..b/", "网址中的域名或端口不正确"),
        ("https://exa\u2100mple.org/", "网址中的域名或端口不正确"),
        ("https://1.2.3.256/", "网址中的域名或端口不正确"),
        ("https://[::g]/", "网址中的域名或端口不正确"),
        ("https://[1.2.3.4]/", "网址中的域名或端口不正确"),
        ("https://[::1]x/", "网址中的域名或端口不正确"),
        ("https://example.org:65536/", "网址中的域名或端口不正确"),
        ("https://example.org:8080x/", "网址中的域名或端口不正确"),
        ("https://example.org/" + "a" * 2029, "最多 2048 个字符"),
    ],
)
def test_an_avatar_is_refused_with_what_is_wrong_with_it(alice: Person, url: str, sentence: str):
    refused = alice.patch("/users/me", {"avatar_url": url})

    assert refused.status_code == 422
    [error] = refused.json["errors"]
    assert (error["pointer"], error["detail"]) == ("#/avatar_url", sentence)
    assert alice.get("/users/me").json["avatar_url"] is None


def test_an_empty_change_changes_nothing(alice: Person):
    before = alice.get("/users/me").json

    answer = alice.patch("/users/me", {})

    assert (answer.status_code, answer.json) == (200, before)


def test_a_name_is_kept_as_typed(alice: Person):
    assert alice.patch("/users/me", {"username": "Alice_L"}).json["username"] == "Alice_L"


def test_one_may_change_the_case_of_ones_own_name(alice: Person):
    assert alice.patch("/users/me", {"username": "ALICE"}).status_code == 200


@pytest.mark.parametrize("taken", ["bob", "BOB", "Bob"])
def test_a_taken_name_is_refused_whatever_its_case(alice: Person, bob: Person, taken: str):
    answer = alice.patch("/users/me", {"username": taken})

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["#/username"]
    assert alice.get("/users/me").json["username"] == "alice"


@pytest.mark.parametrize(
    "body",
    [
        {"username": None},
        {"username": "ab"},
        {"username": "a" * 31},
        {"username": "a-b-c"},
        {"username": "abc\n"},
        {"username": "аlice"},
        {"bio": "x" * 201},
        {"bio": 7},
        {"avatar_url": "ftp://example.org/a.png"},
        {"avatar_url": "/a.png"},
        {"avatar_url": "javascript:alert(1)"},
        {"avatar_url": "https://example.org:99999/"},
        {"avatar_url": "https://user:pass@example.org/"},
        {"avatar_url": "https://example.org/a b"},
        {"avatar_url": "https://example.org/" + "a" * 2048},
        {"email": "new@example.org"},
        {"id": "x"},
    ],
)
def test_a_change_that_makes_no_sense_is_refused_whole(alice: Person, body: dict):
    answer = alice.patch("/users/me", {"bio": "x", **body})

    assert answer.status_code == 422
    assert alice.get("/users/me").json["bio"] is None


def test_others_are_found_by_name_whatever_its_case(alice: Person, bob: Person):
    answer = alice.get("/users/BOB")

    assert answer.status_code == 200
    assert answer.json == {"id": bob.id, "username": "bob", "avatar_url": None, "bio": None}


def test_an_unknown_name_is_not_found(alice: Person):
    answer = alice.get("/users/nobody")

    assert answer.status_code == 404
    assert answer.json["detail"] == "用户不存在"


@pytest.mark.parametrize("name", ["ab", "a" * 31, "a-b", "a%20b", "%E4%BD%A0%E5%A5%BD%E5%90%97"])
def test_a_name_that_breaks_the_pattern_is_refused(alice: Person, name: str):
    answer = alice.get(f"/users/{name}")

    assert answer.status_code == 422
    assert answer.json["errors"][0]["parameter"] == "username"


@pytest.mark.parametrize("path", ["/users/me", "/users/alice"])
def test_profiles_are_for_who_is_signed_in(stranger: Person, path: str):
    answer = stranger.get(path)

    assert answer.status_code == 401
    assert answer.json["detail"] == "未认证"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
