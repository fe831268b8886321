"""`flask purge`: deletes what has run out."""

import click
from flask.cli import with_appcontext

from runtime.cli.command import Command, as_json
from runtime.cli.output import print_parts
from runtime.services import purge


@click.command("purge", cls=Command, example="purge --json")
@as_json
@with_appcontext
def command(as_json: bool) -> None:
    """Delete what has run out.

    That is sign-ups, recoveries, changes of address, mailings, allowances, sessions, events, tokens
    spent by erased accounts. Prints how many rows of each there were. The service does the same by
    itself, once an hour.
    """
    print_parts(purge.purge(), as_json)
