"""The OpenAPI document has what generators of clients make something good of."""

import json
import re

import pytest
from flask import Flask

from app import create_app
from tests import openapi_checker
from tests.conftest import Person

MAX_BYTES = 150_000


@pytest.fixture(params=["zh", "en"])
def spec(app: Flask, request: pytest.FixtureRequest) -> dict:
    """The document in each language."""
    return json.loads(app.extensions["api"].document(request.param).plain)


def events_of(stream: str) -> list[dict]:
    return [json.loads(data) for data in re.findall(r"^data: (.+)$", stream, re.MULTILINE)]


def shapes(spec: dict) -> dict[str, dict]:
    return spec["components"]["schemas"]


def test_it_is_short(app: Flask):
    """An app with more routes than ours has a longer one, and raises the bound."""
    sizes = [len(app.extensions["api"].document(language).plain) for language in ("zh", "en")]

    assert max(sizes) < MAX_BYTES


def test_nothing_that_may_be_missing_is_required(spec: dict):
    """What has a default is required, if openapi-typescript reads it."""
    fields = [
        field for shape in shapes(spec).values() for field in shape.get("properties", {}).items()
    ]

    assert len(fields) > 100
    assert [name for name, field in fields if "default" in field] == []
    assert '"default":null' not in json.dumps(spec, separators=(",", ":"))


def test_null_is_a_type_beside_another(spec: dict):
    nullable = [
        field["type"]
        for shape in shapes(spec).values()
        for field in shape.get("properties", {}).values()
        if isinstance(field.get("type"), list)
    ]

    assert nullable
    assert all(len(types) == 2 and types[1] == "null" for types in nullable)
    assert "nullable" not in json.dumps(spec)


@pytest.mark.parametrize(
    ("name", "first"), [("RunEvent", "RunStartedEvent"), ("AgUiEvent", "AgUiRunStartedEvent")]
)
def test_an_event_is_one_of_several_told_apart_by_type(spec: dict, name: str, first: str):
    union = shapes(spec)[name]
    mapping = union["discriminator"]["mapping"]

    assert union["discriminator"]["propertyName"] == "type"
    assert mapping["RUN_STARTED"] == f"#/components/schemas/{first}"
    assert [*mapping.values()] == [each["$ref"] for each in union["oneOf"]]
    for kind, ref in mapping.items():
        shape = openapi_checker.meant(spec, {"$ref": ref})
        assert shape["properties"]["type"] == {"type": "string", "const": kind}
        assert "type" in shape["required"]


@pytest.mark.parametrize(
    ("path", "method", "name"),
    [
        ("/agent-chats", "post", "RunEvent"),
        ("/agent-chats/{session_id}/runs/{run_id}/events", "get", "RunEvent"),
        ("/agent-chats/ag-ui", "post", "AgUiEvent"),
    ],
)
def test_a_stream_is_of_events(spec: dict, path: str, method: str, name: str):
    answer = spec["paths"][f"/api/v1{path}"][method]["responses"]["200"]

    schema = answer["content"]["text/event-stream"]["schema"]
    assert schema == {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.in_process("the document is the application's own")
def test_what_is_streamed_has_the_shape_of_an_event(app: Flask, alice: Person):
    spec = openapi_checker.document(app)
    question = "What time is it, and what is 6 * 7?"
    body = {
        "threadId": "t",
        "runId": "r",
        "protocolVersion": "1.0",
        "messages": [{"id": "m", "role": "user", "content": question}],
    }
    streams = {
        "RunEvent": alice.post(
            "/agent-chats", {"message": question}, headers={"Accept": "text/event-stream"}
        ),
        "AgUiEvent": alice.post("/agent-chats/ag-ui", body),
    }
    events = {name: events_of(answer.text) for name, answer in streams.items()}
    again = alice.post("/agent-chats/ag-ui", {**body, "runId": "r2", "messages": []})
    events["AgUiEvent"] += events_of(again.text)

    kinds = {event["type"] for each in events.values() for event in each}
    assert {"RUN_FINISHED", "TOOL_CALL_RESULT", "MESSAGES_SNAPSHOT"} <= kinds
    for name, each in events.items():
        for event in each:
            openapi_checker.demand_valid(spec, {"$ref": f"#/components/schemas/{name}"}, event)


def test_all_is_told_in_words(spec: dict):
    for name, shape in shapes(spec).items():
        assert shape.get("description"), name
        for field, inner in shape.get("properties", {}).items():
            told = openapi_checker.meant(spec, inner)
            assert told.get("description") or "const" in inner, f"{name}.{field}"
    parameters = [
        openapi_checker.meant(spec, each)
        for item in spec["paths"].values()
        for part in (item, *(item[method] for method in item if method != "parameters"))
        for each in part.get("parameters", ())
    ]
    assert parameters
    assert [each["name"] for each in parameters if not each["description"]] == []


def test_a_response_that_several_routes_have_is_a_component(spec: dict):
    answers = [
        (int(status), answer)
        for item in spec["paths"].values()
        for method in item
        if method != "parameters"
        for status, answer in item[method]["responses"].items()
    ]

    inline = {status for status, answer in answers if status >= 400 and "$ref" not in answer}
    assert inline == {422}
    names = spec["components"]["responses"]
    assert {"Unauthorized", "ChatNotFound", "TooManyRequests", "Unavailable"} <= names.keys()
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in names)


def test_whom_to_ask_is_said_where_the_app_has_an_address(settings: dict[str, str]):
    def info(app: Flask) -> dict:
        return app.extensions["api"].document("en").value["info"]

    mine = create_app({**settings, "APP_NAME": "Ink", "APP_URL": "https://ink.example.org/"})

    assert info(mine)["contact"] == {"name": "Ink", "url": "https://ink.example.org/"}
    assert "contact" not in info(create_app(settings))
