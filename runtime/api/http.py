"""What every answer carries, and what is known of every request: id, network, language."""

import json
import random
import re
import time
from collections.abc import Callable

from flask import Flask, Response, current_app, request
from flask import Request as FlaskRequest
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

from .. import devices, i18n, logs, metrics
from ..models import Session
from . import cors, proxies
from .proxies import Proxies

MAX_BODY_BYTES = 1024 * 1024

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class _NoCookies(SessionInterface):
    """No session of Flask's: making one takes longer than to read an access token."""

    _session = NullSession()

    def open_session(self, app: Flask, request) -> NullSession:
        return self._session


class Request(FlaskRequest):
    """A request, when it began, and the session of who asks, with its user, if it is known."""

    began_at: float
    session: Session | None = None


class Application(Flask):
    """Flask without what is not used here: sessions in cookies, hosts and coroutines."""

    request_class = Request
    session_interface = _NoCookies()

    def create_url_adapter(self, asked: Request | None) -> MapAdapter | None:
        """Without a look at the host, on which no route depends: any is as good as another."""
        if asked is None:
            return None
        return self.url_map.bind("", path_info=asked.path, default_method=asked.method)

    def ensure_sync(self, func: Callable) -> Callable:
        """The function itself: Flask would look ten times a request for a coroutine."""
        return func


def init_app(app: Flask) -> None:
    """Hook the app up; proxies are believed as far as TRUSTED_PROXIES says."""
    proxies.init_app(app)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # A path is what it is: no redirect, which would be HTML, to one that looks alike.
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.before_request(cors.answer_options)
    # Flask calls the last one first.
    app.after_request(_finish)
    if app.config["CORS_ORIGINS"]:
        app.after_request(cors.add)


def encode(value: object) -> bytes:
    """JSON as every answer has it: compact, in UTF-8, with an end of line."""
    return f"{_encode(value)}\n".encode(errors="replace")


def language() -> str:
    """The language for the person in front of the screen."""
    return i18n.choose(request.accept_languages)


def network() -> str:
    """Where the request comes from, as limits count it: an IPv4 address, an IPv6 /56, or
    "unknown".
    """
    return _proxies().network(request.environ)


def _proxies() -> Proxies:
    return current_app.extensions["proxies"]


def origin() -> dict[str, str | None]:
    """Who asks, as a journal has it: the `network`, and the `device` if it says what it is."""
    return {"network": network(), "device": devices.name_of(request.headers.get("User-Agent", ""))}


def current_request() -> Request:
    """The request itself, for what every request passes: each look through Flask's `request` costs
    as much as a small function.
    """
    return request_ctx.request


def _begin() -> None:
    asked = current_request()
    asked.began_at = time.monotonic()
    given = asked.headers.get("X-Request-ID", "")
    is_sane = _SANE_REQUEST_ID.fullmatch(given)
    logs.request_id.set(given if is_sane else f"{random.getrandbits(128):032x}")
    _proxies().look(asked.environ)


def _finish(response: Response) -> Response:
    """Add the headers that every answer has, and log the request."""
    headers = response.headers
    # Nobody else sets these two: to look for them first takes longer than to add them.
    headers.add("X-Request-ID", logs.request_id.get())
    headers.add("X-Content-Type-Options", "nosniff")
    if "Cache-Control" not in headers:
        headers.add("Cache-Control", "no-store")
    if response.status_code == 204:
        del headers["Content-Type"]
    _log(current_request(), response)
    return response


def _log(asked: Request, response: Response) -> None:
    seconds = time.monotonic() - asked.began_at
    route = asked.url_rule.rule if asked.url_rule else None
    metrics.observe_request(asked.method, route, response.status_code, seconds)
    logs.event(
        "request",
        method=asked.method,
        route=route,
        status=response.status_code,
        ms=round(seconds * 1000, 1),
        bytes=response.content_length,
        user_id=asked.session and str(asked.session.user_id),
    )
