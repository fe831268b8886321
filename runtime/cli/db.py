"""`flask db`: the database's migrations."""

import click

from runtime.cli.command import Group, as_json, at_once
from runtime.cli.output import print_table
from runtime.database import migrate
from runtime.database.base import db

group = Group("db", help="The database's migrations.")


@group.command("upgrade", example="db upgrade")
def upgrade() -> None:
    """Apply the pending migrations."""
    for name in migrate.upgrade(db.obj):
        click.echo(f"applied {name}")
    click.echo("up to date")


@group.command("downgrade", example="db downgrade --to 0009_create_security_events")
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


@group.command("status", example="db status --json")
@as_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show which migrations are applied.

    Ends with 1 when one is pending.
    """
    rows = [{"migration": name, "applied_at": at} for name, at in migrate.status(db.obj)]
    print_table(rows, ("migration", "applied_at"), as_json and {"migrations": rows})
    ctx.exit(int(any(row["applied_at"] is None for row in rows)))
