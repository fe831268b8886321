"""What every answer carries, and what is known of every request: id, network, language."""

import time

from flask import Flask, Response, current_app, request
from flask.globals import request_ctx

from runtime import i18n, logs, metrics, response_headers
from runtime.api import cors, proxies
from runtime.api.application import Request
from runtime.api.proxies import Proxies
from runtime.caller import Caller
from runtime.security import user_agents


def init_app(app: Flask) -> None:
    """Hook the app up; proxies are believed as far as TRUSTED_PROXIES says."""
    proxies.init_app(app)
    # A path is what it is: no redirect, which would be HTML, to a similar path.
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.before_request(cors.answer_options)
    # Flask calls the last one first.
    app.after_request(_finish)
    if app.config["CORS_ORIGINS"]:
        app.after_request(cors.add)


def language() -> str:
    """The language for the person in front of the screen."""
    return i18n.choose(request.accept_languages)


def _proxies() -> Proxies:
    return current_app.extensions["proxies"]


def caller() -> Caller:
    """Who asks, as services and mails have it."""
    return Caller(
        network=_proxies().network(request.environ),
        device=user_agents.name_of(request.headers.get("User-Agent", "")),
        language=language(),
        stated_language=i18n.choose_stated(request.accept_languages),
    )


def current_request() -> Request:
    """The request itself, for what every request passes: each look through Flask's `request` costs
    as much as a small function.
    """
    return request_ctx.request


def _begin() -> None:
    asked = current_request()
    asked.began_at = time.monotonic()
    given = asked.headers.get("X-Request-ID", "")
    logs.request_id.set(response_headers.request_id(given))
    _proxies().look(asked.environ)


def _finish(response: Response) -> Response:
    """Add the headers that every answer has, and log the request."""
    headers = response.headers
    if response.status_code == 204:
        response.response = ()
        del headers["Content-Type"]
        del headers["Content-Length"]
    # Nothing else sets these: to look for them first takes longer than to add them.
    headers.add("X-Request-ID", logs.request_id.get())
    for name, value in response_headers.COMMON.items():
        headers.add(name, value)
    is_page = response.mimetype == "text/html"
    policy = response_headers.PAGE_POLICY if is_page else response_headers.DATA_POLICY
    headers.add("Content-Security-Policy", policy)
    if "Cache-Control" not in headers:
        headers.add("Cache-Control", response_headers.NO_STORE)
    _log(current_request(), response)
    return response


def _log(asked: Request, response: Response) -> None:
    seconds = time.monotonic() - asked.began_at
    route = asked.url_rule.rule if asked.url_rule else None
    metrics.count_request(asked.method, route, response.status_code, seconds)
    logs.event(
        "request",
        method=asked.method,
        route=route,
        status=response.status_code,
        ms=round(seconds * 1000, 1),
        bytes=response.content_length,
        user_id=asked.session and str(asked.session.user_id),
    )
