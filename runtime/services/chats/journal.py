"""The journals of runs: written in groups, followed from memory, the same from every process.

A run appends events to its `Log`. One thread writes what all runs of the process have appended, in
one transaction, and only then shows it to whoever follows: what a reader has seen is in the
database. A run of another process has a `Log` here too while somebody follows it; another thread
reads for all of those at once, `LOOKS_A_SECOND` times a second, and does likewise whatever else
must be done while runs go on: it renews their leases, hears that one is to stop, and ends those
whose process died.
"""

import json
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from functools import reduce
from itertools import groupby
from operator import or_
from typing import NamedTuple
from uuid import UUID

from peewee import SqliteDatabase, chunked

from runtime import json_text, logs, metrics
from runtime.agent.events import ErrorCode, Event, RunError, RunFinished, RunStarted, compact
from runtime.agent.messages import Usage
from runtime.agent.stop import Stop
from runtime.database.base import db, discard, from_now, release
from runtime.database.outages import is_outage
from runtime.database.prepared import Prepared
from runtime.errors import TooManyRequests, Unavailable
from runtime.limits.concurrency import FULL_RETRY_SECONDS
from runtime.models.chats import Run
from runtime.models.run_events import RunEvent

# A killed process locks its chats for LEASE_SECONDS; a live one renews in time to miss two turns.
LEASE_SECONDS = 10
RENEWAL_SECONDS = 3
# How late a process may learn of what another has written: a stop, or the next words.
LOOKS_A_SECOND = 20
PAUSE = 1 / LOOKS_A_SECOND
# How often it looks for runs whose process has died.
DEAD_CHECK_SECONDS = 1
# A commit for each token is what one run may have; a thousand must share theirs.
RUNS_A_COMMIT_A_SECOND = 10_000
# How long an outage of the database is waited out before the next try.
RETRY_SECONDS = 0.5
# It counts as away, for a request that waits, when nothing could be written or read for so long.
AWAY_SECONDS = 4
# How long after an outage every process has noticed its end, and has written what it kept.
BACK_SECONDS = 5
# The threads end when there was nothing to do for so long.
IDLE_SECONDS = 30
# Rewriting a journal must save so many rows.
MIN_ROWS_SAVED = 8
# Logs in one statement, and rows.
LOGS_A_QUERY = 100
ROWS_A_STATEMENT = 1000

DELTAS = {
    "TEXT_MESSAGE_CONTENT": "message_id",
    "REASONING_MESSAGE_CONTENT": "message_id",
    "TOOL_CALL_ARGS": "tool_call_id",
}
ENDINGS = ("RUN_FINISHED", "RUN_ERROR")

# Every event has its type first.
_DELTAS_BEGIN = tuple(f'{{"type":"{kind}"' for kind in DELTAS)


class Entry(NamedTuple):
    """One event as it is kept: its number, its JSON, and the lengths of the deltas joined in it.

    `vendor` is JSON that is kept with it, and shown to no client.
    """

    number: int
    text: str
    pieces: tuple[int, ...] | None = None
    vendor: str | None = None

    @property
    def is_ending(self) -> bool:
        return "RUN_" in self.text[:20] and json.loads(self.text)["type"] in ENDINGS

    def after(self, number: int) -> "Entry":
        """What of a joined event follows the piece that had this number."""
        if not self.pieces or number <= self.number - len(self.pieces):
            return self
        event = json.loads(self.text)
        seen = len(self.pieces) - (self.number - number)
        event["delta"] = event["delta"][sum(self.pieces[:seen]) :]
        return Entry(self.number, json_text.encode(event), self.pieces[seen:])


