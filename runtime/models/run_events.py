"""The journals of runs, a row an event."""

import json
from collections.abc import Sequence
from uuid import UUID

from peewee import CharField, CompositeKey, ForeignKeyField, IntegerField, SqliteDatabase, TextField

from runtime.database.base import Model, db
from runtime.models.chats import Run


class RunEvent(Model):
    """The journal of a run: its events as they are on the wire, numbered from 1.

    `type` is NULL where a release before 0023 has written the row; it is in `data` always.
    `pieces` has the lengths of the deltas that were joined into this one; it has the last one's
    number. The `error` of a RUN_ERROR is its code, for every reader's own language. The last event
    has the run's `usage`, as far as it is known. `vendor` is JSON that is shown to no client: what
    the model's server sent of its own, see `agent.Vendor`.
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
    def of_runs(cls, run_ids: Sequence[UUID]) -> list[tuple[UUID, int, str]]:
        """Run, number and data of all events of these runs, each run's in their order."""
        return cls._read(run_ids, "number, data")

    @classmethod
    def words_of(cls, run_ids: Sequence[UUID]) -> list[tuple[UUID, str, str | None]]:
        """Run, data and vendor of these runs' events, likewise, beginnings and ends left out.

        These say nothing that the rest does not, and ends say all of it again.
        """
        return cls._read(run_ids, "data, vendor", "AND substr(data, 10, 4) <> 'RUN_'")

    @classmethod
    def _read(cls, run_ids: Sequence[UUID], columns: str, which: str = "") -> list[tuple]:
        """Postgres is told to look for each run by itself: before a database that was restored is
        analyzed, it takes the events of a few runs for half of the table, and reads all of it.
        """
        is_sqlite = isinstance(db.obj, SqliteDatabase)
        sql = _EVENTS_ON_SQLITE if is_sqlite else _EVENTS_ON_POSTGRES
        ids = json.dumps([run_id.hex for run_id in run_ids])
        rows = db.execute_sql(sql.format(columns=columns, which=which), (ids,)).fetchall()
        return [(cls.run.python_value(run_id), *rest) for run_id, *rest in rows]


_EVENTS_ON_POSTGRES = """
    SELECT event.run_id, {columns}
    FROM (SELECT value::uuid AS id FROM json_array_elements_text(%s)) AS run
    CROSS JOIN LATERAL (
        SELECT run_id, number, data, vendor FROM run_events
        WHERE run_id = run.id {which} ORDER BY number
    ) AS event
    ORDER BY event.run_id, event.number"""
_EVENTS_ON_SQLITE = """
    SELECT run_id, {columns} FROM run_events
    WHERE run_id IN (SELECT value FROM json_each(?)) {which}
    ORDER BY run_id, number"""
