"""What all commands share: how they fail, how their use is shown, and their common options.

A command ends with 0 when it did what it was asked to, 1 when it could not and says why in one
line, 2 when it was used wrongly, and 3 when a setting makes no sense. Stdout has the answer alone.
"""

from typing import Any

import click
from flask.cli import AppGroup
from playhouse.migrations import MigrationError

from runtime import i18n, logs
from runtime.database.fitness import UnfitDatabase
from runtime.database.migrate import TableInUse
from runtime.database.outages import is_outage, outage_reason
from runtime.errors import Failure, InvalidParameters

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
at_once = click.option("--yes", is_flag=True, help="Do not ask.")


class Command(click.Command):
    """Says in one line what it cannot do, and shows how it is used by an example."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any):
        kwargs["epilog"] = f"\b\nExample:\n  flask {example}"
        super().__init__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Raises ClickException, which ends with 1, for a failure that is foreseen."""
        try:
            with logs.on_stderr():
                return super().invoke(ctx)
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            raise click.ClickException(reason) from error


class Group(AppGroup):
    """Commands of one noun."""

    command_class = Command

    def __init__(self, name: str, help: str):
        epilog = "Exit status: 0 done, 1 refused or not there, 2 wrong usage, 3 a wrong setting."
        super().__init__(name, help=help, epilog=epilog)


def _reason(error: Exception) -> str | None:
    """Why a command could not do what it was asked to; None for what is a fault of ours."""
    match error:
        case InvalidParameters() if type(error) is InvalidParameters:
            fault = error.faults[0]
            return f"{fault.where.removeprefix('#/')}: {i18n.message(fault.message, 'en')}"
        case Failure():
            return i18n.told(error, "en")
        case UnfitDatabase():
            return f"DATABASE_URL {error}"
        case TableInUse() | MigrationError():
            return str(error)
    return outage_reason(error) if is_outage(error) else None
