"""The `flask` command: db, users, keys, agent, purge, routes-document, and what `flask shell` has.

Every command ends with 0 when it did what it was asked to, 1 when it could not, and says why in
one line, and 2 when it was asked for nonsense. What it prints on stdout is the answer alone.
"""

import functools
import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext
from playhouse.migrations import MigrationError

from runtime import agent, clock, i18n, logs
from runtime.agent import check as agent_check
from runtime.api import document
from runtime.api.schemas.shapes import CreateVerificationSchema
from runtime.cli import output
from runtime.config.secret_keys import make_secret_key, write_secret_keys
from runtime.database import migrate
from runtime.database.base import db
from runtime.database.outages import is_outage, outage_reason
from runtime.database.pagination import CURSOR
from runtime.errors import EmailTaken, Failure, InvalidParameters, UserNotFound
from runtime.limits.store import store
from runtime.mail.addresses import tidy
from runtime.mail.queue import mail
from runtime.models.sessions import Session
from runtime.models.tables import MODELS
from runtime.models.users import User
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

ACCOUNTS = ("email", "username", "administrator", "created_at", "signed_in_at", "disabled_at")


class _Command(click.Command):
    """Says in one line what it cannot do, and shows how it is used by an example."""

    def __init__(self, *args, example: str = "", **kwargs):
        super().__init__(*args, **kwargs, epilog=f"\b\nExample:\n  flask {example}")

    def invoke(self, ctx: click.Context):
        try:
            with logs.on_stderr():
                return super().invoke(ctx)
        except Failure as failure:
            raise click.ClickException(_sentence(failure)) from failure
        except migrate.UnfitDatabase as error:
            raise click.ClickException(f"DATABASE_URL {error}") from error
        except (migrate.TableInUse, MigrationError) as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            if not is_outage(error):
                raise
            raise click.ClickException(outage_reason(error)) from error


class _Group(AppGroup):
    """Commands of one noun."""

    def command(self, name: str, *, example: str) -> Callable:
        return super().command(name, cls=_Command, example=example)


_EXIT = "Exit status: 0 done, 1 refused or not there, 2 wrong usage."
db_group = _Group("db", help="The database's migrations.", epilog=_EXIT)
users_group = _Group("users", help="Accounts, for operators.", epilog=_EXIT)
agent_group = _Group("agent", help="The model that answers chats.", epilog=_EXIT)
keys_group = _Group("keys", help="The keys that sign tokens and codes.", epilog=_EXIT)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
at_once = click.option("--yes", is_flag=True, help="Do not ask.")


def _of_user(function: Callable) -> Callable:
    """A command about one account, who is found by address, username or id."""

    @click.argument("user", metavar="USER")
    @functools.wraps(function)
    def found(user: str, **options):
        return function(_found(user), **options)

    return found


# Migrations


@db_group.command("upgrade", example="db upgrade")
def upgrade() -> None:
    """Apply the pending migrations."""
    for name in migrate.upgrade(db.obj):
        click.echo(f"applied {name}")
    click.echo("up to date")


@db_group.command("downgrade", example="db downgrade --to 0009_create_security_events")
@click.option("--to", "target", metavar="NAME", help="Down to and with this one, not the last.")
@at_once
def downgrade(target: str | None, yes: bool) -> None:
    """Take back the last migration.

    What is in the tables and columns that it made is lost. With DATABASE_URL unset every start
    applies what is pending again.
    """
    if not yes:
        click.confirm(f"Take back {target or 'the last migration'}, and lose its data?", abort=True)
    for name in migrate.downgrade(db.obj, target):
        click.echo(f"took back {name}")


@db_group.command("status", example="db status --json")
@as_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show which migrations are applied.

    Ends with 1 when one is pending.
    """
    rows = [{"migration": name, "applied_at": at} for name, at in migrate.status(db.obj)]
    _print_table(rows, ("migration", "applied_at"), as_json and {"migrations": rows})
    ctx.exit(int(any(row["applied_at"] is None for row in rows)))


# Accounts


@users_group.command("list", example="users list --search example.org --limit 10")
@click.option("--search", metavar="TEXT", default="", help="In the address or the username.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Go on behind the accounts that were listed before.")
@as_json
def list_users(search: str, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the accounts, the newest first."""
    if cursor and not re.fullmatch(CURSOR, cursor):
        raise click.BadParameter("is none that a list has named", param_hint="--cursor")
    found = users.page_of(search, cursor=cursor, limit=limit)
    rows = [_account(user) for user in found.rows]
    _print_table(rows, ACCOUNTS, as_json and {"users": rows, "next_cursor": found.next_cursor})
    if found.next_cursor and not as_json:
        click.echo(f"There are more: --cursor {found.next_cursor}", err=True)


