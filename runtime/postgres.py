"""Postgres as peewee's pool sees it, with an end to every wait.

libpq waits for an answer for ever; neither the server's statement_timeout nor TCP's own helps
against a server that is stopped, not gone.
"""

import select
import time

import peewee
import psycopg
from playhouse.pool import PooledPostgresqlDatabase

CONNECT_SECONDS = 2
# The server ends a statement first, and keeps the connection; READ_SECONDS is for one that hangs.
STATEMENT_SECONDS = 2
READ_SECONDS = 2.5
# After a connection was refused, or not answered, nobody else tries for so long: whoever connects
# holds the lock that all others need.
BREAK_SECONDS = 0.5
# How long a thread waits for one of the pool's connections.
POOL_WAIT_SECONDS = 2
# A connection is made anew from time to time, so that a failover or a new address is noticed.
STALE_SECONDS = 600


class Connection(psycopg.Connection):
    """Gives up on an answer after `read_seconds`; None, for a migration, waits for ever."""

    read_seconds: float | None = READ_SECONDS

    def wait(self, gen, interval=0.1, timeout=None):
        try:
            return super().wait(gen, interval, timeout or self.read_seconds)
        except psycopg.errors._WaitTimeout as error:
            # What it was doing is unknown: the connection is of no more use.
            self.pgconn.finish()
            raise psycopg.OperationalError("the server does not answer") from error


class _Adapter(peewee.Psycopg3Adapter):
    def __init__(self):
        super().__init__()
        self._broken_until = 0.0

    def connect(self, db, **params):
        if time.monotonic() < self._broken_until:
            raise psycopg.OperationalError("left alone for a moment after a failure")
        try:
            conn = Connection.connect(db.database, autocommit=True, **params)
            # Not in the connection's options, which are the URL's own, and no pooler's.
            if "statement_timeout" not in db.database:
                conn.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
            return conn
        except psycopg.OperationalError:
            self._broken_until = time.monotonic() + BREAK_SECONDS
            raise


class PostgresDatabase(PooledPostgresqlDatabase):
    """A pool of at most `connections`, each looked at before it is used."""

    psycopg3_adapter = _Adapter

    def __init__(self, url: str, connections: int):
        super().__init__(
            url,
            max_connections=connections,
            timeout=POOL_WAIT_SECONDS,
            stale_timeout=STALE_SECONDS,
            prefer_psycopg3=True,
            connect_timeout=CONNECT_SECONDS,
        )

    def _is_closed(self, conn) -> bool:
        """Whether the server has closed it: then its goodbye is there to be read.

        That costs no round trip, where asking `SELECT 1` would cost one in each request.
        """
        if conn.closed:
            return True
        # Not select(): a worker that holds a thousand clients has sockets beyond its 1,023.
        goodbye = select.poll()
        goodbye.register(conn.pgconn.socket, select.POLLIN)
        return bool(goodbye.poll(0)) or super()._is_closed(conn)
