"""The manual, `runtime/docs/*.md`, to be read under /api/v1/docs. No part of the API's document."""

import re
from functools import cache, partial

from flask import Flask, Response, current_app, make_response, render_template, request

from runtime.api import markdown
from runtime.api.openapi import PREFIX
from runtime.config.settings import ROOT

FOLDER = ROOT / "runtime" / "docs"
# In the order in which they are listed.
NAMES = (
    "accounts",
    "chats",
    "front-ends",
    "recipes",
    "limits",
    "operating",
    "security",
    "extending",
    "contributing",
    "changes",
)


def init_app(app: Flask) -> None:
    """A path for each page; they are read once, when they are first asked for."""
    for name in NAMES:
        app.add_url_rule(f"{PREFIX}/docs/{name}", f"docs_{name}", partial(_get_page, name))


def _get_page(name: str) -> Response:
    page = _rendered(name)
    answer = make_response(
        render_template(
            "manual.html",
            app_name=current_app.config["APP_NAME"],
            name=name,
            page=page,
            titles={other: _rendered(other).headings[0].text for other in NAMES},
        )
    )
    answer.cache_control.no_cache = True
    answer.add_etag()
    return answer.make_conditional(request)


@cache
def _rendered(name: str) -> markdown.Page:
    return markdown.render((FOLDER / f"{name}.md").read_text(encoding="utf-8"), href_of)


def href_of(target: str) -> str | None:
    """Where a link of a page leads when the page is read here; None if to nothing that is served.

    `operating.md#logs` is `operating#logs`, the route document the page that shows the routes.
    """
    if target.startswith(("https://", "http://", "#")):
        return target
    if target == "../ROUTES.md":
        return "../docs"
    page = re.fullmatch(r"([a-z-]+)\.md(#.*)?", target)
    return page[1] + (page[2] or "") if page and page[1] in NAMES else None
