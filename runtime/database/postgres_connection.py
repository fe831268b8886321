"""One connection to Postgres, with an end to every wait, straight or through a pooler.

libpq waits for an answer for ever; neither the server's statement_timeout nor TCP's own helps
against a server that is stopped, not gone.

PgBouncer in transaction mode, and poolers like it, give each transaction another of the server's
sessions. Another client would find what is set or prepared in a session. So behind a pooler
nothing is prepared, and every transaction sets its own bounds.
"""

import math
from collections.abc import Callable, Mapping
from typing import cast

import psycopg
from psycopg.pq import TransactionStatus

CONNECT_SECONDS = 2
# The server ends a statement first, and keeps the connection. READ_SECONDS is for a server that
# hangs.
STATEMENT_SECONDS = 2
READ_SECONDS = 2.5

# A pooler tells its clients a process id of its own. In one statement: `true` at the end bounds
# nothing but the transaction, so that nothing is left in a pooler's session.
FIRST_STATEMENT = """
    SELECT is_pooled, set_config('statement_timeout', %s, is_pooled)
    FROM (SELECT pg_backend_pid() <> %s AS is_pooled) AS connection
"""
FIRST_STATEMENT_WITH_OWN_TIMEOUT = """
    SELECT pg_backend_pid() <> %s, setting::int FROM pg_settings WHERE name = 'statement_timeout'
"""


class Connection(psycopg.Connection):
    """Gives up on an answer after `read_seconds`; None, for a migration, waits for ever.

    `bounds` are the settings of each transaction behind a pooler.
    """

    read_seconds: float | None = READ_SECONDS
    on_silence: Callable[[], None] | None = None
    used_at = -math.inf
    thread: int | None = None
    kept_cursor: psycopg.Cursor | None = None
    is_pooled = False
    bounds: Mapping[str, int] = {}
    is_migrating = False

    def wait(self, gen, interval=0.1, timeout=None):
        """Wait for an answer. Raises psycopg.OperationalError after `read_seconds`."""
        try:
            return super().wait(gen, interval, timeout or self.read_seconds)
        except psycopg.errors._WaitTimeout as error:
            # What it was doing is unknown: the connection is of no more use.
            self.pgconn.finish()
            if self.on_silence:
                self.on_silence()
            raise psycopg.OperationalError("the server does not answer") from error

    def begin_migrating(self, lock_milliseconds: int) -> None:
        """Let statements take as long as they need, and wait for locks only so long.

        Behind a pooler that holds within transactions; outside of them the server's own bounds do.
        """
        self.is_migrating = True
        self.read_seconds = None
        bounds = {"statement_timeout": 0, "lock_timeout": lock_milliseconds}
        if self.is_pooled:
            self.bounds = bounds
            return
        for name, milliseconds in bounds.items():
            self.execute(f"SET {name} = {milliseconds}")

    def go_through_pooler(self, milliseconds: int) -> None:
        """Bear with a pooler: bounds in every transaction, nothing prepared."""
        self.is_pooled = True
        self.prepare_threshold = None
        self.cursor_factory = PooledCursor
        if milliseconds:
            self.bounds = {"statement_timeout": milliseconds}


class PooledCursor(psycopg.Cursor):
    """Has the server bound each transaction anew, a statement outside of one too."""

    def execute(self, query, params=None, **options):
        """Execute a statement within the connection's bounds."""
        conn = cast(Connection, self.connection)
        if not conn.bounds or conn.pgconn.transaction_status != TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        if query.startswith("BEGIN"):
            local = (f"SET LOCAL {name} = {value}" for name, value in conn.bounds.items())
            return super().execute("; ".join([query, *local]))
        if conn.is_migrating:  # CREATE INDEX CONCURRENTLY suffers no other statement beside it.
            return super().execute(query, params, **options)
        # What a pipeline has sent is one transaction, and one trip.
        with conn.pipeline():
            for name, value in conn.bounds.items():
                psycopg.Cursor(conn).execute("SELECT set_config(%s, %s, true)", (name, str(value)))
            return super().execute(query, params, **options)


def connect(url: str, **params) -> Connection:
    """Open a connection, and bound its statements unless the URL does.

    Raises psycopg.OperationalError.
    """
    conn = Connection.connect(url, autocommit=True, client_encoding="utf8", **params)
    try:
        _bound(conn, has_own_timeout="statement_timeout" in url)
    except psycopg.Error:
        # A pooler lets us in, and only then finds its server away.
        conn.close()
        raise
    return conn


def _bound(conn: Connection, has_own_timeout: bool) -> None:
    """Bound the statements of a connection by ours, or ours by its own timeout."""
    pid = conn.pgconn.backend_pid
    # Not in the connection's options, which are the URL's own, and no pooler's.
    if not has_own_timeout:
        [[is_pooled, _timeout]] = conn.execute(FIRST_STATEMENT, (f"{STATEMENT_SECONDS}s", pid))
        if is_pooled:
            conn.go_through_pooler(STATEMENT_SECONDS * 1000)
        return
    [[is_pooled, ms]] = conn.execute(FIRST_STATEMENT_WITH_OWN_TIMEOUT, (pid,))
    conn.read_seconds = ms / 1000 + READ_SECONDS - STATEMENT_SECONDS if ms else None
    if is_pooled:
        conn.go_through_pooler(0)
