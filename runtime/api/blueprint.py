"""The blueprint of a route group. A route's decorators say who may ask, what goes in, what comes
out and what can fail; what is the same for every route is added by itself.
"""

from collections.abc import Callable

import flask_smorest
import marshmallow as ma

from runtime.api import guards
from runtime.api.parser import Parser
from runtime.errors import Failure


class Blueprint(flask_smorest.Blueprint):
    """Routes that ask for an access token, unless they are `guards.public`."""

    ARGUMENTS_PARSER = Parser()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.before_request(guards.authenticate)

    def arguments(self, schema: type[ma.Schema], *, is_read: bool = True, **kwargs) -> Callable:
        """What goes in, read with one schema: of a class webargs makes one for each request.

        Unless it `is_read` this is for the document alone; the route calls `check_path` if need be.
        """
        read = super().arguments(schema(), **kwargs)
        if is_read:
            return read

        def document(function: Callable) -> Callable:
            function._apidoc = read(function)._apidoc
            return function

        return document

    def check_path(self, schema: ma.Schema) -> None:
        """Raises InvalidParameters when the path's arguments are not what `schema` says."""
        self.ARGUMENTS_PARSER.parse(schema, location="path")

    def fails(self, *failures: type[Failure]) -> Callable:
        """What can fail here, besides what can at any such route: see `responses.failures_of`."""

        def decorate(function: Callable) -> Callable:
            function.failures = failures
            return function

        return decorate
