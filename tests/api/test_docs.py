"""/docs and /openapi.json"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import PREFIX, Person

TYPES = {
    "docs.html": "text/html",
    "docs.css": "text/css",
    "docs.js": "text/javascript",
    "manual.css": "text/css",
    "schema.js": "text/javascript",
    "words.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class References(HTMLParser):
    """What a page links to or loads, and the markup that its policy would not let run."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        self.found += [names[name] for name in ("src", "href") if name in names]
        self.inline += [name for name in names if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.inline.append(tag)


def fetched(person: Person, path: str, **kwargs) -> TestResponse:
    """An answer that was read to its end, so that the file behind it is closed."""
    return person.get(path, buffered=True, **kwargs)


def test_the_page_and_all_it_loads_come_from_the_service(stranger: Person):
    page = fetched(stranger, "/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")

    found = References(page.text).found
    paths = [urljoin(f"{PREFIX}/docs", one) for one in found if not one.startswith("#")]

    assert f"{PREFIX}/openapi.json" in paths
    assert {f"{PREFIX}/docs/{name}" for name in ("docs.js", "docs.css", "icon.svg")} <= {*paths}
    for path in paths:
        assert path.startswith(PREFIX)
        assert fetched(stranger, path.removeprefix(PREFIX)).status_code == 200


@pytest.mark.parametrize(("name", "kind"), TYPES.items())
def test_a_file_of_the_page_has_its_type_and_is_checked_for_changes(
    stranger: Person, name: str, kind: str
):
    answer = fetched(stranger, f"/docs/{name}")

    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = fetched(stranger, f"/docs/{name}", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_nothing_of_the_page_names_another_host(app: Flask):
    files = sorted(Path(app.static_folder).iterdir())
    assert {file.name for file in files} == set(TYPES)
    # Namespaces and examples only look like addresses.
    harmless = r"http://www\.w3\.org/2000/svg|https?://(?:[a-z]+\.)?example\.org"

    for file in files:
        text = re.sub(harmless, "", file.read_text(encoding="utf-8"))
        assert not re.search(r"https?://|[\"'(=]//|@import", text), file.name


def test_a_script_imports_only_its_neighbours(app: Flask):
    texts = [file.read_text(encoding="utf-8") for file in Path(app.static_folder).glob("*.js")]
    imported = [name for text in texts for name in re.findall(r"\bfrom \"(.+?)\"", text)]

    assert imported
    assert {name.removeprefix("./") for name in imported} <= set(TYPES)


def test_the_page_may_load_only_from_the_service_and_is_never_framed(stranger: Person):
    page = fetched(stranger, "/docs")

    policy = dict(
        part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";")
    )

    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert References(page.text).inline == []


def test_the_document_is_openapi_and_names_every_operation_once(stranger: Person):
    answer = stranger.get("/openapi.json")

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json["openapi"].startswith("3.1.")
    names = [
        operation["operationId"]
        for item in answer.json["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names)) > 10
    # The page's anchors are these names, beside ids of its own.
    assert not [name for name in names if name.startswith(("page-", "tag-"))]
