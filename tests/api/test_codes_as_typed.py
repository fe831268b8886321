"""Codes and keys as people type and paste them, wherever one comes in."""

import re

import pytest

from tests.conftest import PASSWORD, Outbox, Person

EMAIL = "ada@example.org"
WIDE = str.maketrans("0123456789", "０１２３４５６７８９")
AS_TYPED = [
    pytest.param(lambda code: f" {code}\r\n", id="with the end of its line"),
    pytest.param(lambda code: f"\u00a0{code}\t", id="from a page"),
    pytest.param(lambda code: f"{code[:3]} {code[3:]}", id="in two halves"),
    pytest.param(lambda code: code.translate(WIDE), id="by a Chinese keyboard"),
]


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


@pytest.mark.parametrize("typed", AS_TYPED)
def test_a_code_is_taken_as_it_is_typed(stranger: Person, outbox: Outbox, typed):
    stranger.post("/auth/verifications", {"username": "ada", "email": EMAIL, "password": PASSWORD})
    code = outbox.code(EMAIL)

    refused = stranger.post(
        "/auth/verifications/verify", {"email": EMAIL, "token": typed(wrong(code))}
    )
    assert (refused.status_code, refused.json["code"]) == (401, "invalid_code")
    verified = stranger.post("/auth/verifications/verify", {"email": EMAIL, "token": typed(code)})
    assert verified.status_code == 200

    stranger.post("/auth/recoveries", {"email": EMAIL})
    recovery = {"email": EMAIL, "token": typed(outbox.code(EMAIL)), "password": "another horse"}
    recovered = stranger.post("/auth/recoveries/verify", recovery)
    assert recovered.status_code == 200

    stranger.tokens = recovered.json
    change = {"email": "ada@new.example", "current_password": "another horse"}
    stranger.post("/users/me/email", change)
    proof = {"email": "ada@new.example", "token": typed(outbox.code("ada@new.example"))}
    assert stranger.post("/users/me/email/verify", proof).status_code == 200


def test_a_key_is_taken_as_it_is_pasted(alice: Person, stranger: Person, outbox: Outbox):
    change = {"email": "alice@new.example", "current_password": PASSWORD}
    alice.post("/users/me/email", change)
    key = re.search(r"(?:撤销码：|Key: )(\S+)", outbox.texts(alice.email)[-1])[1]
    pasted = f" {key[:57]}\n{key[57:]}\n"

    answer = stranger.post("/auth/email-restorations", {"token": pasted})

    assert answer.status_code == 204


@pytest.mark.parametrize("token", ["12345", "1234567", "12 34 5", "１２３４５", "¹²³⁴⁵⁶", "      "])
def test_what_has_not_six_digits_is_no_code(stranger: Person, token: str):
    answer = stranger.post("/auth/verifications/verify", {"email": EMAIL, "token": token})

    assert (answer.status_code, answer.json["errors"]) == (
        422,
        [{"pointer": "#/token", "code": "not_a_code", "detail": "验证码应为 6 位数字"}],
    )