class Log:
    """The journal of one run as far as this process has written or read it, in order.

    `is_own` says that the run is one of this process's, which `stop` ends. Whoever listens is
    called, on another thread, after each addition, and must not take long.
    """

    def __init__(self, run_id: UUID):
        self.run_id = run_id
        self.request_id = logs.request_id.get()
        self.begun_at = time.monotonic()
        self.entries: list[Entry] = []
        self.is_over = False
        self.is_own = False
        self.stop = Stop()
        self.waiting: list[Event] = []
        self.followers = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def last(self) -> int:
        """The number of the last event that is here."""
        return self.entries[-1].number if self.entries else 0

    def after(self, number: int, most: int | None = None) -> list[Entry]:
        """What follows the event that had this number, or a piece of one; so many at the most."""
        first = bisect_right(self.entries, number, key=lambda each: each.number)
        entries = self.entries[first : first + most if most else None]
        return [entries[0].after(number), *entries[1:]] if entries else []

    def add(self, entries: list[Entry]) -> None:
        """Append what is in the database by now, and tell whoever listens."""
        self.entries += entries
        # After them: whoever sees that it is over has seen all.
        self.is_over = self.is_over or (bool(entries) and entries[-1].is_ending)
        for wake in tuple(self._listeners):
            wake()

    def listen(self, wake: Callable[[], None]) -> None:
        self._listeners.append(wake)

    def leave(self, wake: Callable[[], None]) -> None:
        self._listeners.remove(wake)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the run is over, so long at the most; returns whether it is."""
        deadline = time.monotonic() + seconds
        news = threading.Event()
        self.listen(news.set)
        try:
            while not self.is_over and news.wait(deadline - time.monotonic()):
                news.clear()
        finally:
            self.leave(news.set)
        return self.is_over


class Journal:
    """All logs of this process, and the two threads that keep them while there are any."""

    def __init__(self):
        self._own: dict[UUID, Log] = {}
        self._others: dict[UUID, Log] = {}
        self._lock = threading.Lock()
        self._has_waiting = threading.Condition(self._lock)
        self._has_logs = threading.Condition(self._lock)
        self._waiting: dict[Log, None] = {}
        # Since when one thing is being tried: to write, to look after the runs. None: nothing is.
        self._writing_since: float | None = None
        self._looking_since: float | None = None
        # Of two statements that lock many rows each, each may wait for the other.
        self._locks_rows = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}

    @property
    def running(self) -> int:
        """How many runs of this process have not ended."""
        return len(self._own)

    def begin(self, run_id: UUID) -> Log:
        """The log of a run that this process has claimed, and keeps alive until it has ended.

        Raises TooManyRequests when the system has no thread left.
        """
        log = Log(run_id)
        log.is_own = True
        with self._lock:
            self._start_keeper()
            self._own[run_id] = log
            self._has_logs.notify()
        return log

    def append(self, log: Log, event: Event, *, soon: bool = True) -> None:
        """Let an event be written, at once or `1 / LOOKS_A_SECOND` s later at the most.

        The run's last one is its RUN_FINISHED or RUN_ERROR, which is written at once.
        """
        with self._lock:
            log.waiting.append(event)
            self._waiting[log] = None
            # The first one is worth no commit of its own, unless the next one takes its time.
            if isinstance(event, RunFinished | RunError) or (
                soon and not isinstance(event, RunStarted)
            ):
                self._wake_writer()

    def wait_for_end(self, log: Log, seconds: float) -> None:
        """Wait until a run is over, so long at the most.

        Raises Unavailable when it is not, and as soon as the database has been away for
        AWAY_SECONDS: what waits to be written is kept, and written when it is back.
        """
        deadline = time.monotonic() + seconds
        while not log.wait_for_end(min(1, AWAY_SECONDS / 4)):
            if self._is_out_of_touch(log) or time.monotonic() > deadline:
                raise Unavailable

    def _is_out_of_touch(self, log: Log) -> bool:
        since = self._writing_since if log.is_own else self._looking_since
        return since is not None and time.monotonic() - since > AWAY_SECONDS

    @contextmanager
    def followed(self, run_id: UUID) -> Iterator[Log]:
        """The log of a run, of whichever process; it grows while somebody follows it."""
        log = self.follow(run_id)
        try:
            yield log
        finally:
            self.unfollow(log)

    def follow(self, run_id: UUID) -> Log:
        """The log of a run; `unfollow` it.

        Raises TooManyRequests when it must be read for and the system has no thread left.
        """
        with self._lock:
            if log := self._own.get(run_id) or self._others.get(run_id):
                log.followers += 1
                return log
        found = Log(run_id)
        found.add(_read([found]).get(run_id, []))
        release()
        with self._lock:
            # Another thread may have asked for it as well meanwhile.
            if found.is_over:
                log = found
            else:
                self._start_keeper()
                log = self._others.setdefault(run_id, found)
                self._has_logs.notify()
            log.followers += 1
        return log

    def unfollow(self, log: Log) -> None:
        """Nobody reads from it any more, as far as this follower is concerned."""
        with self._lock:
            log.followers -= 1
            if not log.followers and self._others.get(log.run_id) is log:
                del self._others[log.run_id]

    def stop(self, run_id: UUID, code: ErrorCode = ErrorCode.STOPPED) -> None:
        """Tell a run to end if it is one of this process's."""
        if log := self._own.get(run_id):
            log.stop.set(code)

    def interrupt(self, seconds: float) -> None:
        """End every run of this process, which is about to end; so long for it at the most."""
        for run_id in list(self._own):
            self.stop(run_id, ErrorCode.INTERRUPTED)
        deadline = time.monotonic() + seconds
        while self._own and time.monotonic() < deadline:
            time.sleep(0.01)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        """Start a thread unless it is there. The caller holds the lock.

        Raises RuntimeError when the system has no thread left.
        """
        if name not in self._threads or not self._threads[name].is_alive():
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads[name] = thread

    def _start_keeper(self) -> None:
        """The caller holds the lock. Raises TooManyRequests when the system has no thread left."""
        try:
            self._start("journal-keeper", self._keep_on)
        except RuntimeError as error:
            raise TooManyRequests(FULL_RETRY_SECONDS) from error

    # Writing

    def _wake_writer(self) -> None:
        """The caller holds the lock."""
        with suppress(RuntimeError):  # The keeper tries again.
            self._start("journal-writer", self._write_on)
        self._has_waiting.notify()

    def _write_on(self) -> None:
        """Write what waits, again and again, until nothing has come for a while."""
        while True:
            with self._lock:
                if not self._waiting and not self._has_waiting.wait(IDLE_SECONDS):
                    del self._threads["journal-writer"]
                    return
            try:
                self._write_waiting()
            except Exception:  # Of one turn: the runs of later ones are not to suffer.
                logs.event("journal_failed", level=logging.ERROR, exc_info=True)
            time.sleep(self.running / RUNS_A_COMMIT_A_SECOND)

    def _write_waiting(self) -> None:
        with self._lock:
            batch = [(log, log.waiting) for log in self._waiting]
            for log, _events in batch:
                log.waiting = []
            self._waiting = {}
        if batch:
            self._write([_Group(log, events) for log, events in batch])

    def _write(self, groups: list["_Group"]) -> None:
        """Write the groups, however long it takes, and show them to whoever follows."""
        try:
            alive = self._commit_at_last(groups)
        except Exception:
            if len(groups) > 1:  # One of them cannot be written: not for the others to suffer.
                for group in groups:
                    self._write([group])
                return
            logs.event("journal_failed", level=logging.ERROR, exc_info=True)
            alive = set()
        for group in groups:
            if group.log.run_id in alive:
                self._show(group)
            else:
                self._lose(group.log)

    def _commit_at_last(self, groups: list["_Group"]) -> set[UUID]:
        """Write all; while the database is away, again and again. See `_commit`."""
        self._writing_since = time.monotonic()
        while True:
            try:
                with self._locks_rows:
                    alive = _commit(groups)
                self._writing_since = None
                return alive
            except Exception as error:
                if not is_outage(error):
                    self._writing_since = None
                    raise
                logs.event("journal_waits", level=logging.WARNING, reason=type(error).__name__)
                discard()
            finally:
                release()
            time.sleep(RETRY_SECONDS)

    def _show(self, group: "_Group") -> None:
        if group.ending:
            with self._lock:
                self._own.pop(group.log.run_id, None)
            _tell_end(group.log.run_id, group.ending, group.log.request_id)
        group.log.add(group.entries)
        self._forget(group.log)

    def _lose(self, log: Log) -> None:
        """The run has ended without us: found dead, or deleted. What there is others wrote."""
        log.stop.set(ErrorCode.INTERRUPTED)
        log.is_own = False
        with self._lock:
            if self._own.pop(log.run_id, None):
                self._others[log.run_id] = log

    # Keeping

    def _keep_on(self) -> None:
        """Look after the runs of this process, and after those it follows, while there are any."""
        renewed_at = dead_checked_at = time.monotonic()
        while True:
            with self._lock:
                if not (self._own or self._others):
                    self._looking_since = None
                    if not self._has_logs.wait(IDLE_SECONDS):
                        del self._threads["journal-keeper"]
                        return
            time.sleep(PAUSE)
            now = time.monotonic()
            self._looking_since = self._looking_since or now
            with self._lock:
                # Most runs of a model that answers at once end before anything must be done.
                own = [log.run_id for log in self._own.values() if now > log.begun_at + PAUSE]
                others = list(self._others.values())
                if self._waiting:
                    self._wake_writer()
            try:
                if own:
                    self._hear_stops()
                if now - renewed_at >= RENEWAL_SECONDS:
                    renewed_at = now
                    self._renew(own)
                self._read_others(others)
                if now - dead_checked_at >= DEAD_CHECK_SECONDS:
                    dead_checked_at = now
                    self._fail_dead(others)
                self._looking_since = None
            except Exception as error:  # The database is away; the next turn tries again.
                logs.event("runs_not_kept", level=logging.WARNING, reason=type(error).__name__)
                time.sleep(RETRY_SECONDS)
            finally:
                release()

    def _hear_stops(self) -> None:
        for (run_id,) in _STOPS.rows():
            self.stop(Run.id.python_value(run_id))

    def _renew(self, own: list[UUID]) -> None:
        """Renew the leases, and stop what has ended without us: found dead, or deleted."""
        if not own:
            return
        until = from_now(seconds=LEASE_SECONDS)
        running = Run.select(Run.id).where(Run.id.in_(own), Run.finished_at.is_null())
        # In the order in which an account's erasure locks them.
        locked = running.order_by(Run.id).for_update(db.obj.for_update)
        with self._locks_rows:
            Run.update(lease_until=until).where(Run.id.in_(locked)).execute()
        there = {run_id for (run_id,) in running.tuples()}
        for run_id in set(own) - there:
            self.stop(run_id)

    def _read_others(self, others: list[Log]) -> None:
        for start in range(0, len(others), LOGS_A_QUERY):
            some = others[start : start + LOGS_A_QUERY]
            for run_id, entries in _read(some).items():
                log = next(each for each in some if each.run_id == run_id)
                log.add(entries)
                self._forget(log)

    def _fail_dead(self, others: list[Log]) -> None:
        """End those of them whose process died, and those that are gone with their chat."""
        logs_of = {log.run_id: log for log in others if not log.is_over}
        fail_dead(list(logs_of))
        ids = list(logs_of)
        there = {run_id for (run_id,) in Run.select(Run.id).where(Run.id.in_(ids)).tuples()}
        for run_id in logs_of.keys() - there:
            gone = RunError(str(run_id), ErrorCode.STOPPED)
            logs_of[run_id].add([_entry(logs_of[run_id].last + 1, gone)])
            self._forget(logs_of[run_id])

    def _forget(self, log: Log) -> None:
        """Read no more of a log that is over; whoever follows it has it still."""
        with self._lock:
            if log.is_over and self._others.get(log.run_id) is log:
                del self._others[log.run_id]


