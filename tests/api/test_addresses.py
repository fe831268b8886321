"""Addresses as people type them, wherever one comes in."""

from collections.abc import Callable

import pytest
from flask import Flask

from runtime.models.users import User
from tests import openapi_checker
from tests.conftest import PASSWORD, Outbox, Person

EMAIL = "ada@example.org"


def typed(address: str) -> str:
    """As autofill and a Chinese keyboard leave it."""
    return f"  {address.replace('@', '＠').replace('.', '。')} "


def test_an_account_is_lived_with_an_address_as_it_is_typed(
    app: Flask, stranger: Person, outbox: Outbox
):
    begun = {"username": "ada", "email": typed(EMAIL), "password": PASSWORD}
    assert stranger.post("/auth/verifications", begun).json == {"email": EMAIL}
    verified = stranger.post(
        "/auth/verifications/verify", {"email": typed(EMAIL), "token": outbox.code(EMAIL)}
    )
    assert verified.json["user"]["email"] == EMAIL
    with app.app_context():
        assert User.get().email == EMAIL

    session = {"email": typed(EMAIL), "password": PASSWORD}
    assert stranger.post("/auth/sessions", session).status_code == 200
    assert stranger.post("/auth/recoveries", {"email": typed(EMAIL)}).json == {"email": EMAIL}
    recovery = {"token": outbox.code(EMAIL), "password": "another horse"}
    recovered = stranger.post("/auth/recoveries/verify", {"email": typed(EMAIL), **recovery})
    assert recovered.status_code == 200

    stranger.tokens = recovered.json
    found = stranger.get("/auth/users", query_string={"email": typed(EMAIL)})
    assert (found.status_code, found.json["email"]) == (200, EMAIL)
    change = {"email": typed("ada@new.example"), "current_password": "another horse"}
    assert stranger.post("/users/me/email", change).json == {"email": "ada@new.example"}
    proof = {"email": typed("ada@new.example"), "token": outbox.code("ada@new.example")}
    changed = stranger.post("/users/me/email/verify", proof).json
    assert changed["user"]["email"] == "ada@new.example"


def test_a_resend_finds_a_sign_up_by_its_address_as_it_is_typed(stranger: Person, outbox: Outbox):
    begun = {"username": "ada", "email": EMAIL, "password": PASSWORD}
    stranger.post("/auth/verifications", begun)

    stranger.post("/auth/verifications/resend", {"email": typed(EMAIL)})

    assert len(outbox.texts(EMAIL)) == 2


def test_no_route_takes_an_address_otherwise(app: Flask):
    """Every `email` that a request may have is described as the one field that tidies it."""
    spec = openapi_checker.document(app)
    bodies = [
        openapi_checker.meant(
            spec, operation["requestBody"]["content"]["application/json"]["schema"]
        )
        for path in spec["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict) and "requestBody" in operation
    ]
    shapes = [
        openapi_checker.meant(spec, field)
        for schema in bodies
        for place, field in schema.get("properties", {}).items()
        if "email" in place
    ]
    assert len(shapes) > 5
    assert len({field["pattern"] for field in shapes}) == 1


@pytest.mark.parametrize("email", ["a da@example.org", "ada@example.org\u00a0", "＠" * 2000])
def test_what_is_no_address_is_refused_all_the_same(stranger: Person, email: str):
    answer = stranger.post("/auth/recoveries", {"email": email})

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "#/email")


def test_an_operator_may_type_an_address_likewise(app: Flask, alice: Person):
    run: Callable = app.test_cli_runner().invoke

    assert alice.id in run(args=["users", "show", typed(alice.email)]).output
    made = run(
        args=["users", "create", typed(EMAIL), "ada", "--password-stdin"], input=f"{PASSWORD}\n"
    )
    assert made.exit_code == 0
    with app.app_context():
        assert User.find_by_email(EMAIL).email == EMAIL
