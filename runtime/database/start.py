"""What must hold of the database before the service starts; failures say what to do in one line."""

import peewee
import psycopg

from runtime.config.settings import ConfigError
from runtime.database import migrate
from runtime.database.connections import connect
from runtime.database.fitness import UnfitDatabase, demand_fit
from runtime.database.outages import outage_reason
from runtime.database.postgres import PostgresDatabase


def demand_database(url: str) -> str | None:
    """Raises ConfigError when the database is unfit, or is not migrated.

    Returns the reason when it is a server that cannot be reached: the service starts all the same,
    and answers 503 until it can.
    """
    database = connect(url, 1)
    try:
        if isinstance(database, PostgresDatabase):
            # Apart: when a pool cannot connect, its circuit breaker starts a thread.
            database.open_apart().close()
        demand_fit(database)
        pending = migrate.pending(database)
    except UnfitDatabase as error:
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


def migrate_own_database(database: migrate.Database) -> None:
    """Apply what is pending to the file under INSTANCE_PATH.

    Raises ConfigError when that is not possible.
    """
    try:
        migrate.upgrade(database)
    except (peewee.DatabaseError, OSError) as error:
        raise ConfigError(f"INSTANCE_PATH has a database that cannot be used: {error}") from error
    finally:
        database.close_all()