@users_group.command("show", example="users show ada@example.org")
@_of_user
@as_json
def show_user(user: User, as_json: bool) -> None:
    """Show an account.

    USER is an address, a username or an id.
    """
    counts = {"sessions": Session.count_live(user), "chats": user.chats.count()}
    _print(_account(user) | counts, as_json)


@users_group.command("create", example="users create ada@example.org ada --admin")
@click.argument("email")
@click.argument("username")
@click.option("--admin", is_flag=True, help="Make it an administrator.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin's first line.")
@as_json
def create_user(
    email: str, username: str, admin: bool, password_stdin: bool, as_json: bool
) -> None:
    """Make an account.

    Asks for the password, which would be seen by others in a command line.
    """
    email = tidy(email)
    password = _read_password(password_stdin)
    _demand_valid(username=username, email=email, password=password)
    try:
        user = users.create(username, email, password, is_admin=admin)
    except EmailTaken as error:
        raise click.ClickException(f"there is an account with the address {email}") from error
    _print(_account(user), as_json)


@users_group.command("disable", example="users disable ada@example.org")
@_of_user
@as_json
def disable_user(user: User, as_json: bool) -> None:
    """Shut an account.

    Its sessions and runs end at once, and whoever signs in is told that the password is wrong.
    """
    closures.disable(user)
    _print(_account(_again(user)), as_json)


@users_group.command("enable", example="users enable ada@example.org")
@_of_user
@as_json
def enable_user(user: User, as_json: bool) -> None:
    """Open a disabled account again.

    Its sessions stay ended.
    """
    users.enable(user)
    _print(_account(_again(user)), as_json)


@users_group.command("promote", example="users promote ada@example.org")
@_of_user
@as_json
def promote_user(user: User, as_json: bool) -> None:
    """Make an account an administrator."""
    _print(_account(users.promote(user)), as_json)


@users_group.command("demote", example="users demote ada@example.org")
@_of_user
@as_json
def demote_user(user: User, as_json: bool) -> None:
    """Make an administrator a user like any other."""
    _print(_account(users.demote(user)), as_json)


@users_group.command("end-sessions", example="users end-sessions ada@example.org")
@_of_user
@as_json
def end_sessions(user: User, as_json: bool) -> None:
    """Sign an account out everywhere."""
    _print({"ended": sessions.end_all(user)}, as_json)


@users_group.command("delete", example="users delete ada@example.org")
@_of_user
@at_once
def delete_user(user: User, yes: bool) -> None:
    """Erase an account and all that is its."""
    if not yes:
        click.confirm(f"Erase {user.email}, its chats and all that is its, for good?", abort=True)
    closures.erase(user)
    click.echo(f"erased {user.id}")


# Keys, and what has run out


@keys_group.command("rotate", example="keys rotate --keep 1")
@click.option(
    "--keep", type=click.IntRange(0), help="How many of the keys so far still verify; all if unset."
)
@as_json
def rotate_keys(keep: int | None, as_json: bool) -> None:
    """Make a new SECRET_KEY.

    The present one goes on verifying, so that nobody is signed out. Keys that are kept under
    instance/ are rotated there; those in the environment are printed, for you to set. Restart the
    service then: until it is, it signs with the present one.
    """
    settings = current_app.config
    kept = [settings["SECRET_KEY"], *settings["SECRET_KEY_FALLBACKS"]][:keep]
    newest = make_secret_key()
    folder: Path | None = settings.get("SECRET_KEY_FOLDER")
    if folder:
        write_secret_keys(folder, newest, *kept)
        _print({"written": folder / "secret_key", "earlier_keys": len(kept)}, as_json)
    elif as_json:
        _print({"SECRET_KEY": newest, "SECRET_KEY_FALLBACKS": " ".join(kept)}, as_json)
    else:
        click.echo(f"SECRET_KEY={newest}\nSECRET_KEY_FALLBACKS={','.join(kept)}")


