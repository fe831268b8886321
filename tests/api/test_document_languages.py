"""The OpenAPI document and the route document are in Chinese and in English, all of them."""

import json
import re
import tomllib

import pytest
from flask import Flask

from runtime.api import document_texts, route_document
from tests import openapi_checker
from tests.conftest import Person

CHINESE = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]+")


@pytest.fixture
def specs(app: Flask) -> dict[str, dict]:
    api = app.extensions["api"]
    return {language: json.loads(api.document(language).plain) for language in ("zh", "en")}


def words(language: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((document_texts.FOLDER / f"{language}.toml").read_text("utf-8"))


def fields_of(spec: dict) -> dict[tuple[str, str], str]:
    """The description of each field of each shape."""
    return {
        (name, field): openapi_checker.meant(spec, inner)["description"]
        for name, shape in spec["components"]["schemas"].items()
        for field, inner in shape.get("properties", {}).items()
        if "const" not in inner
    }


@pytest.mark.parametrize(
    ("accepted", "language", "summary"),
    [
        ("zh-CN", "zh", "登录(创建会话)。"),
        ("en-GB, zh;q=0.5", "en", "Sign in (create a session)."),
        ("fr", "zh", "登录(创建会话)。"),
    ],
)
def test_the_document_is_in_the_readers_language(
    stranger: Person, accepted: str, language: str, summary: str
):
    answer = stranger.get("/openapi.json", headers={"Accept-Language": accepted})

    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]
    assert answer.json["paths"]["/api/v1/auth/sessions"]["post"]["summary"] == summary


def test_a_reader_of_one_language_is_not_told_that_the_other_is_unchanged(stranger: Person):
    chinese = stranger.get("/openapi.json", headers={"Accept-Language": "zh"})
    held = {"If-None-Match": chinese.headers["ETag"]}

    english = stranger.get("/openapi.json", headers={"Accept-Language": "en", **held})

    assert english.status_code == 200
    assert english.headers["ETag"] != chinese.headers["ETag"]
    again = stranger.get("/openapi.json", headers={"Accept-Language": "zh", **held})
    assert again.status_code == 304


def test_each_is_made_once(app: Flask):
    api = app.extensions["api"]

    assert api.document("en") is api.document("en")
    assert api.document("zh") is api.document("zh")


@pytest.mark.in_process("the route document is written from the application")
def test_nothing_of_the_english_is_chinese(app: Flask, specs: dict[str, dict]):
    """What is missing in en.toml is told in Chinese."""
    assert CHINESE.findall(json.dumps(specs["en"], ensure_ascii=False)) == []
    with app.app_context():
        text = route_document.render("en")
    assert CHINESE.findall(text) == []


def test_the_two_differ_in_words_alone(specs: dict[str, dict]):
    def bare(value: object) -> object:
        if isinstance(value, dict):
            return {
                name: bare(inner)
                for name, inner in value.items()
                if not (name in ("description", "summary") and isinstance(inner, str))
                and name not in ("example", "examples", "detail")
            }
        return [bare(each) for each in value] if isinstance(value, list) else value

    assert bare(specs["zh"]) == bare(specs["en"])


def test_no_words_are_left_over(specs: dict[str, dict]):
    spec = specs["en"]
    names = {
        operation["operationId"]
        for item in spec["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    }
    parameters = set(re.findall(r'"name": "([^"]+)"', json.dumps(spec["paths"])))
    parameters |= {each["name"] for each in spec["components"]["parameters"].values()}
    fields = {*fields_of(spec)}
    for language in ("zh", "en"):
        texts = words(language)
        assert texts["shapes"].keys() <= spec["components"]["schemas"].keys()
        assert texts["kinds"].keys() <= set(re.findall(r'"const": "(\w+)"', json.dumps(spec)))
        for key in texts["fields"]:
            shape, _, name = key.rpartition(".")
            known = (shape, name) in fields if shape else name in {n for _shape, n in fields}
            assert known or name in parameters, f"{language}: {key}"
    assert words("en")["operations"].keys() == names
    assert words("en")["tags"].keys() == {tag["name"] for tag in spec["tags"]}


def test_where_the_chinese_tells_two_fields_apart_the_english_does(specs: dict[str, dict]):
    chinese, english = fields_of(specs["zh"]), fields_of(specs["en"])
    told: dict[tuple[str, str], set[str]] = {}
    for key, text in english.items():
        told.setdefault((key[1], text), set()).add(chinese[key])

    assert {key: texts for key, texts in told.items() if len(texts) > 1} == {}
