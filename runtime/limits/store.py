"""The store beside the database: Redis, or the embedded stand-in for it.

Nothing is kept in it alone that must not be lost.
"""

from flask import Flask, current_app
from werkzeug.local import LocalProxy

# Of all workers together, up to four: small hosted plans allow 20, and a call takes less than a
# millisecond.
CONNECTIONS = 16
MIN_CONNECTIONS = 4


class EmbeddedStore:
    """What stands in for Redis in one process."""

    mode = "embedded"
    pool = None

    def call(self, function, *arguments):
        """Call a function."""
        return function(*arguments)

    def ping(self) -> None:
        """There is nothing that could be away."""


def init_app(app: Flask) -> None:
    """Connect to REDIS_URL; without one, count in each process."""
    url = app.config["REDIS_URL"]
    if url:
        # Imported here: it takes a tenth of the service's time to start, and of its memory.
        from runtime.limits.redis_store import RedisStore

        connections = max(MIN_CONNECTIONS, CONNECTIONS // app.config["WEB_CONCURRENCY"])
        app.extensions["store"] = RedisStore(url, connections)
    else:
        app.extensions["store"] = EmbeddedStore()


store = LocalProxy(lambda: current_app.extensions["store"])
