"""`flask users`: accounts, for operators."""

import functools
import re
import sys
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import click

from runtime import i18n
from runtime.api.schemas.auth import CreateVerificationSchema
from runtime.cli.command import Group, as_json, at_once
from runtime.cli.output import print_parts, print_table
from runtime.database.pagination import CURSOR
from runtime.errors import EmailTaken, UserNotFound
from runtime.mail.addresses import tidy
from runtime.models.users import User
from runtime.services import administration, closures
from runtime.services.accounts import sessions, users

COLUMNS = ("email", "username", "administrator", "created_at", "signed_in_at", "disabled_at")

group = Group("users", help="Accounts, for operators.")


def _on_account(name: str) -> Callable:
    """Add a command about one account, which is found by address, username or id."""

    def add(function: Callable) -> Callable:
        @group.command(name, example=f"users {name} ada@example.org")
        @click.argument("user", metavar="USER")
        @functools.wraps(function)
        def command(user: str, **options: bool) -> None:
            function(_found(user), **options)

        return command

    return add


@group.command("list", example="users list --search example.org --limit 10")
@click.option("--search", metavar="TEXT", default="", help="In the address or the username.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Go on behind the accounts that were listed before.")
@as_json
def list_accounts(search: str, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the accounts, the newest first."""
    if cursor and not re.fullmatch(CURSOR, cursor):
        raise click.BadParameter("is none that a list has named", param_hint="--cursor")
    found = users.page_of(search, cursor=cursor, limit=limit, anywhere=True)
    rows = [_account(user) for user in found.rows]
    print_table(rows, COLUMNS, as_json and {"users": rows, "next_cursor": found.next_cursor})
    if found.next_cursor and not as_json:
        click.echo(f"There are more: --cursor {found.next_cursor}", err=True)


@_on_account("show")
@as_json
def show(user: User, as_json: bool) -> None:
    """Show an account.

    USER is an address, a username or an id.
    """
    shown = administration.account_of(user)
    print_parts(_account(user) | {"sessions": shown.sessions, "chats": shown.chats}, as_json)


@group.command("create", example="users create ada@example.org ada --admin")
@click.argument("email")
@click.argument("username")
@click.option("--admin", is_flag=True, help="Make it an administrator.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin's first line.")
@as_json
def create(email: str, username: str, admin: bool, password_stdin: bool, as_json: bool) -> None:
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
    print_parts(_account(user), as_json)


@_on_account("disable")
@as_json
def disable(user: User, as_json: bool) -> None:
    """Shut an account.

    Its sessions and runs end at once, and a sign-in is told that the password is wrong.
    """
    closures.disable(user)
    print_parts(_account(_again(user)), as_json)


@_on_account("enable")
@as_json
def enable(user: User, as_json: bool) -> None:
    """Open a disabled account again.

    Its sessions stay ended.
    """
    users.enable(user)
    print_parts(_account(_again(user)), as_json)


@_on_account("promote")
@as_json
def promote(user: User, as_json: bool) -> None:
    """Make an account an administrator."""
    print_parts(_account(users.promote(user)), as_json)


@_on_account("demote")
@as_json
def demote(user: User, as_json: bool) -> None:
    """Make an administrator a user like any other."""
    print_parts(_account(users.demote(user)), as_json)


@_on_account("end-sessions")
@as_json
def end_sessions(user: User, as_json: bool) -> None:
    """Sign an account out everywhere."""
    print_parts({"ended": sessions.end_all(user)}, as_json)


@_on_account("delete")
@at_once
def delete(user: User, yes: bool) -> None:
    """Erase an account and all that is its."""
    if not yes:
        click.confirm(f"Erase {user.email}, its chats and all that is its, for good?", abort=True)
    closures.erase(user)
    click.echo(f"erased {user.id}")


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
