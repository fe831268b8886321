"""Codes and keys as people paste them, wherever one comes in."""

import re

import pytest

from tests.conftest import PASSWORD, Outbox, Person

EMAIL = "ada@example.org"


def pasted(secret: str) -> str:
    """As a selection in a mail that went too far, and a keyboard's suggestion, leave it."""
    return f" {secret}  "


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_a_code_is_taken_as_it_is_pasted(stranger: Person, outbox: Outbox):
    stranger.post("/auth/verifications", {"username": "ada", "email": EMAIL, "password": PASSWORD})
    code = outbox.code(EMAIL)

    refused = stranger.post(
        "/auth/verifications/verify", {"email": EMAIL, "token": pasted(wrong(code))}
    )
    assert (refused.status_code, refused.json["code"]) == (401, "invalid_code")
    verified = stranger.post("/auth/verifications/verify", {"email": EMAIL, "token": pasted(code)})
    assert verified.status_code == 200

    stranger.post("/auth/recoveries", {"email": EMAIL})
    recovery = {"email": EMAIL, "token": pasted(outbox.code(EMAIL)), "password": "another horse"}
    recovered = stranger.post("/auth/recoveries/verify", recovery)
    assert recovered.status_code == 200

    stranger.tokens = recovered.json
    change = {"email": "ada@new.example", "current_password": "another horse"}
    stranger.post("/users/me/email", change)
    proof = {"email": "ada@new.example", "token": pasted(outbox.code("ada@new.example"))}
    assert stranger.post("/users/me/email/verify", proof).status_code == 200


def test_a_key_is_taken_as_it_is_pasted(alice: Person, stranger: Person, outbox: Outbox):
    change = {"email": "alice@new.example", "current_password": PASSWORD}
    alice.post("/users/me/email", change)
    key = re.search(r"(?:撤销码：|Key: )(\S+)", outbox.texts(alice.email)[-1])[1]

    answer = stranger.post("/auth/email-restorations", {"token": pasted(key)})

    assert answer.status_code == 204


@pytest.mark.parametrize(
    "token", ["12345 ", " 1234567", "123 456", "１２３４５６", "\u00a0123456", "      "]
)
def test_what_has_not_six_digits_is_no_code(stranger: Person, token: str):
    answer = stranger.post("/auth/verifications/verify", {"email": EMAIL, "token": token})

    assert (answer.status_code, answer.json["errors"]) == (
        422,
        [{"pointer": "#/token", "code": "not_a_code", "detail": "验证码应为 6 位数字"}],
    )
