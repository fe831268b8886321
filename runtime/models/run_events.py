"""The journals of runs, a row an event."""

import json
from collections.abc import Mapping
from uuid import UUID

from peewee import (
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    SqliteDatabase,
    TextField,
)

from runtime.database.base import Model, db
from runtime.models.chats import Run


class RunEvent(Model):
    """The journal of a run: its events as they are on the wire, numbered from 1.

    `type` is NULL where a release before 0023 has written the row; it is in `data` always.
    `pieces` has the lengths of the deltas that were joined into this one; it has the last one's
    number. The `error` of a RUN_ERROR is its code, for every reader's own language. The last event
    has the run's `usage`, as far as it is known. `vendor` is JSON that is shown to no client: what
    the model's server sent of its own, see `agent.messages.Vendor`.
    """

    id = None
    created_at = None
    run = ForeignKeyField(Run, backref="events", on_delete="CASCADE", index=False)
    number = IntegerField()
    data = TextField()
    pieces = TextField(null=True)
    vendor = TextField(null=True)
    type = CharField(max_length=32, null=True)

    class Meta:
        table_name = "run_events"
        primary_key = CompositeKey("run", "number")

    @classmethod
    def behind(cls, after: Mapping[UUID, int]) -> list[tuple]:
        """Run, number, type, data, pieces and vendor of these runs' events behind their numbers.

        Each run's are in order. As tuples, since rows of a long chat take three times as long.
        Postgres is told to look for each run by itself: until a restored database is analyzed, it
        takes the events of a few runs for half of the table, and reads all of it.
        """
        is_sqlite = isinstance(db.obj, SqliteDatabase)
        wanted = json.dumps([[run_id.hex, last] for run_id, last in after.items()])
        sql = _BEHIND_ON_SQLITE if is_sqlite else _BEHIND_ON_POSTGRES
        rows = db.execute_sql(sql, (wanted,)).fetchall()
        return [(cls.run.python_value(run_id), *rest) for run_id, *rest in rows]


_BEHIND_ON_POSTGRES = """
    SELECT event.*
    FROM (
        SELECT (value->>0)::uuid AS id, (value->>1)::int AS last FROM json_array_elements(%s::json)
    ) AS run
    CROSS JOIN LATERAL (
        SELECT run_id, number, type, data, pieces, vendor FROM run_events
        WHERE run_id = run.id AND number > run.last ORDER BY number
    ) AS event
    ORDER BY event.run_id, event.number"""
_BEHIND_ON_SQLITE = """
    SELECT run_id, number, type, data, pieces, vendor
    FROM (
        SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS last
        FROM json_each(?)
    ) AS run
    CROSS JOIN run_events ON run_id = run.id AND number > run.last
    ORDER BY run_id, number"""
