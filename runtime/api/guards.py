"""Who asks: a bearer token becomes a session with its user (RFC 6750 §2.1).

A route of a guarded blueprint is refused without one unless it is declared public.
"""

from collections.abc import Callable

from flask import current_app
from flask_smorest import Blueprint

from runtime.api.http import current_request
from runtime.errors import NotAuthenticated
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import sessions

SCHEME = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `access_token` of a session.",
    }
}


def public(function: Callable) -> Callable:
    """Declare a route open to everybody."""
    function.is_public = True
    return Blueprint.doc(security=[])(function)


def current_user() -> User:
    """The user who asks, on a route that is not public."""
    return current_request().session.user


def current_session() -> Session:
    """The session of who asks, with its user, on a route that is not public."""
    return current_request().session


def bearer_token() -> str:
    """The token in Authorization. Raises NotAuthenticated when there is none."""
    authorization = current_request().authorization
    if authorization is None or authorization.type != "bearer" or authorization.token is None:
        raise NotAuthenticated
    return authorization.token


def authenticate() -> None:
    """Raises NotAuthenticated without a token, InvalidAccessToken with a wrong one."""
    asked = current_request()
    if getattr(current_app.view_functions[asked.endpoint], "is_public", False):
        return
    token = bearer_token()
    username = asked.view_args.get("username", "")
    # A name that no user can have is not looked for: the route says what is wrong with it.
    if username and username.isascii() and username.isprintable():
        found = sessions.authenticate_and_find(token, username)
        asked.session, asked.user_in_path = found
    else:
        asked.session = sessions.authenticate(token)


def user_in_path() -> User | None:
    """The user whose name is in the path, read together with the session of who asks."""
    return current_request().user_in_path
