"""The routes, in the order of the route document, and the pages to read it."""

from flask import Flask, Response, current_app

from runtime.api import downloads, http, problems
from runtime.api.ag_ui import routes as ag_ui
from runtime.api.ai_sdk import routes as ai_sdk
from runtime.api.openapi import PREFIX, Api
from runtime.api.routes import (
    admin,
    agent_chats,
    auth,
    client,
    infra,
    manual,
    metrics,
    page,
    users,
)


def init_app(app: Flask) -> None:
    """Register all of them, what every answer has, and how a failure is told."""
    http.init_app(app)
    downloads.init_app(app)
    app.extensions["api"] = api = Api(app)
    # After flask-smorest's own handler of failures, in its place: that one drops headers.
    problems.init_app(app)
    for group in (auth, users, agent_chats, ag_ui, ai_sdk, infra, admin):
        api.register_blueprint(group.blp)
    metrics.init_app(app)
    manual.init_app(app)
    client.init_app(app)
    page.init_app(app)
    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", _get_openapi)
    app.add_url_rule(f"{PREFIX}/docs", "docs", _get_docs)


def _get_openapi() -> Response:
    return current_app.extensions["api"].document(http.language()).respond()


def _get_docs() -> Response:
    """The page that shows the OpenAPI document."""
    return current_app.send_static_file("docs.html")
