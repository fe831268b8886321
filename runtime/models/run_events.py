"""The journals of runs, a row an event."""

from peewee import CharField, CompositeKey, ForeignKeyField, IntegerField, TextField

from runtime.database.base import Model
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
