"""What every answer carries, and what is known of every request: id, network, language."""

import time
from collections.abc import Callable
from functools import cached_property

from flask import Flask, Response, current_app, request
from flask import Request as FlaskRequest
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import LanguageAccept
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from runtime import i18n, logs, metrics, wire
from runtime.api import cors, proxies
from runtime.api.proxies import Proxies
from runtime.caller import Caller
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security import user_agents

# What a route takes unless it says that it takes more: anybody may send so much.
MAX_BODY_BYTES = 16 * 1024
# What a chat takes: a message, and of a front end that keeps the conversation all of it.
MAX_CHAT_BYTES = 1024 * 1024


class _NoCookies(SessionInterface):
    """No session of Flask's: making one takes longer than to read an access token."""

    _session = NullSession()

    def open_session(self, app: Flask, request) -> NullSession:
        return self._session


class Request(FlaskRequest):
    """A request, when it began, and the session of who asks, with its user, if it is known.

    `user_in_path` is the account whose name is in the path, if there is one.
    """

    began_at: float
    session: Session | None = None
    user_in_path: User | None = None

    @property
    def max_content_length(self) -> int:
        """How long the body may be: what the route says."""
        return _max_body_bytes(current_app, self.endpoint)

    @cached_property
    def accept_languages(self) -> LanguageAccept:
        """What Accept-Language says, as far as it is read."""
        return i18n.accepted_in(self.headers.get("Accept-Language", ""))


class Application(Flask):
    """Flask without what is not used here: sessions in cookies, hosts and coroutines."""

    request_class = Request
    session_interface = _NoCookies()

    def create_url_adapter(self, asked: Request | None) -> MapAdapter | None:
        """Without a look at the host, on which no route depends: any is as good as another."""
        if asked is None:
            return None
        return self.url_map.bind("", path_info=asked.path, default_method=asked.method)

    def max_body_bytes(self, method: str, path: str) -> int:
        """How long the body of such a request may be; the server asks before it receives it."""
        try:
            endpoint, _arguments = self.url_map.bind("").match(path, method)
        except HTTPException:  # There is no such route.
            return MAX_BODY_BYTES
        return _max_body_bytes(self, endpoint)

    def ensure_sync(self, func: Callable) -> Callable:
        """The function itself: Flask would look ten times a request for a coroutine."""
        return func


def init_app(app: Flask) -> None:
    """Hook the app up; proxies are believed as far as TRUSTED_PROXIES says."""
    proxies.init_app(app)
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
    return f"{wire.encode(value)}\n".encode(errors="replace")


def _max_body_bytes(app: Flask, endpoint: str | None) -> int:
    return getattr(app.view_functions.get(endpoint), "max_body_bytes", MAX_BODY_BYTES)


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
    logs.request_id.set(wire.request_id(asked.headers.get("X-Request-ID", "")))
    _proxies().look(asked.environ)


def _finish(response: Response) -> Response:
    """Add the headers that every answer has, and log the request."""
    headers = response.headers
    if response.status_code == 204:
        del headers["Content-Type"]
    # Nobody else sets these: to look for them first takes longer than to add them.
    headers.add("X-Request-ID", logs.request_id.get())
    for name, value in wire.HEADERS.items():
        headers.add(name, value)
    is_page = response.mimetype == "text/html"
    headers.add("Content-Security-Policy", wire.PAGE_POLICY if is_page else wire.DATA_POLICY)
    if "Cache-Control" not in headers:
        headers.add("Cache-Control", wire.NO_STORE)
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
