"""The examples of errors in the OpenAPI document are what the routes answer: they are asked."""

import re
from uuid import uuid4

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests import openapi_checker
from tests.conftest import PASSWORD, Person

METHODS = ("get", "post", "put", "patch", "delete")


def example(app: Flask, method: str, path: str, code: str) -> dict:
    """The documented answer of a route with this code."""
    spec = openapi_checker.document(app)
    response = openapi_checker.meant(spec, spec["paths"][path][method]["responses"]["422"])
    examples = response["content"]["application/problem+json"]["examples"]
    return openapi_checker.meant(spec, examples[code])["value"]


def asked(app: Flask, person: Person, method: str, path: str, *, wrongly: bool) -> TestResponse:
    """The answer to a request without parameters, or with `?` in the first."""
    spec = openapi_checker.document(app)
    operation = spec["paths"][path][method]
    url = re.sub(r"{\w+_id}", str(uuid4()), path).replace("{username}", "%3F")
    kwargs: dict = {}
    if body := operation.get("requestBody"):
        shape = openapi_checker.meant(spec, body["content"]["application/json"]["schema"])
        kwargs["json"] = {next(iter(shape["properties"])): "?"} if wrongly else {}
    elif wrongly and "parameters" in operation:
        first = openapi_checker.meant(spec, operation["parameters"][0])
        place = {"query": "query_string", "header": "headers"}[first["in"]]
        kwargs[place] = {first["name"]: "?"}
    return person.request(method.upper(), url.removeprefix("/api/v1"), **kwargs)


def test_each_route_answers_wrong_parameters_as_documented(app: Flask, admin: Person):
    spec = openapi_checker.document(app)
    routes = [
        (method, path)
        for path, item in spec["paths"].items()
        for method in METHODS
        if method in item and "422" in item[method]["responses"]
    ]

    assert len(routes) > 25
    for method, path in routes:
        answer = asked(app, admin, method, path, wrongly=False)
        if answer.status_code != 422:
            answer = asked(app, admin, method, path, wrongly=True)
        assert answer.status_code == 422, (method, path, answer.text)
        documented = example(app, method, path, "invalid_parameters")
        assert answer.json["errors"] == documented["errors"], (method, path)


NEW = {"username": "newcomer", "email": "new@example.org", "password": "correct horse"}
REFUSED = [
    ("post", "/auth/verifications", "username_taken", {**NEW, "username": "alice"}),
    ("post", "/auth/verifications", "common_password", {**NEW, "password": "password"}),
    ("post", "/auth/verifications", "own_name_as_password", {**NEW, "password": "newcomer1"}),
    ("patch", "/users/me", "username_taken", {"username": "bob"}),
    ("delete", "/users/me", "wrong_password", {"current_password": "wrong horse"}),
    (
        *("put", "/users/me/password", "common_password"),
        {"current_password": PASSWORD, "password": "password"},
    ),
    (
        *("post", "/users/me/email", "wrong_password"),
        {"email": "new@example.org", "current_password": "wrong horse"},
    ),
    (
        *("post", "/users/me/email/verify", "invalid_code"),
        {"email": "new@example.org", "token": "000000"},
    ),
    ("post", "/agent-chats/ai-sdk", "nothing_new", {"id": "c", "messages": []}),
]


@pytest.mark.parametrize(
    ("method", "path", "code", "body"), REFUSED, ids=lambda each: each if type(each) is str else ""
)
def test_each_reason_to_refuse_is_answered_as_documented(
    app: Flask, alice: Person, bob: Person, method: str, path: str, code: str, body: dict
):
    answer = alice.request(method.upper(), path, json=body)

    documented = example(app, method, f"/api/v1{path}", code)
    told = ("type", "title", "status", "code", "detail", "errors")
    assert answer.status_code == 422
    assert {name: answer.json[name] for name in told} == {name: documented[name] for name in told}


def test_a_key_that_was_used_is_answered_as_documented(app: Flask, alice: Person):
    key = {"Idempotency-Key": "k"}
    alice.post("/agent-chats", {"message": "Hello"}, headers=key)

    answer = alice.post("/agent-chats", {"message": "Good bye"}, headers=key)

    documented = example(app, "post", "/api/v1/agent-chats", "idempotency_key_reused")
    assert answer.json["errors"] == documented["errors"]
