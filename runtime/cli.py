"""The `flask` command: db, users, routes-document, and the names in `flask shell`."""

import click
from flask import Flask
from flask.cli import AppGroup

from . import agent, clock, migrate, models
from .api import document
from .db import db, is_outage, outage_reason
from .mail import mail
from .models import User
from .services import chats, health, runs, sessions, users, verifications
from .store import store


class _Group(AppGroup):
    """Commands that say in one line why they cannot have the database."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not is_outage(error):
                raise
            raise click.ClickException(outage_reason(error)) from error


db_group = _Group("db", help="The database's migrations.")
users_group = _Group("users", help="Accounts, for operators.")


@db_group.command("upgrade")
def upgrade() -> None:
    """Apply the migrations that are pending."""
    try:
        applied = migrate.upgrade(db.obj)
    except migrate.TableInUse as error:
        raise click.ClickException(str(error)) from error
    for name in applied:
        click.echo(f"applied {name}")
    click.echo("up to date")


@users_group.command("show")
@click.argument("email")
def show_user(email: str) -> None:
    """Show the account with this address."""
    _print(_found(email))


@users_group.command("promote")
@click.argument("email")
def promote_user(email: str) -> None:
    """Make the account with this address an administrator."""
    _print(users.promote(_found(email)))


@click.command("routes-document")
@click.option("--check", is_flag=True, help="Write nothing; fail when it is out of date.")
def routes_document(check: bool) -> None:
    """Write runtime/ROUTES.md from the OpenAPI document."""
    if check and not document.is_current():
        raise click.ClickException("runtime/ROUTES.md is out of date: run flask routes-document")
    if not check:
        click.echo(f"wrote {document.write()}")


def _found(email: str) -> User:
    user = User.find_by_email(email)
    if user is None:
        raise click.ClickException(f"there is no account with the address {email}")
    return user


def _print(user: User) -> None:
    rows = {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "administrator": "yes" if user.is_admin else "no",
        "created": f"{user.created_at:%Y-%m-%d %H:%M} UTC",
    }
    for name, value in rows.items():
        click.echo(f"{name:14} {value}")


def init_app(app: Flask) -> None:
    """Add the commands, and what `flask shell` knows by name."""
    for command in (db_group, users_group, routes_document):
        app.cli.add_command(command)

    @app.shell_context_processor
    def _names() -> dict:
        services = {
            "users": users,
            "sessions": sessions,
            "verifications": verifications,
            "chats": chats,
            "runs": runs,
            "health": health,
        }
        rows = {model.__name__: model for model in models.MODELS}
        parts = {"db": db, "store": store, "mail": mail, "clock": clock, "agent": agent}
        return rows | services | parts | {"client": app.test_client()}
