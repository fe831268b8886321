"""`flask keys`: the keys that sign tokens and codes."""

from pathlib import Path

import click
from flask import current_app

from runtime.cli.command import Group, as_json
from runtime.cli.output import print_parts
from runtime.config.secret_keys import make_secret_key, write_secret_keys

group = Group("keys", help="The keys that sign tokens and codes.")


@group.command("rotate", example="keys rotate --keep 1")
@click.option(
    "--keep", type=click.IntRange(0), help="How many of the keys so far still verify; all if unset."
)
@as_json
def rotate(keep: int | None, as_json: bool) -> None:
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
        print_parts({"written": folder / "secret_key", "earlier_keys": len(kept)}, as_json)
    elif as_json:
        print_parts({"SECRET_KEY": newest, "SECRET_KEY_FALLBACKS": " ".join(kept)}, as_json)
    else:
        click.echo(f"SECRET_KEY={newest}\nSECRET_KEY_FALLBACKS={','.join(kept)}")
