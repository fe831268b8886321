"""Flask as this service needs it: its JSON, how long a body may be, nothing that is not used."""

from collections.abc import Callable
from functools import cached_property

from flask import Flask, Response, current_app
from flask import Request as FlaskRequest
from flask.json.provider import DefaultJSONProvider
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import LanguageAccept
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from runtime import i18n, json_text
from runtime.models.sessions import Session
from runtime.models.users import User

# What a route takes unless it says that it takes more: anybody may send so much.
MAX_BODY_BYTES = 16 * 1024
# What a chat takes: a message, and of a front end that keeps the conversation all of it.
MAX_CHAT_BYTES = 1024 * 1024


class Request(FlaskRequest):
    """A request, when it began, and the session of the user who asks, if it is known.

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


def encode(value: object) -> bytes:
    """JSON as every answer has it: compact, in UTF-8, with an end of line."""
    return f"{json_text.encode(value)}\n".encode(errors="replace")


class JSON(DefaultJSONProvider):
    """Flask's, but answers are encoded as all our JSON is."""

    sort_keys = False

    def response(self, value: object) -> Response:
        """The answer that is this value."""
        return Response(encode(value), mimetype=self.mimetype)


class _NoCookies(SessionInterface):
    """No session of Flask's: making one takes longer than to read an access token."""

    _session = NullSession()

    def open_session(self, app: Flask, request: FlaskRequest) -> NullSession:
        return self._session


class Application(Flask):
    """Flask without what is not used here: sessions in cookies, and hosts."""

    json_provider_class = JSON
    request_class = Request
    session_interface = _NoCookies()

    def create_url_adapter(self, asked: Request | None) -> MapAdapter | None:
        """Without a look at the host, on which no route depends: any is as good as another."""
        if asked is None:
            return None
        return self.url_map.bind("", path_info=asked.path, default_method=asked.method)

    def ensure_sync(self, function: Callable) -> Callable:
        """The function itself: none here is a coroutine, and Flask asks seven times a request."""
        return function

    def max_body_bytes(self, method: str, path: str) -> int:
        """How long the body of such a request may be; the server asks before it receives it."""
        try:
            endpoint, _arguments = self.url_map.bind("").match(path, method)
        except HTTPException:  # There is no such route.
            return MAX_BODY_BYTES
        return _max_body_bytes(self, endpoint)


def body_up_to(max_bytes: int) -> Callable:
    """Let a route's body be so long, instead of MAX_BODY_BYTES."""

    def decorate(function: Callable) -> Callable:
        function.max_body_bytes = max_bytes
        return function

    return decorate


def _max_body_bytes(app: Flask, endpoint: str | None) -> int:
    return getattr(app.view_functions.get(endpoint), "max_body_bytes", MAX_BODY_BYTES)
