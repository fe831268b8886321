"""A pool of connections to Postgres, each looked at before use, behind a circuit breaker."""

import math
import select
import threading
import time
from collections.abc import Sequence

import peewee
import psycopg
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase
from psycopg.pq import TransactionStatus

from runtime import metrics
from runtime.circuit_breaker import CircuitBreaker
from runtime.database.postgres_connection import CONNECT_SECONDS, Connection, connect

# How long a thread waits for one of the pool's connections.
POOL_WAIT_SECONDS = 2
# If none was given back for so long, the server hangs: threads stop waiting for it.
STUCK_SECONDS = 1
# A server that has no room for another connection is not asked for one again for so long.
FULL_SECONDS = 1
# A connection is made anew from time to time, so that a failover or a new address is noticed.
STALE_SECONDS = 600
# A connection that was used so shortly before is not looked at: all others queue for the pool's
# lock while a thread asks the kernel.
FRESH_SECONDS = 0.1


class _Adapter(peewee.Psycopg3Adapter):
    def connect(self, db, **params):
        """Open a connection. The thread holds the pool's lock: it must not fail twice in a row.

        If it fails while others are in use, the server is there and has no room for another:
        raises MaxConnectionsExceeded, as a full pool does. Else trips the breaker.
        """
        if db.breaker.is_open:
            raise psycopg.OperationalError("left alone until it answers")
        if time.monotonic() < db.full_until and db.is_in_use():
            raise MaxConnectionsExceeded
        try:
            conn = connect(db.database, **params)
        except psycopg.OperationalError as error:
            if db.is_in_use():
                db.full_until = time.monotonic() + FULL_SECONDS
                raise MaxConnectionsExceeded from error
            db.breaker.trip(str(error))
            raise
        conn.on_silence = db.trip
        return conn


class PostgresDatabase(PooledPostgresqlDatabase):
    """A pool of at most `connections`, each looked at before it is used."""

    IS_SERVER = True
    FROM_NOW = "(timezone('utc', now()) + make_interval(secs => {}))"
    # The order of bytes, in a database of any language; an index that has it is named by
    # these (`text_pattern_ops`).
    AT_LEAST, BELOW, BY_BYTES = "~>=~", "~<~", "USING ~<~"
    # One value, a JSON array, whose items become of the column's type.
    AMONG = "(SELECT value::{} FROM json_array_elements_text(%s))"

    psycopg3_adapter = _Adapter

    def __init__(self, url: str, connections: int):
        super().__init__(
            url,
            max_connections=connections,
            stale_timeout=STALE_SECONDS,
            prefer_psycopg3=True,
            connect_timeout=CONNECT_SECONDS,
        )
        self.full_until = -math.inf
        self._taken_at = -math.inf
        self.breaker = CircuitBreaker("database", lambda: self.open_apart().close())

    def open_apart(self) -> Connection:
        """A connection outside of the pool, which the caller closes."""
        return connect(self.database, **self.connect_params)

    @metrics.database_pool_wait.time()
    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection for this thread; False if it has one, with `reuse_if_open`.

        Raises MaxConnectionsExceeded when all are in use and stay so, peewee.OperationalError.
        """
        deadline = time.monotonic() + POOL_WAIT_SECONDS
        while True:
            try:
                opened = super().connect(reuse_if_open)
            except MaxConnectionsExceeded:
                # None was taken for a while, since none was given back.
                is_stuck = time.monotonic() - self._taken_at > STUCK_SECONDS
                if time.monotonic() > deadline or is_stuck:
                    raise
            else:
                self._taken_at = time.monotonic()
                return opened
            with self._pool_available:
                if not self._connections:
                    self._pool_available.wait(STUCK_SECONDS / 10)

    def _connect(self) -> Connection:
        """The connection that this thread had last, if it is idle; else the pool's choice.

        With the pool's choice alone there are nearly twice as many context switches, and an eighth
        fewer requests are answered.
        """
        thread = threading.get_ident()
        with self._pool_lock:
            idle = self._connections
            for place, (_since, _number, conn) in enumerate(idle):
                if conn.thread == thread:
                    # The pool takes the first one; the order of the others does not matter.
                    idle[0], idle[place] = idle[place], idle[0]
                    break
            conn = super()._connect()
        conn.thread = thread
        return conn

    def fetch_all(self, sql: str, values: Sequence) -> list[tuple]:
        """Execute a statement, and read its rows to their end.

        Each connection keeps one cursor for it, and the last rows with it: to make a cursor takes
        a quarter of the time of a query by primary key.
        """
        return self._execute_cursor(sql, values, is_kept=True).fetchall()

    def cursor(self, named_cursor=None, is_kept: bool = False) -> psycopg.Cursor:
        """A new cursor, or with `is_kept` that which the thread's connection keeps."""
        if not is_kept:
            return super().cursor(named_cursor)
        conn = self.connection()
        conn.kept_cursor = conn.kept_cursor or conn.cursor()
        return conn.kept_cursor

    def is_in_use(self) -> bool:
        """Whether a thread has one of the connections, as far as it is known."""
        return bool(self._in_use)

    def trip(self) -> None:
        """Spare a server that hangs: each open connection would cost a request as much time."""
        self.breaker.trip("the server does not answer")
        self.close_idle()

    def _can_reuse(self, conn) -> bool:
        conn.used_at = time.monotonic()
        return super()._can_reuse(conn)

    def _is_closed(self, conn) -> bool:
        if _is_usable(conn):
            return False
        conn.close()  # peewee just forgets it
        return True


def _is_usable(conn: Connection) -> bool:
    """Whether the server has not closed it: if it had, its goodbye could be read.

    peewee's own check, a `SELECT 1`, would be one more round trip in each request.
    """
    if conn.closed or conn.pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    if time.monotonic() - conn.used_at < FRESH_SECONDS:
        return True
    # Not select(): a worker that holds a thousand clients has sockets beyond its 1,023.
    goodbye = select.poll()
    goodbye.register(conn.pgconn.socket, select.POLLIN)
    return not goodbye.poll(0)
