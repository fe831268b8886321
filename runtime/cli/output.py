"""What a command prints: rows as a table, one thing as a list of its parts, anything as JSON."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from runtime import json_text


def print_parts(row: dict, as_json: bool) -> None:
    """Print one thing, as JSON if asked to."""
    click.echo(to_json(row) if as_json else parts(row))


def print_table(rows: Sequence[dict], names: Sequence[str], json: object) -> None:
    """Print rows as a table with these columns, or `json` instead if it is anything."""
    click.echo(to_json(json) if json else table(rows, names))


def table(rows: Sequence[dict], names: Sequence[str]) -> str:
    """The rows under a head of these names, each column as wide as it must be."""
    cells = [[name.replace("_", " ") for name in names]]
    cells += [[text(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, line, widths)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def parts(row: dict) -> str:
    """One name and its value a line."""
    width = max(map(len, row))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {text(row[name])}" for name in row)


def text(value: object) -> str:
    """A value for a person to read."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def to_json(value: object) -> str:
    """A value for a program to read; instants are ISO 8601 in UTC with `Z`."""
    return json_text.escape(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)
