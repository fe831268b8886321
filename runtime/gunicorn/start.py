"""What must hold before the service starts. What does not is told in one line that says what to do.

gunicorn asks for it once, in its master, before there are workers.
"""

import errno
import socket
import time
from collections.abc import Mapping

import peewee
import psycopg

from runtime.config.settings import ConfigError
from runtime.database import migrate
from runtime.database.connections import connect
from runtime.database.outages import outage_reason
from runtime.database.postgres import PostgresDatabase

# A service that is being stopped may still have the port for a moment.
PORT_SECONDS = 3


def demand_port(environ: Mapping[str, str], port: int, seconds: float = PORT_SECONDS) -> None:
    """Raises ConfigError when nobody can listen on the port, or another program does.

    Nothing is asked of a socket that `environ` says is inherited: from systemd, or from the
    gunicorn that this one takes over from.
    """
    if {"LISTEN_FDS", "GUNICORN_FD"} & environ.keys():
        return
    deadline = time.monotonic() + seconds
    while refusal := _refusal_to_listen(port):
        if refusal.errno != errno.EADDRINUSE:
            raise ConfigError(f"PORT {port} cannot be listened on: {refusal.strerror}")
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"PORT {port} is taken by another program: stop that, or set PORT to another"
            )
        time.sleep(0.1)


def _refusal_to_listen(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return error
    return None


def demand_database(url: str) -> str | None:
    """Raises ConfigError when the database is unfit, or is not migrated.

    Returns the reason when it is a server that cannot be reached: the service starts all the same,
    and answers 503 until it can.
    """
    database = connect(url, 1)
    try:
        if isinstance(database, PostgresDatabase):
            # Apart: a pool that cannot connect looks out for the server's return, on a thread.
            database.open_apart().close()
        migrate.demand_fit(database)
        pending = migrate.pending(database)
    except migrate.UnfitDatabase as error:
        raise ConfigError(f"DATABASE_URL {error}") from error
    except (psycopg.OperationalError, peewee.OperationalError) as error:
        if isinstance(database, PostgresDatabase):
            return outage_reason(error)
        raise ConfigError(f"DATABASE_URL cannot be opened: {error}") from error
    except peewee.DatabaseError as error:
        raise ConfigError(f"DATABASE_URL cannot be used: {outage_reason(error)}") from error
    finally:
        database.close_all()
    if pending:
        raise ConfigError(
            f"DATABASE_URL names a database that is not migrated ({pending[0]} is pending):"
            " run flask db upgrade"
        )
    return None


def migrate_own_database(database: peewee.Database) -> None:
    """Apply what is pending to the file under INSTANCE_PATH.

    Raises ConfigError when that is not possible.
    """
    try:
        migrate.upgrade(database)
    except (peewee.DatabaseError, OSError) as error:
        raise ConfigError(f"INSTANCE_PATH has a database that cannot be used: {error}") from error
    finally:
        database.close_all()
