"""HTTP and nothing else: the only place that knows a status code or a header."""

from flask import Flask, current_app

from runtime import __version__
from runtime.api import downloads, http
from runtime.api.ag_ui import routes
from runtime.api.guards import SCHEME
from runtime.api.openapi import DESCRIPTION, Api
from runtime.api.routes import agent_chats, auth, infra, metrics, users

PREFIX = "/api/v1"


def init_app(app: Flask) -> None:
    """Register the blueprints, in the route document's order, and the page to read them."""
    app.config.update(
        API_TITLE=app.config["APP_NAME"],
        API_VERSION=__version__,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX=PREFIX,
        API_SPEC_OPTIONS={
            "info": {"description": DESCRIPTION},
            "servers": [{"url": "/"}],
            "security": [{"bearer": []}],
            "components": {"securitySchemes": SCHEME},
        },
    )
    http.init_app(app)
    downloads.init_app(app)
    api = Api(app)
    app.extensions["api"] = api
    for module in (auth, users, agent_chats, routes, infra):
        api.register_blueprint(module.blp)
    metrics.init_app(app)
    app.add_url_rule(f"{PREFIX}/docs", "docs", _docs)


def _docs():
    """The page that shows the OpenAPI document."""
    return current_app.send_static_file("docs.html")
