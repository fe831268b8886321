"""`flask routes-document`: renews ROUTES.md and ROUTES.en.md."""

import click
from flask.cli import with_appcontext

from runtime.api import route_document
from runtime.cli.command import Command


@click.command("routes-document", cls=Command, example="routes-document --check")
@click.option("--check", is_flag=True, help="Write nothing; fail when it is out of date.")
@with_appcontext
def command(check: bool) -> None:
    """Write ROUTES.md and ROUTES.en.md.

    They stand in runtime/, and are written from the OpenAPI document.
    """
    if check and not route_document.is_current():
        raise click.ClickException("runtime/ROUTES.md is out of date: run flask routes-document")
    if not check:
        for path in route_document.write():
            click.echo(f"wrote {path}")
