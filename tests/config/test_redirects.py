"""Where mailed links may lead."""

import pytest

from runtime.config.redirects import has_own_name, is_allowed, parse_allowlist

ALLOWED = parse_allowlist(
    "https://app.example.org, http://localhost:3000/ https://example.org/app"
    " https://example.org/docs/ https://example.org/go?to=app"
)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.org",
        "https://APP.example.org:443/any/path?a=1#there",
        "http://localhost:3000/verify",
        "https://example.org/app",
        "https://example.org/app/",
        "https://example.org/app?a=1",
        "https://example.org/app/verify#here",
        "https://example.org/docs/verify",
        "https://example.org/go?to=app",
    ],
)
def test_what_an_entry_names_and_what_is_below_is_allowed(url: str):
    assert is_allowed(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.org.evil.com/",
        "https://app.example.org@evil.com/",
        "https://user@app.example.org/",
        "https://example.org/",
        "https://example.org",
        "http://example.org/app",
        "https://example.org:8443/app",
        "https://example.org/apple",
        "https://example.org/app;x",
        "https://example.org/App",
        "https://example.org/%61pp",
        "https://example.org/other/app",
        "https://example.org/app/../admin",
        "https://example.org/app/./../admin",
        "https://example.org/app/..",
        "https://example.org/app/%2e%2e/admin",
        "https://example.org/app/.%2E/admin",
        "https://example.org/app/%252e%252e/admin",
        "https://example.org/app/..%2fadmin",
        "https://example.org/app%2f..%2fadmin",
        "https://example.org/app/..%5cadmin",
        "https://example.org/app\\..\\admin",
        "https://example.org/app/..;/admin",
        "https://example.org/app/%2e%2e;x=1/admin",
        "https://example.org/app/..%3B/admin",
        "https://example.org/app/%09../admin",
        "https://example.org/app/.%00./admin",
        "https://example.org/app/.%250a./admin",
        "https://example.org/app/%c0%ae%c0%ae/admin",
        "https://app.example.org/?token%00x=1",
        "https://app.example.org/?to%0Aken=1",
        "https://app.example.org/?a=%2500",
        "https://app.example.org/#%7f",
        "https://app.example.org/%0d%0aX:1",
        "https://example.org//app",
        "https://example.org/docs",
        "https://example.org/go",
        "https://example.org/go?to=apple",
        "https://example.org/go?to=app&next=https://evil.com",
        "https://example.org/go?to=app#there",
    ],
)
def test_what_only_looks_like_an_entry_is_not_allowed(url: str):
    assert not is_allowed(url, ALLOWED)


@pytest.mark.parametrize(
    "value",
    [
        "app.example.org",
        "javascript:alert(1)",
        "ftp://example.org",
        "https://",
        "https://user@example.org",
        "https://example.org:0",
        "https://example.org:99999",
        "https://example.org/a/../b",
        "https://example.org/%2e%2e/b",
        "https://example.org\\b",
        "https://exämple.org",
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(value: str):
    with pytest.raises(ValueError):
        parse_allowlist(value)


@pytest.mark.parametrize(
    "rest",
    [
        "?email=x",
        "?EMail=x",
        "?a=1&token=2",
        "?a=1;token=2",
        "?a=1&token",
        "?token[]=1",
        "?restoration=",
        "#token=1",
        "#/verify?token=1",
        "?a=1#email=x",
        "?%65mail=x",
        "?e%6Dail=x",
        "?%2565mail=x",
        "?%74oken%3D1",
        "?a=1%26token%3D1",
        "?+token=1",
        "?%20token=1",
        "?%00token=1",
    ],
)
def test_a_name_of_our_own_is_found_however_it_is_written(rest: str):
    assert has_own_name(f"https://app.example.org/{rest}")


@pytest.mark.parametrize(
    "rest",
    ["", "email/token", "?a=token", "?emails=1", "?my_email=1", "?my-token=1", "#/verify?x=1"],
)
def test_other_names_are_no_name_of_our_own(rest: str):
    assert not has_own_name(f"https://app.example.org/{rest}")
