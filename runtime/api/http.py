"""What every answer carries, and what is known of every request: id, network, language."""

import ipaddress
import time
from collections.abc import Callable
from functools import lru_cache

from flask import Flask, Response, current_app, request
from flask import Request as FlaskRequest
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from .. import devices, i18n, logs, metrics, wire
from ..callers import Caller
from ..models import Session

# What a route takes unless it says that it takes more: anybody may send so much.
MAX_BODY_BYTES = 16 * 1024
# What a chat takes: a message, and of a front end that keeps the conversation all of it.
MAX_CHAT_BYTES = 1024 * 1024
PREFLIGHT_SECONDS = 7200
# Longer than any address with a port: what a proxy took from its client is kept no longer.
MAX_ADDRESS = 64


class _NoCookies(SessionInterface):
    """No session of Flask's: making one takes longer than to read an access token."""

    _session = NullSession()

    def open_session(self, app: Flask, request) -> NullSession:
        return self._session


class Request(FlaskRequest):
    """A request, when it began, and the session of who asks, with its user, if it is known."""

    began_at: float
    session: Session | None = None

    @property
    def max_content_length(self) -> int:
        """How long the body may be: what the route says."""
        return _max_body_bytes(current_app, self.endpoint)


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
    # A path is what it is: no redirect, which would be HTML, to one that looks alike.
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.before_request(_answer_options)
    # Flask calls the last one first.
    app.after_request(_finish)
    if app.config["CORS_ORIGINS"]:
        app.after_request(_add_cors)
    hops = app.config["TRUSTED_PROXIES"]
    if hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)


def encode(value: object) -> bytes:
    """JSON as every answer has it: compact, in UTF-8, with an end of line."""
    return f"{wire.encode(value)}\n".encode(errors="replace")


def _max_body_bytes(app: Flask, endpoint: str | None) -> int:
    return getattr(app.view_functions.get(endpoint), "max_body_bytes", MAX_BODY_BYTES)


def language() -> str:
    """The language for the person in front of the screen."""
    return i18n.choose(request.accept_languages)


def stated_language() -> str | None:
    """The language that the request asks for, None if it asks for none that there is."""
    return i18n.choose_stated(request.accept_languages)


def network() -> str:
    """Where the request comes from, as limits count it: an IPv4 address, an IPv6 /56.

    A home has a /56 as a rule, 256 of the networks that a machine in it can choose from.
    """
    return _network_of((request.remote_addr or "")[:MAX_ADDRESS])


def origin() -> dict[str, str | None]:
    """Who asks, as a journal has it: the `network`, and the `device` if it says what it is."""
    return {"network": network(), "device": devices.name_of(request.headers.get("User-Agent", ""))}


def caller() -> Caller:
    """Who asks, as services and mails have it."""
    return Caller(**origin(), language=language(), stated_language=stated_language())


@lru_cache(1024)
def _network_of(peer: str) -> str:
    try:
        address = ipaddress.ip_address(_without_port(peer))
    except ValueError:
        return "unknown"
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 56), strict=False))


def _without_port(address: str) -> str:
    """Some proxies put the port behind the address: `192.0.2.1:5678`, `[2001:db8::1]:5678`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def current_request() -> Request:
    """The request itself, for what every request passes: each look through Flask's `request` costs
    as much as a small function.
    """
    return request_ctx.request


def _begin() -> None:
    asked = current_request()
    asked.began_at = time.monotonic()
    logs.request_id.set(wire.request_id(asked.headers.get("X-Request-ID", "")))


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


def _allowed_origin() -> str | None:
    """The page's origin if CORS_ORIGINS names it (Fetch standard, CORS protocol)."""
    allowed = _cors_origins()
    origin = request.headers.get("Origin")
    if origin and "*" in allowed:
        return "*"
    return origin if origin in allowed else None


def _cors_origins() -> list[str]:
    return current_app.config["CORS_ORIGINS"]


def _answer_options() -> Response | None:
    """Say what a path takes, to a browser that asks before a request from another origin too."""
    asked = current_request()
    if asked.method != "OPTIONS" or asked.url_rule is None:
        return None
    response = current_app.make_default_options_response()
    response.status_code = 204
    if not _allowed_origin():
        return response
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
    response.headers["Access-Control-Allow-Headers"] = (
        "Authorization, Content-Type, Accept-Language, Idempotency-Key, Last-Event-ID, X-Request-ID"
    )
    response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


def _add_cors(response: Response) -> Response:
    """Let pages of allowed origins read the answer; bearer tokens need no credentials mode."""
    origin = _allowed_origin()
    if origin:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = (
            "Content-Disposition, Content-Location, Retry-After, X-Request-ID"
        )
    response.vary.add("Origin")
    return response
