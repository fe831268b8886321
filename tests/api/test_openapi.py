"""The OpenAPI document tells the whole truth."""

import gzip
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from flask import Flask

from app import create_app
from runtime import __version__, errors, i18n
from runtime.api.responses import COMMON_STATUSES
from runtime.problem_details import MEDIA_TYPE
from tests import openapi_checker
from tests.conftest import Person
from tests.servers import Service

PUBLIC = {
    "create_verification",
    "resend_verification",
    "verify_verification",
    "create_recovery",
    "verify_recovery",
    "create_email_restoration",
    "create_session",
    "refresh_session",
    "delete_session",
    "get_infra_health",
    "get_health",
}
# Requests in a protocol that is not ours: what they have besides is left alone.
NOT_OURS = {"RunAgentInput", "AgUiMessage", "AgUiTool", "SubmitMessage", "UiInputMessage"}
WITHOUT_DATABASE = {"get_health", "get_infra_health"}


@pytest.fixture
def spec(stranger: Person) -> dict:
    """The document as a reader gets it."""
    answer = stranger.get("/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


def operations(spec: dict) -> list[dict]:
    items = spec["paths"].values()
    found = [each for item in items for name, each in item.items() if name != "parameters"]
    assert found
    return [{**each, "responses": meant(spec, each["responses"])} for each in found]


def meant(spec: dict, value: object) -> object:
    """A value with what its references lead to, but for those to schemas."""
    if isinstance(value, list):
        return [meant(spec, each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("$ref", "#/components/schemas/").startswith("#/components/schemas/"):
        return {name: meant(spec, inner) for name, inner in value.items()}
    return meant(spec, openapi_checker.meant(spec, value))


def shapes(spec: dict) -> dict[str, dict]:
    found = spec["components"]["schemas"]
    assert found
    return found


def objects(value: object) -> Iterator[dict]:
    """Every object in the document, however deep."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from objects(inner)


def shape(spec: dict, name: str) -> dict:
    return spec["components"]["schemas"][name]


def test_it_is_openapi_3_1(spec: dict):
    definitions = pytest.importorskip("schemathesis.specs.openapi.definitions")

    faults = [str(error) for error in definitions.OPENAPI_31_VALIDATOR.iter_errors(spec)]

    assert (spec["openapi"], faults) == ("3.1.0", [])
    assert (spec["info"]["title"], spec["info"]["version"]) == ("Runtime API", __version__)
    assert "problem+json" in spec["info"]["description"]
    assert spec["servers"] == [{"url": "/"}]


def test_whoever_asks_first_gets_all_of_it_though_others_ask_at_once(settings: dict[str, str]):
    """It is written when it is first asked for."""
    api, together = create_app(settings).extensions["api"], Barrier(8)

    def ask(_thread: int) -> int:
        together.wait()
        return len(api.document("en").value["paths"])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [len(api.document("en").value["paths"])] * 8


def test_it_is_compact_and_compressed_and_given_once(app: Flask):
    client = app.test_client()
    plain = client.get("/api/v1/openapi.json")
    zipped = client.get("/api/v1/openapi.json", headers={"Accept-Encoding": "br, gzip"})

    assert b"\n" not in plain.data.strip()
    assert b": " not in re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', plain.data)
    assert gzip.decompress(zipped.data) == plain.data
    assert len(zipped.data) < len(plain.data) / 6
    for answer, headers in ((plain, {}), (zipped, {"Accept-Encoding": "gzip"})):
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Vary"] == "Accept-Encoding, Accept-Language"
        etag = answer.headers["ETag"]
        again = client.get("/api/v1/openapi.json", headers={**headers, "If-None-Match": etag})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == etag
        assert again.headers["Vary"] == "Accept-Encoding, Accept-Language"
    assert plain.headers["ETag"] != zipped.headers["ETag"]


@pytest.mark.parametrize("accepted", ["gzip;q=0", "identity", "identity, *;q=0", "br"])
def test_who_does_not_take_gzip_gets_it_plain(app: Flask, accepted: str):
    headers = {"Accept-Encoding": accepted}

    answer = app.test_client().get("/api/v1/openapi.json", headers=headers)

    assert "Content-Encoding" not in answer.headers
    assert answer.json["openapi"] == "3.1.0"


def test_it_is_written_before_the_workers_are_there(service: Service):
    """By the master, for all of them: each would take as long."""

    def cost() -> float:
        before = service.cpu_seconds()
        assert service.client.get("/openapi.json").status == 200
        return service.cpu_seconds() - before

    assert cost() < 0.05


def test_every_shape_is_a_json_schema(spec: dict):
    jsonschema_rs = pytest.importorskip("jsonschema_rs")

    for schema in shapes(spec).values():
        jsonschema_rs.meta.validate(schema)


def test_every_reference_leads_somewhere_and_no_shape_is_left_over(spec: dict):
    used = {each["$ref"] for each in objects(spec) if "$ref" in each}
    parts = {"schemas", "responses", "examples", "headers", "parameters"}

    assert used == {
        f"#/components/{part}/{name}" for part in parts for name in spec["components"][part]
    }
    assert set(spec["components"]) == {*parts, "securitySchemes"}


def test_every_route_is_in_it(app: Flask, spec: dict):
    rules = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint.partition(".")[0] in {tag["name"] for tag in spec["tags"]}
    }

    found = {(m, path) for path, item in spec["paths"].items() for m in item if m != "parameters"}
    assert found == rules


def test_an_operation_is_named_like_its_function_and_described(app: Flask, spec: dict):
    names = [operation["operationId"] for operation in operations(spec)]

    assert len(set(names)) == len(names)
    assert set(names) <= {endpoint.rpartition(".")[2] for endpoint in app.view_functions}
    for operation in operations(spec):
        assert operation["summary"].endswith("。")
        assert len(operation["tags"]) == 1
    assert all(tag["description"] for tag in spec["tags"])


def test_security_is_said_where_it_holds(app: Flask, spec: dict):
    assert spec["security"] == [{"bearer": []}]
    assert shape_of_bearer(spec) == ("http", "bearer")
    for operation in operations(spec):
        guarded = operation["operationId"] not in PUBLIC
        assert operation.get("security") == (None if guarded else [])
    for path, item in spec["paths"].items():
        for method in set(item) - {"parameters"}:
            path = re.sub(r"{\w+_id}", str(uuid4()), path.replace("{username}", "ada"))
            refused = app.test_client().open(path, method=method.upper()).status_code == 401
            assert refused == (item[method]["operationId"] not in PUBLIC)


def shape_of_bearer(spec: dict) -> tuple[str, str]:
    scheme = spec["components"]["securitySchemes"]["bearer"]
    return scheme["type"], scheme["scheme"]


def test_what_any_route_may_answer_stands_at_every_route(spec: dict):
    for operation in operations(spec):
        name, statuses = operation["operationId"], set(map(int, operation["responses"]))
        has_body = "requestBody" in operation
        has_parameters = has_body or "parameters" in operation
        assert {400, 500} <= statuses
        assert (503 in statuses) == (name not in WITHOUT_DATABASE)
        assert (413 in statuses) == has_body
        assert (422 in statuses) == has_parameters
        assert 401 in statuses or name in PUBLIC


def test_no_status_is_claimed_that_cannot_be(spec: dict):
    possible = {*(failure.status for failure in errors.FAILURES), *COMMON_STATUSES}
    for operation in operations(spec):
        statuses = set(map(int, operation["responses"]))
        assert {status for status in statuses if status >= 400} <= possible
        is_either = operation["operationId"] == "resume_stream"  # something goes on, or nothing
        assert len({status for status in statuses if status < 400}) == 1 + is_either


def test_every_error_is_a_problem_with_its_headers_and_an_example(spec: dict):
    for operation in operations(spec):
        for status, response in operation["responses"].items():
            headers = response.get("headers", {})
            if int(status) < 400:
                continue
            assert ("WWW-Authenticate" in headers) == (status in ("401", "403"))
            assert ("Retry-After" in headers) == (status in ("429", "503"))
            assert list(response["content"]) == [MEDIA_TYPE]
            content = response["content"][MEDIA_TYPE]
            for example in content["examples"].values():
                openapi_checker.demand_valid(spec, content["schema"], example["value"])
                assert example["value"]["status"] == int(status)
                assert example["value"]["detail"] in response["description"]


def test_a_422_names_the_faults(spec: dict):
    for operation in operations(spec):
        if "422" in operation["responses"]:
            (content,) = operation["responses"]["422"]["content"].values()
            assert content["schema"] == {"$ref": "#/components/schemas/InvalidParametersProblem"}
    assert "errors" in shape(spec, "InvalidParametersProblem")["required"]
    assert "errors" not in shape(spec, "Problem")["properties"]


def test_every_request_and_every_error_has_an_example_that_is_one(spec: dict):
    asked = {
        each["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for each in operations(spec)
        if "requestBody" in each
    }
    for name, schema in shapes(spec).items():
        assert schema.get("examples") or name not in asked, name
        for example in schema.get("examples", ()):
            openapi_checker.demand_valid(spec, {"$ref": f"#/components/schemas/{name}"}, example)


def test_every_example_of_a_field_is_one(spec: dict):
    for schema in shapes(spec).values():
        for field in schema.get("properties", {}).values():
            for example in field.get("examples", ()):
                openapi_checker.demand_valid(spec, field, example)


def test_requests_are_closed_and_answers_are_not(spec: dict):
    requests = set()
    for operation in operations(spec):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            requests.add(media["schema"]["$ref"].rpartition("/")[2])
    assert requests
    for name, schema in shapes(spec).items():
        if name in NOT_OURS:
            assert schema.get("additionalProperties") is not False
        else:
            assert schema.get("additionalProperties") == (False if name in requests else None)


def test_null_is_said_to_be_taken_exactly_where_it_is(spec: dict):
    taken = {
        (name, field)
        for name, schema in spec["components"]["schemas"].items()
        for field, inner in schema.get("properties", {}).items()
        if openapi_checker.meant(spec, inner).get("type") == ["string", "null"]
    }

    assert taken == {
        ("CreateVerification", "redirect_to"),
        ("CreateRecovery", "redirect_to"),
        ("ChangeEmail", "redirect_to"),
        ("ChangeUser", "avatar_url"),
        ("ChangeUser", "bio"),
        ("CreateSession", "refresh_token"),
        ("CreateRun", "session_id"),
        ("CreateRun", "replaces"),
        ("ExportedRun", "replaced_by"),
        ("User", "avatar_url"),
        ("User", "bio"),
        ("UserAccount", "email_confirmed_at"),
        ("AccountSummary", "email_confirmed_at"),
        ("AccountSummary", "signed_in_at"),
        ("AccountSummary", "disabled_at"),
        ("AccountPage", "next_cursor"),
        ("AccountDetails", "email_confirmed_at"),
        ("AccountDetails", "signed_in_at"),
        ("AccountDetails", "disabled_at"),
        ("Run", "finished_at"),
        ("Run", "error"),
        ("RunningRunPage", "next_cursor"),
        ("RunningRun", "stop_requested_at"),
        ("WaitingMails", "oldest_at"),
        ("Message", "error"),
        ("Message", "reasoning"),
        ("ChangeChat", "title"),
        ("ChatPage", "next_cursor"),
        ("MessagePage", "next_cursor"),
        ("ToolCall", "result"),
        ("ActiveSession", "device"),
        ("ActiveSession", "last_device"),
        ("SessionPage", "next_cursor"),
        ("SecurityEvent", "network"),
        ("SecurityEvent", "device"),
        ("SecurityEvent", "session_id"),
        ("SecurityEventPage", "next_cursor"),
        ("ExportedUser", "avatar_url"),
        ("ExportedUser", "language"),
        ("ExportedUser", "bio"),
        ("ExportedUser", "email_confirmed_at"),
        ("ExportedUser", "signed_in_at"),
        ("ExportedSignUp", "redirect_to"),
        ("ExportedRecovery", "redirect_to"),
        ("ExportedEmailChange", "email"),
        ("ExportedEmailChange", "redirect_to"),
        ("ExportedEmailChange", "changed_at"),
        ("ExportedSignUp", "device"),
        ("ExportedSession", "ended_at"),
        ("ExportedSession", "device"),
        ("ExportedSession", "last_device"),
        ("ExportedChat", "title"),
        ("ExportedRun", "finished_at"),
        ("ExportedRun", "stop_requested_at"),
        ("ExportedRun", "error"),
        ("ExportedInput", "tool_call_id"),
        ("RunAgentInput", "protocolVersion"),
        ("AgUiMessage", "toolCallId"),
        ("AgUiTool", "description"),
        ("SubmitMessage", "messageId"),
        ("UiMessagePage", "next_cursor"),
    }


@pytest.mark.parametrize(
    "name, field, limits",
    [
        ("CreateVerification", "username", {"minLength": 3, "maxLength": 30}),
        ("CreateVerification", "password", {"minLength": 6, "maxLength": 128}),
        ("CreateVerification", "email", {"maxLength": 254, "format": "email"}),
        ("VerifyCode", "token", {"pattern": "^[0-9]{6}$"}),
        ("ChangeUser", "bio", {"maxLength": 200}),
        ("ChangeUser", "avatar_url", {"maxLength": 2048}),
        ("CreateRun", "message", {"minLength": 1, "maxLength": 8000}),
        ("CreateRun", "session_id", {"format": "uuid"}),
        ("Session", "token_type", {"enum": ["bearer"]}),
        ("UserAccount", "created_at", {"format": "date-time"}),
        ("EndSessions", "scope", {"enum": ["this", "others", "all"]}),
    ],
)
def test_limits_are_those_of_the_route_document(spec: dict, name: str, field: str, limits: dict):
    found = openapi_checker.meant(spec, shape(spec, name)["properties"][field])

    assert {key: found[key] for key in limits} == limits


def test_patterns_are_whole_and_read_by_ecma_262(spec: dict):
    patterns = {each["pattern"] for each in objects(spec) if isinstance(each.get("pattern"), str)}

    assert "^Bearer" in patterns and len(patterns) > 1
    for pattern in patterns - {"^Bearer"}:
        assert pattern.startswith("^") and pattern.endswith("$")
    for pattern in (re.sub(r"\[(?:\\.|[^]])*]", "", pattern) for pattern in patterns):
        # No syntax of Python's own: groups with names, \A, \Z, inline flags, possessive ones.
        assert not re.search(r"\(\?[Paimsux#]|\\[AZ]|[+*?}]\+", pattern)


@pytest.mark.parametrize("path", ["/users/me", "/users/ada"])
def test_the_checker_is_awake(app: Flask, alice: Person, path: str):
    answer = alice.get(path)
    openapi_checker.check(app, answer)

    answer.headers.pop("X-Request-ID")
    with pytest.raises(KeyError):
        openapi_checker.check(app, answer)


def test_the_checker_refuses_what_the_document_does_not_say(app: Flask, alice: Person):
    pytest.importorskip("jsonschema_rs")
    for change in ({"id": 1}, {"bio": 1}, {"secret": "x"}, {"username": "x"}):
        answer = alice.get("/users/me")
        answer.data = json.dumps({**answer.json, **change})
        with pytest.raises(AssertionError):
            openapi_checker.check(app, answer)
    answer = alice.get("/users/me")
    answer.status_code = 418
    with pytest.raises(AssertionError, match="not documented"):
        openapi_checker.check(app, answer)


def test_sentences_in_it_are_those_of_the_answers(spec: dict):
    chinese = {sentence for sentence, _english in i18n.SENTENCES.values()}
    for operation in operations(spec):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert set(response["description"].split("；")) <= chinese


def test_the_page_that_shows_it_loads_nothing_from_elsewhere(stranger: Person):
    with stranger.get("/docs") as answer:
        page = answer.text

    assert answer.mimetype == "text/html"
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert links
    for link in links:
        assert not re.match(r"(?:https?:)?//", link)
        path = link if link.startswith("/") else f"/api/v1/{link.removeprefix('./')}"
        with stranger.client.get(path) as asset:
            assert asset.status_code == 200, link
