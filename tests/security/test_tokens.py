import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from itsdangerous import Signer

from runtime.security.tokens import (
    ACCESS_SECONDS,
    LEEWAY_SECONDS,
    Claims,
    InvalidToken,
    Tokens,
    make_code,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
CLAIMS = Claims(UUID(int=1), UUID(int=2), 3)
FIELDS = f"{CLAIMS.user_id.hex}.{CLAIMS.session_id.hex}.3"
TOKENS = Tokens(["the key"])


def _signed(salt: str, fields: str = FIELDS) -> str:
    """Fields signed with our key for this purpose."""
    return Signer("the key", salt=salt, digest_method=hashlib.sha256).sign(fields).decode()


GOOD = (TOKENS.make_refresh(CLAIMS), TOKENS.make_access(CLAIMS, NOW))


def test_a_token_says_what_it_was_made_of():
    assert TOKENS.read_access(TOKENS.make_access(CLAIMS, NOW), NOW) == CLAIMS
    assert TOKENS.read_refresh(TOKENS.make_refresh(CLAIMS)) == CLAIMS


@pytest.mark.parametrize("seconds", [-3600, -1, 0, ACCESS_SECONDS, ACCESS_SECONDS + LEEWAY_SECONDS])
def test_an_access_token_is_good_for_an_hour_also_when_the_clock_was_set_back(seconds: int):
    token = TOKENS.make_access(CLAIMS, NOW)

    assert TOKENS.read_access(token, NOW + timedelta(seconds=seconds)) == CLAIMS


def test_an_access_token_runs_out():
    token = TOKENS.make_access(CLAIMS, NOW)
    later = NOW + timedelta(seconds=ACCESS_SECONDS + LEEWAY_SECONDS + 1)

    TOKENS.read_access(token, NOW)  # and is kept
    with pytest.raises(InvalidToken):
        TOKENS.read_access(token, later)


def test_a_refresh_token_is_the_same_whenever_it_is_made():
    assert TOKENS.make_refresh(CLAIMS) == Tokens(["the key", "old"]).make_refresh(CLAIMS)


def test_one_kind_of_token_does_not_pass_for_the_other():
    """Not for its shape alone: each has a salt of its own."""
    assert TOKENS.read_refresh(_signed("refresh-token")) == CLAIMS
    with pytest.raises(InvalidToken):
        TOKENS.read_refresh(_signed("access-token"))
    with pytest.raises(InvalidToken):
        TOKENS.read_access(TOKENS.make_refresh(CLAIMS), NOW)
    with pytest.raises(InvalidToken):
        TOKENS.read_refresh(TOKENS.make_access(CLAIMS, NOW))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "x.y",
        "é.é",
        "W10.",
        "x" * 10_000,
        Tokens(["another key"]).make_refresh(CLAIMS),
        Signer("the key").sign(FIELDS).decode(),
        Signer("the key", salt="refresh-token").sign(FIELDS).decode(),
        _signed("another-purpose"),
        _signed("refresh-token", "WyJiNzQiLDNd"),
        _signed("access-token", "x.y.z"),
        *(f"{good}{more}" for good in GOOD for more in ("!", "=", " ", "!" * 8000)),
        *(f"{good[:-5]}!{good[-5:]}" for good in GOOD),
    ],
)
def test_what_is_not_ours_is_refused(token: str):
    with pytest.raises(InvalidToken):
        TOKENS.read_refresh(token)
    with pytest.raises(InvalidToken):
        TOKENS.read_access(token, NOW)


def test_a_token_names_its_user_and_its_session_and_holds_nothing_secret():
    assert TOKENS.make_refresh(CLAIMS).rpartition(".")[0] == FIELDS
    assert TOKENS.make_access(CLAIMS, NOW).startswith(f"{FIELDS}.")


def test_the_newest_key_signs_and_all_verify():
    both, old, new = Tokens(["new", "old"]), Tokens(["old"]), Tokens(["new"])

    assert both.read_refresh(old.make_refresh(CLAIMS)) == CLAIMS
    assert both.read_access(old.make_access(CLAIMS, NOW), NOW) == CLAIMS
    assert new.read_refresh(both.make_refresh(CLAIMS)) == CLAIMS
    with pytest.raises(InvalidToken):
        old.read_refresh(both.make_refresh(CLAIMS))


def test_the_hash_of_a_code_is_keyed_and_its_owners_own():
    owner, other = uuid4(), uuid4()
    kept = TOKENS.hash_code(owner, "123456")

    assert TOKENS.matches_code(owner, "123456", kept)
    assert not TOKENS.matches_code(owner, "123457", kept)
    assert not TOKENS.matches_code(other, "123456", kept)
    assert not Tokens(["another key"]).matches_code(owner, "123456", kept)
    for plain in ("123456", f"code:{owner}:123456"):
        assert kept != hashlib.sha256(plain.encode()).hexdigest()


def test_a_code_survives_a_new_key():
    owner = uuid4()
    kept = Tokens(["old"]).hash_code(owner, "123456")

    assert Tokens(["new", "old"]).matches_code(owner, "123456", kept)
    assert not Tokens(["new"]).matches_code(owner, "123456", kept)


def test_an_address_has_one_name_whatever_its_case_and_key():
    name = Tokens(["old"]).keyed_hash("Ada@example.org")

    assert name == Tokens(["new", "old"]).keyed_hash("ada@EXAMPLE.org")
    assert name != Tokens(["old"]).keyed_hash("bob@example.org")
    assert name != Tokens(["another"]).keyed_hash("ada@example.org")


def test_codes_have_six_digits_and_are_all_over_the_place():
    codes = [make_code() for _ in range(5000)]

    assert all(len(code) == 6 and code.isascii() and code.isdigit() for code in codes)
    assert len(set(codes)) > 4900
    for place in range(6):
        assert {code[place] for code in codes} == set("0123456789")


def test_a_restoration_token_is_written_in_one_way():
    change_id = uuid4()
    token = TOKENS.make_restoration(change_id)

    assert TOKENS.read_restoration(token) == change_id
    with pytest.raises(InvalidToken):
        TOKENS.read_restoration(f"{token}!")
