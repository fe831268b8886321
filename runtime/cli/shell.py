"""What `flask shell` has by name: the parts, the models, the services, and a client."""

from flask import Flask

from runtime import agent, clock
from runtime.database.base import db
from runtime.limits.store import store
from runtime.mail.queue import mail
from runtime.models.tables import MODELS
from runtime.services import closures, exports, health, purge
from runtime.services.accounts import (
    email_changes,
    password_changes,
    recoveries,
    refreshes,
    security_log,
    sessions,
    sign_ins,
    users,
    verifications,
)
from runtime.services.chats import chats, runs

SERVICES = (
    users,
    sign_ins,
    refreshes,
    sessions,
    verifications,
    recoveries,
    email_changes,
    password_changes,
    security_log,
    exports,
    closures,
    purge,
    chats,
    runs,
    health,
)


def names(app: Flask) -> dict[str, object]:
    """Each thing by the name that it has in the shell."""
    models = {model.__name__: model for model in MODELS}
    services = {service.__name__.rpartition(".")[2]: service for service in SERVICES}
    parts = {"db": db, "store": store, "mail": mail, "clock": clock, "agent": agent}
    return models | services | parts | {"client": app.test_client()}
