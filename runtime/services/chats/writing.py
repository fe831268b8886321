"""What runs have appended to their journals goes to the database, that of many at once."""

from contextlib import nullcontext
from uuid import UUID

from peewee import SqliteDatabase, chunked

from runtime import json_text
from runtime.agent.events import Event, RunError, RunFinished, compact
from runtime.database.base import db
from runtime.models.chats import Run
from runtime.models.run_events import RunEvent
from runtime.services.chats.entries import Entry, join
from runtime.services.chats.log import Log

# Rewriting a journal must save so many rows.
MIN_ROWS_SAVED = 8
# A driver takes 65,535 values a statement.
ROWS_A_STATEMENT = 1000


class Addition:
    """What one run has appended since it was written last, joined and numbered."""

    def __init__(self, log: Log, events: list[Event]):
        self.log = log
        joined = compact(events)
        self.entries = [Entry.of(log.last + i, event) for i, event in enumerate(joined, 1)]
        self.ending = joined[-1] if isinstance(joined[-1], RunFinished | RunError) else None
        self.joined = self._joined() if self.ending else None

    def _joined(self) -> list[Entry] | None:
        """The whole journal with fewer rows, if enough can be saved."""
        entries = [*self.log.entries, *self.entries]
        joined = join(entries) if self.log.entries else entries
        return joined if len(entries) - len(joined) >= MIN_ROWS_SAVED else None


def write(additions: list[Addition]) -> set[UUID]:
    """Write all in one transaction; returns which of the runs had not ended.

    Of those that had, nothing is written. What is there already a server wrote that did not
    answer, and was asked again.
    """
    is_sqlite = isinstance(db.obj, SqliteDatabase)
    write_on = _write_on_sqlite if is_sqlite else _write_on_postgres
    # On Postgres it is one statement, and a transaction around it would cost two more.
    is_one_statement = not is_sqlite and not any(addition.joined for addition in additions)
    with nullcontext() if is_one_statement else db.atomic():
        alive = {Run.id.python_value(run_id) for (run_id,) in write_on(*_values(additions))}
        for addition in additions:
            if addition.joined and addition.log.run_id in alive:
                rewrite(addition.log.run_id, addition.joined)
    return alive


def _values(additions: list[Addition]) -> list[str]:
    """In JSON, which both databases read: the runs, the new events, the runs that have ended."""
    runs, events, endings = [], [], []
    for addition in additions:
        run_id = addition.log.run_id.hex
        runs.append(run_id)
        events += [(run_id, e.number, e.type, e.text, e.vendor) for e in addition.entries]
        if ending := addition.ending:
            usage = ending.usage
            endings.append((run_id, code_of(ending), usage.input_tokens, usage.output_tokens))
    return [json_text.encode(each) for each in (runs, events, endings)]


def code_of(ending: RunFinished | RunError) -> str | None:
    """The code of the error that ended a run, as its row has it."""
    return ending.code.value if isinstance(ending, RunError) else None


# One statement: what SQLite is asked for, on Postgres in peewee's words, takes a chat run half as
# much time again (tests/benchmark.py).
#
# Each run is found by its id, and locked only if it has not ended. Asked for `finished_at IS NULL`
# Postgres would walk the index of such runs, where one that has ended stays until the next vacuum;
# `num_nulls` says the same, and is in no index. That `alive` asks once more tells the planner that
# there are few. The rows are locked so that no other process takes a run for dead meanwhile, and in
# the order of their ids, as everywhere: of two who lock several neither waits for the other.
WRITE_ON_POSTGRES = """
    WITH given AS (
        SELECT value::uuid AS id FROM json_array_elements_text(%s) ORDER BY id
    ), locked AS (
        SELECT run.* FROM given CROSS JOIN LATERAL (
            SELECT id, finished_at FROM runs
            WHERE runs.id = given.id AND num_nulls(finished_at) = 1 FOR UPDATE
        ) AS run
    ), alive AS (
        SELECT id FROM locked WHERE finished_at IS NULL
    ), ended AS (
        UPDATE runs SET finished_at = timezone('utc', now()), error = ending->>1,
            input_tokens = (ending->>2)::int, output_tokens = (ending->>3)::int
        FROM json_array_elements(%s) AS ending
        WHERE id = (ending->>0)::uuid AND id IN (SELECT id FROM alive)
    ), written AS (
        INSERT INTO run_events (run_id, number, type, data, vendor)
        SELECT (event->>0)::uuid, (event->>1)::int, event->>2, event->>3, event->>4
        FROM json_array_elements(%s) AS event
        WHERE (event->>0)::uuid IN (SELECT id FROM alive)
        ON CONFLICT DO NOTHING
    )
    SELECT id FROM alive"""


def _write_on_postgres(runs: str, events: str, endings: str) -> list[tuple]:
    return db.fetch_all(WRITE_ON_POSTGRES, (runs, endings, events))


def _write_on_sqlite(runs: str, events: str, endings: str) -> list[tuple]:
    """The transaction that it stands in locks everything."""
    alive = "id IN (SELECT value FROM json_each(?)) AND finished_at IS NULL"
    found = db.fetch_all(f"SELECT id FROM runs WHERE {alive}", (runs,))
    insert = f"""
        INSERT INTO run_events (run_id, number, type, data, vendor)
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)
        WHERE value->>0 IN (SELECT id FROM runs WHERE {alive})"""
    db.execute_sql(insert, (events, runs))
    update = f"""
        UPDATE runs SET finished_at = from_now(0), error = ending.value->>1,
            input_tokens = ending.value->>2, output_tokens = ending.value->>3
        FROM json_each(?) AS ending WHERE runs.id = ending.value->>0 AND runs.{alive}"""
    db.execute_sql(update, (endings, runs))
    return found


def rewrite(run_id: UUID, entries: list[Entry]) -> None:
    """Make of a journal of many rows one of few, which say the same."""
    RunEvent.delete().where(RunEvent.run == run_id).execute()
    for some in chunked(entries, ROWS_A_STATEMENT):
        rows = [
            {
                "run": run_id,
                "number": entry.number,
                "type": entry.type,
                "data": entry.text,
                "pieces": entry.pieces and ",".join(map(str, entry.pieces)),
                "vendor": entry.vendor,
            }
            for entry in some
        ]
        RunEvent.insert_many(rows).execute()
