"""What Postgres did for each statement that anybody executed, as its log tells (auto_explain)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.servers import Postgres

SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_format": "json",
    # What a foreign key's trigger executes, too.
    "auto_explain.log_nested_statements": "on",
}


class Explaining(Postgres):
    """A cluster that tells its plans once it is asked to, and whose disk may lie."""

    is_analyzed = False

    def command(self) -> list[str]:
        # The time of a commit is not what is measured, and no vacuum helps.
        settings = ("fsync=off", "autovacuum=off", "max_wal_size=8GB", "shared_buffers=1GB")
        words = (word for each in (*settings, "log_line_prefix=@") for word in ("-c", each))
        return [*super().command(), *words]

    def explain(self) -> None:
        """Tell the plans of every connection that is opened from now on."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"ALTER DATABASE postgres SET {name} = '{value}'")


@dataclass(frozen=True)
class Plan:
    """A statement that was executed, and how."""

    sql: str
    ms: float
    root: dict

    def nodes(self) -> Iterator[dict]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", ())

    @property
    def rows_read(self) -> int:
        """Rows that scans have looked at, also those that they left out."""
        return sum(_rows(node) for node in self.nodes() if "Relation Name" in node)

    @property
    def buffers(self) -> int:
        """Pages of 8 KiB that were looked at; of an index those too whose entries are dead."""
        return self.root.get("Shared Hit Blocks", 0) + self.root.get("Shared Read Blocks", 0)

    @property
    def scanned(self) -> set[str]:
        """The tables that were read from their beginning."""
        return {
            node["Relation Name"]
            for node in self.nodes()
            if node["Node Type"] == "Seq Scan" and node["Actual Loops"]
        }


def _rows(node: dict) -> int:
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
    return int((node.get("Actual Rows", 0) + removed) * node.get("Actual Loops", 0))


def read(log: Path, beginning: int = 0) -> list[Plan]:
    """The plans in a cluster's log, from a byte on."""
    with log.open(errors="replace") as file:
        file.seek(beginning)
        entries = file.read().split("\n@")
    return [plan for entry in entries if (plan := _plan(entry))]


def _plan(entry: str) -> Plan | None:
    found = re.match(r"@?LOG:  duration: ([\d.]+) ms  plan:\n(.*)", entry, re.DOTALL)
    if not found:
        return None
    told = json.JSONDecoder().raw_decode(found[2].lstrip())[0]
    return Plan(told["Query Text"], float(found[1]), told["Plan"])
