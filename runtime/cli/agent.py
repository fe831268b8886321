"""`flask agent`: the model that answers chats."""

import click
from flask import current_app

from runtime.agent import check as agent_check
from runtime.cli.command import Group

group = Group("agent", help="The model that answers chats.")


@group.command("check", example="agent check")
def check() -> None:
    """Ask the model, and say what it takes."""
    shared = current_app.extensions["agent"]
    click.echo(f"Chats are answered by {shared.provider.name}.")
    has_failed = False
    for finding in agent_check.check(shared.provider, shared.tools):
        click.echo(finding.sentence)
        has_failed = has_failed or not finding.is_good
    if has_failed:
        raise click.ClickException("the model does not answer as it must")