_STOPS = Prepared(
    lambda: Run.select(Run.id).where(
        Run.finished_at.is_null(), Run.stop_requested_at.is_null(False)
    ),
    values=0,
)


class _Group:
    """What one run has appended since it was written last, joined and numbered."""

    def __init__(self, log: Log, events: list[Event]):
        self.log = log
        joined = compact(events)
        self.entries = [_entry(log.last + i, event) for i, event in enumerate(joined, 1)]
        self.ending = joined[-1] if isinstance(joined[-1], RunFinished | RunError) else None
        self.joined = self._joined() if self.ending else None

    def _joined(self) -> list[Entry] | None:
        """The whole journal with fewer rows, if enough can be saved."""
        entries = [*self.log.entries, *self.entries]
        joined = join(entries) if self.log.entries else entries
        return joined if len(entries) - len(joined) >= MIN_ROWS_SAVED else None


def fail_dead(run_ids: list[UUID]) -> int:
    """End those of the runs whose lease has lapsed: their process died, and cannot.

    Returns how many there were. Ends none for BACK_SECONDS after the database was away: no lease
    could be renewed meanwhile, and what was said is still to be written.
    """
    breaker = getattr(db.obj, "breaker", None)
    if breaker and time.monotonic() - breaker.closed_at < BACK_SECONDS:
        return 0
    lapsed = Run.id.in_(run_ids) & Run.finished_at.is_null() & (Run.lease_until < from_now())
    dead = [run_id for (run_id,) in Run.select(Run.id).where(lapsed).tuples()] if run_ids else []
    return sum(_fail_dead(run_id) for run_id in dead)