@click.command("purge", cls=_Command, example="purge --json")
@as_json
@with_appcontext
def purge_all(as_json: bool) -> None:
    """Delete what has run out.

    That is sign-ups, recoveries, changes of address, mailings, allowances, sessions, events, tokens
    spent by erased accounts. Prints how many rows of each there were. The service does the same by
    itself, once an hour.
    """
    _print(purge.purge(), as_json)


@agent_group.command("check", example="agent check")
def check_agent() -> None:
    """Ask the model, and say what it takes."""
    shared = current_app.extensions["agent"]
    click.echo(f"Chats are answered by {shared.provider.name}.")
    has_failed = False
    for finding in agent_check.check(shared.provider, shared.tools):
        click.echo(finding.sentence)
        has_failed = has_failed or not finding.is_good
    if has_failed:
        raise click.ClickException("the model does not answer as it must")


@click.command("routes-document", cls=_Command, example="routes-document --check")
@click.option("--check", is_flag=True, help="Write nothing; fail when it is out of date.")
@with_appcontext
def routes_document(check: bool) -> None:
    """Write runtime/ROUTES.md.

    It is written from the OpenAPI document.
    """
    if check and not document.is_current():
        raise click.ClickException("runtime/ROUTES.md is out of date: run flask routes-document")
    if not check:
        click.echo(f"wrote {document.write()}")


def _found(text: str) -> User:
    user = _find_by_id(text) or User.find_by_email(tidy(text)) or User.find_by_username(text)
    if user is None:
        raise click.ClickException(f"there is no account {text}")
    return user


def _find_by_id(text: str) -> User | None:
    try:
        return User.get_or_none(id=UUID(text))
    except ValueError:
        return None


def _again(user: User) -> User:
    """As it is now. Raises UserNotFound."""
    again = User.get_or_none(User.id == user.id)
    if again is None:
        raise UserNotFound
    return again


def _account(user: User) -> dict[str, str | bool | datetime | None]:
    """What an operator may see of an account: no hash."""
    return {
        "id": str(user.id),
        "email": user.email,
        "username": user.username,
        "administrator": user.is_admin,
        "created_at": user.created_at,
        "confirmed_at": user.email_confirmed_at,
        "signed_in_at": user.signed_in_at,
        "disabled_at": user.disabled_at,
    }


def _read_password(from_stdin: bool) -> str:
    """As it was typed, but for the end of its line. Raises ClickException when it is no text."""
    if not from_stdin:
        return click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.ClickException("password: it is not UTF-8") from error


def _demand_valid(**fields: str) -> None:
    """Raises ClickException with what is wrong, by the rules of a sign-up."""
    faults = CreateVerificationSchema(only=list(fields)).validate(fields)
    for name, messages in faults.items():
        raise click.ClickException(f"{name}: {i18n.message(messages[0], 'en')}")


def _sentence(failure: Failure) -> str:
    """What a failure is, or what is wrong with the first parameter if that is all it says."""
    if type(failure) is not InvalidParameters:
        return i18n.told(failure, "en")
    fault = failure.faults[0]
    return f"{fault.where.removeprefix('#/')}: {i18n.message(fault.message, 'en')}"


def _print(row: dict, as_json: bool) -> None:
    click.echo(output.as_json(row) if as_json else output.parts(row))


def _print_table(rows: list[dict], names: tuple[str, ...], json: object) -> None:
    """The rows as a table, or what is to be printed as JSON if anything is."""
    click.echo(output.as_json(json) if json else output.table(rows, names))


def init_app(app: Flask) -> None:
    """Add the commands, and what `flask shell` knows by name."""
    for command in (db_group, users_group, keys_group, agent_group, purge_all, routes_document):
        app.cli.add_command(command)

    @app.shell_context_processor
    def _names() -> dict:
        services = {
            "users": users,
            "sessions": sessions,
            "sign_ins": sign_ins,
            "refreshes": refreshes,
            "verifications": verifications,
            "recoveries": recoveries,
            "email_changes": email_changes,
            "password_changes": password_changes,
            "security_log": security_log,
            "exports": exports,
            "closures": closures,
            "purge": purge,
            "chats": chats,
            "runs": runs,
            "health": health,
        }
        rows = {model.__name__: model for model in MODELS}
        parts = {"db": db, "store": store, "mail": mail, "clock": clock, "agent": agent}
        return rows | services | parts | {"client": app.test_client()}
