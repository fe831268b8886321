"""Adds the commands to the application, and what `flask shell` knows by name."""

from functools import partial

from flask import Flask

from runtime.cli import agent, db, keys, purge, routes_document, shell, users


def init_app(app: Flask) -> None:
    """Add the commands, and what `flask shell` knows by name."""
    for group in (db.group, users.group, keys.group, agent.group):
        app.cli.add_command(group)
    for command in (purge.command, routes_document.command):
        app.cli.add_command(command)
    app.shell_context_processor(partial(shell.names, app))