def _fail_dead(run_id: UUID) -> bool:
    with db.atomic():
        # Again, with what it says locked: its process may have come back.
        ended = {Run.finished_at: from_now(), Run.error: ErrorCode.INTERRUPTED.value}
        dead = (Run.id == run_id) & Run.finished_at.is_null() & (Run.lease_until < from_now())
        if not Run.update(ended).where(dead).execute():
            return False
        log = Log(run_id)
        log.add(_read([log]).get(run_id, []))
        ending = RunError(str(run_id), ErrorCode.INTERRUPTED, _last_text(log.entries))
        _rewrite(run_id, join([*log.entries, _entry(log.last + 1, ending)]))
    _tell_end(run_id, ending)
    return True


def _commit(groups: list[_Group]) -> set[UUID]:
    """Write all in one transaction; returns which of the runs had not ended."""
    if isinstance(db.obj, SqliteDatabase):
        write, is_one_statement = _write_on_sqlite, False
    else:
        write, is_one_statement = _write_on_postgres, not any(group.joined for group in groups)
    # A transaction of its own takes a statement three times as long.
    with nullcontext() if is_one_statement else db.atomic():
        alive = {Run.id.python_value(run_id) for (run_id,) in write(*_values(groups))}
        for group in groups:
            if group.joined and group.log.run_id in alive:
                _rewrite(group.log.run_id, group.joined)
    return alive


