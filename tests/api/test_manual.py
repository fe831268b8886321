"""The manual under /docs: the pages of runtime/docs, as HTML."""

import re

import pytest
from flask import Flask

from runtime.api import markdown
from runtime.api.routes import manual
from tests.api.test_docs import References, fetched
from tests.conftest import PREFIX, Person


@pytest.mark.parametrize("name", manual.NAMES)
def test_a_page_is_html_under_the_policy_of_pages(stranger: Person, name: str):
    answer = fetched(stranger, f"/docs/{name}")

    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert References(answer.text).inline == []
    title = (manual.FOLDER / f"{name}.md").read_text().partition("\n")[0].removeprefix("# ")
    assert f"<title>{title} – Runtime API</title>" in answer.text


def test_every_page_is_listed_and_linked_from_the_routes(stranger: Person):
    files = {file.stem for file in manual.FOLDER.iterdir()}

    linked = [link for link in References(fetched(stranger, "/docs").text).found if "." not in link]

    assert files == set(manual.NAMES)
    assert linked == ["#page-content", *(f"docs/{name}" for name in manual.NAMES)]


def test_every_link_of_the_manual_leads_somewhere(stranger: Person):
    texts = {name: fetched(stranger, f"/docs/{name}").text for name in manual.NAMES}
    ids = {name: re.findall(r' id="([^"]+)"', text) for name, text in texts.items()}

    assert texts.keys() >= {"operating", "security"}
    for name, text in texts.items():
        assert len(ids[name]) == len(set(ids[name])), name
        assert "](" not in text, name
        for link in References(text).found:
            page, _hash, anchor = link.partition("#")
            if page in manual.NAMES or not page:
                assert not anchor or anchor in ids[page or name], f"{name}: {link}"
            elif not page.startswith("https://"):
                path = "/docs" if page == "../docs" else f"/docs/{page}"
                assert fetched(stranger, path).status_code == 200, f"{name}: {link}"


def test_every_link_of_the_files_leads_to_a_file():
    readme = (manual.ROOT / "README.md", manual.ROOT)
    pages = [(manual.FOLDER / f"{name}.md", manual.FOLDER) for name in manual.NAMES]

    assert pages
    for page, folder in [readme, *pages]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("https://") or (folder / target).exists(), f"{page}: {target}"


def test_a_page_is_checked_for_changes(stranger: Person):
    answer = fetched(stranger, "/docs/limits")
    assert answer.headers["Cache-Control"] == "no-cache"

    headers = {"If-None-Match": answer.headers["ETag"]}
    assert fetched(stranger, "/docs/limits", headers=headers).status_code == 304


@pytest.mark.parametrize("name", ["nothing", "limits.md", "../config", "Limits"])
def test_nothing_else_is_a_page(stranger: Person, name: str):
    answer = fetched(stranger, f"/docs/{name}")

    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_no_page_is_a_route_of_the_document(stranger: Person):
    paths = stranger.get("/openapi.json").json["paths"]

    assert not [path for path in paths if path.startswith(f"{PREFIX}/docs")]


def test_a_page_carries_the_name_of_the_operator(serve, settings: dict):
    app: Flask = serve({**settings, "APP_NAME": "<b>Acme"})

    text = fetched(Person(app.test_client()), "/docs/limits").text

    assert "&lt;b&gt;Acme" in text
    assert "<b>" not in text


def html_of(text: str) -> str:
    return str(markdown.render(text, manual.href_of).html)


@pytest.mark.parametrize(
    "raw",
    [
        "<script>alert(1)</script>",
        "# <img src=x onerror=y>",
        "- <b>",
        "1. <b>",
        "| <b> |\n| --- |\n| <b> |",
        "```<b>\n<b>\n```",
        "`<b>` **<b>** [<b>](limits.md)",
        "<https://example.org/\"onclick='x'>",
    ],
)
def test_raw_html_is_text(raw: str):
    tags = re.findall(r"<(\w+)", html_of(raw))

    assert not {*tags} & {"script", "img", "b"}
    assert " onclick" not in html_of(raw)
    assert "onerror=" not in html_of(raw).replace("&lt;img src=x onerror=", "")


def test_a_link_leads_to_pages_and_the_web_alone():
    assert html_of("[a](limits.md#b)") == '<p><a href="limits#b">a</a></p>'
    assert html_of("[a](../ROUTES.md)") == '<p><a href="../docs">a</a></p>'
    assert html_of("[a](https://example.org/)") == '<p><a href="https://example.org/">a</a></p>'
    for other in ("javascript:x", "//example.org", "../config.py", "data:text/html,x", "no.md"):
        assert html_of(f"[a]({other})") == "<p>a</p>"


def test_blocks_are_what_they_look_like():
    text = "# A `b`\n\nOne\ntwo.\n- x\n  y\n- z\n\n1. p\n2. q\n\n| h |\n| --- |\n| c |\n"

    assert html_of(text).split("\n", 1) == [
        '<h1 id="a-b">A <code>b</code></h1>',
        "<p>One\ntwo.</p>\n<ul><li>x\ny</li><li>z</li></ul>\n<ol><li>p</li><li>q</li></ol>\n"
        "<table><thead><tr><th>h</th></tr></thead><tbody><tr><td>c</td></tr></tbody></table>",
    ]


@pytest.mark.parametrize("name", manual.NAMES)
def test_a_page_loses_no_word(stranger: Person, name: str):
    """What the renderer did not know would be left out."""
    source = (manual.FOLDER / f"{name}.md").read_text()
    text = re.sub("<[^>]*>", " ", fetched(stranger, f"/docs/{name}").text)

    words = re.findall(r"\w{4,}", re.sub(r"^```.*$|\]\([^)]*\)", "", source, flags=re.MULTILINE))
    assert {*words} <= {*re.findall(r"\w{4,}", text)}
