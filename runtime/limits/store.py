"""The store beside the database: Redis, or the embedded stand-in for it.

Never the truth, always a shortcut.
"""

from flask import current_app
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
        return function(*arguments)

    def ping(self) -> None:
        """There is nothing that could be away."""


def init_app(app) -> None:
    url = app.config["REDIS_URL"]
    if url:
        # Here: it takes a tenth of the time and of the memory that the whole service takes.
        from runtime.limits.redis_store import RedisStore

        connections = max(MIN_CONNECTIONS, CONNECTIONS // app.config["WEB_CONCURRENCY"])
        app.extensions["store"] = RedisStore(url, connections)
    else:
        app.extensions["store"] = EmbeddedStore()


store = LocalProxy(lambda: current_app.extensions["store"])
