"""How runs end: what is told of each, and those whose process died."""

import time
from collections.abc import Sequence
from uuid import UUID

from runtime import logs, metrics
from runtime.agent.events import ErrorCode, RunError, RunFinished
from runtime.agent.transcript import steps_of
from runtime.database.base import db, from_now
from runtime.models.chats import Run
from runtime.services.chats.entries import Entry, join, read
from runtime.services.chats.writing import code_of, rewrite

# How long after an outage every process has noticed its end, and has written what it kept.
BACK_SECONDS = 5


def tell(run_id: UUID, ending: RunFinished | RunError, request_id: str | None = None) -> None:
    """Count a run that has ended, and log it."""
    code = code_of(ending)
    metrics.runs.labels(code or "finished").inc()
    metrics.run_tokens.labels("input").inc(ending.usage.input_tokens or 0)
    metrics.run_tokens.labels("output").inc(ending.usage.output_tokens or 0)
    asked_by = {"request_id": request_id} if request_id else {}
    logs.event("run_ended", run_id=run_id, error=code, **asked_by)


def fail_dead(run_ids: Sequence[UUID]) -> int:
    """End those of the runs whose lease has lapsed: their process died, and cannot.

    Returns how many there were. Ends none for BACK_SECONDS after the database was away: no lease
    could be renewed meanwhile, and what was said is still to be written.
    """
    breaker = getattr(db.obj, "breaker", None)
    if not run_ids or (breaker and time.monotonic() - breaker.closed_at < BACK_SECONDS):
        return 0
    lapsed = Run.id.in_(run_ids) & Run.finished_at.is_null() & (Run.lease_until < from_now())
    dead = [run_id for (run_id,) in Run.select(Run.id).where(lapsed).tuples()]
    return sum(_fail_dead(run_id) for run_id in dead)


def _fail_dead(run_id: UUID) -> bool:
    with db.atomic():
        # Again, with what it says locked: its process may have come back.
        ended = {Run.finished_at: from_now(), Run.error: ErrorCode.INTERRUPTED.value}
        dead = (Run.id == run_id) & Run.finished_at.is_null() & (Run.lease_until < from_now())
        if not Run.update(ended).where(dead).execute():
            return False
        entries = read({run_id: 0})[run_id]
        texts = [step.text for step in steps_of(entry.event for entry in entries) if step.text]
        ending = RunError(str(run_id), ErrorCode.INTERRUPTED, texts[-1] if texts else None)
        last = entries[-1].number if entries else 0
        rewrite(run_id, join([*entries, Entry.of(last + 1, ending)]))
    tell(run_id, ending)
    return True