def _values(groups: list[_Group]) -> list[str]:
    """In JSON, which both databases read: the runs, the new events, the runs that have ended."""
    runs = [group.log.run_id.hex for group in groups]
    events = [
        (group.log.run_id.hex, entry.number, entry.text, entry.vendor)
        for group in groups
        for entry in group.entries
    ]
    endings = [
        (group.log.run_id.hex, _code(ending), ending.usage.input_tokens, ending.usage.output_tokens)
        for group in groups
        if (ending := group.ending)
    ]
    return [json_text.encode(each) for each in (runs, events, endings)]


# Each run is found by its id, and locked only if it has not ended. Asked for `finished_at IS NULL`
# Postgres would walk the index of such runs, where one that has ended stays until the next vacuum;
# `num_nulls` says the same, and is in no index. That `alive` asks once more tells the planner that
# there are few.
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
        INSERT INTO run_events (run_id, number, data, vendor)
        SELECT (event->>0)::uuid, (event->>1)::int, event->>2, event->>3
        FROM json_array_elements(%s) AS event
        WHERE (event->>0)::uuid IN (SELECT id FROM alive)
        ON CONFLICT DO NOTHING
    )
    SELECT id FROM alive"""


def _write_on_postgres(runs: str, events: str, endings: str) -> list[tuple]:
    """Write events and endings of those runs that have not ended; the ids of these.

    Their rows are locked, so that none is taken for dead meanwhile, in the order of their ids, so
    that nobody who locks several waits for us while we wait for them. What is there already a
    server wrote that did not answer, and was asked again.
    """
    return db.fetch_all(WRITE_ON_POSTGRES, (runs, endings, events))


def _write_on_sqlite(runs: str, events: str, endings: str) -> list[tuple]:
    """The same; the transaction that it stands in locks everything."""
    alive = "id IN (SELECT value FROM json_each(?)) AND finished_at IS NULL"
    found = db.fetch_all(f"SELECT id FROM runs WHERE {alive}", (runs,))
    insert = f"""
        INSERT INTO run_events (run_id, number, data, vendor)
        SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)
        WHERE value->>0 IN (SELECT id FROM runs WHERE {alive})"""
    db.execute_sql(insert, (events, runs))
    update = f"""
        UPDATE runs SET finished_at = from_now(0), error = ending.value->>1,
            input_tokens = ending.value->>2, output_tokens = ending.value->>3
        FROM json_each(?) AS ending WHERE runs.id = ending.value->>0 AND runs.{alive}"""
    db.execute_sql(update, (endings, runs))
    return found


def _rewrite(run_id: UUID, entries: list[Entry]) -> None:
    """Make of a journal of many rows one of few, which say the same."""
    RunEvent.delete().where(RunEvent.run == run_id).execute()
    rows = [
        (run_id, each.number, each.text, _as_text(each.pieces), each.vendor) for each in entries
    ]
    fields = [RunEvent.run, RunEvent.number, RunEvent.data, RunEvent.pieces, RunEvent.vendor]
    # A driver takes 65,535 values a statement.
    for some in chunked(rows, ROWS_A_STATEMENT):
        RunEvent.insert_many(some, fields=fields).execute()


def _as_text(pieces: tuple[int, ...] | None) -> str | None:
    return pieces and ",".join(map(str, pieces))


def join(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with consecutive deltas of one message or one tool call joined into one."""

    def owner(entry: Entry) -> tuple:
        if not entry.text.startswith(_DELTAS_BEGIN):
            return (entry.number,)
        event = json.loads(entry.text)
        return event["type"], event[DELTAS[event["type"]]]

    groups = (list(group) for _, group in groupby(entries, owner))
    return [_joined(group) if len(group) > 1 else group[0] for group in groups]


def _joined(entries: list[Entry]) -> Entry:
    deltas = [json.loads(entry.text)["delta"] for entry in entries]
    event = json.loads(entries[0].text) | {"delta": "".join(deltas)}
    pieces = [
        length
        for entry, delta in zip(entries, deltas, strict=True)
        for length in entry.pieces or (len(delta),)
    ]
    return Entry(entries[-1].number, json_text.encode(event), tuple(pieces))


def _entry(number: int, event: Event) -> Entry:
    told = event.to_dict()
    if isinstance(event, RunError):
        told["error"] = event.code.value
    if isinstance(event, RunFinished | RunError) and event.usage != Usage():
        told["usage"] = {k: v for k, v in asdict(event.usage).items() if v is not None}
    vendor = getattr(event, "vendor", None)
    # In ASCII: a server may send what no database takes.
    return Entry(number, json_text.encode(told), vendor=json.dumps(vendor) if vendor else None)


def _last_text(entries: list[Entry]) -> str | None:
    """The text of the last message as far as it came."""
    events = [json.loads(entry.text) for entry in entries]
    deltas = [event for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    last = [each["delta"] for each in deltas if each["message_id"] == deltas[-1]["message_id"]]
    return "".join(last) or None


def _read(some: list[Log]) -> dict[UUID, list[Entry]]:
    """What the database has of these journals beyond what is here."""
    beyond = [(RunEvent.run == log.run_id) & (RunEvent.number > log.last) for log in some]
    if not beyond:
        return {}
    rows = RunEvent.select().where(reduce(or_, beyond)).order_by(RunEvent.run, RunEvent.number)
    found: dict[UUID, list[Entry]] = {}
    for row in rows:
        pieces = tuple(map(int, row.pieces.split(","))) if row.pieces else None
        found.setdefault(row.run_id, []).append(Entry(row.number, row.data, pieces, row.vendor))
    return {
        log.run_id: [found[log.run_id][0].after(log.last), *found[log.run_id][1:]]
        for log in some
        if log.run_id in found
    }


def _code(ending: RunFinished | RunError) -> str | None:
    return ending.code.value if isinstance(ending, RunError) else None


def _tell_end(run_id: UUID, ending: RunFinished | RunError, request_id: str | None = None) -> None:
    code = _code(ending)
    metrics.runs.labels(code or "finished").inc()
    metrics.run_tokens.labels("input").inc(ending.usage.input_tokens or 0)
    metrics.run_tokens.labels("output").inc(ending.usage.output_tokens or 0)
    asked_by = {"request_id": request_id} if request_id else {}
    logs.event("run_ended", run_id=run_id, error=code, **asked_by)
