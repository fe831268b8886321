"""The service as administrators see it: what runs, which mail waits, which limits were reached.

Runs are those of all machines. Limits are counted, and mail waits, in each process by itself; where
the workers of a machine count together, for `/metrics`, one of them knows the sums: `scope` tells.
"""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from flask import current_app

from runtime import __version__, metrics
from runtime.database import migrate
from runtime.database.base import db
from runtime.database.pagination import Page, page
from runtime.mail.addresses import masked
from runtime.mail.queue import mail
from runtime.mail.queued_mail import QueuedMail
from runtime.models.chats import Run
from runtime.services import health
from runtime.services.chats.agent import current_agent

# Of a queue of ten thousand so many are told one by one, those that wait for longest.
TOLD_MAILS = 20

# gunicorn's master imports this, for all workers.
_STARTED_AT = time.monotonic()


def running(*, cursor: str | None, limit: int) -> Page:
    """A page of the running runs of all processes, the newest first."""
    return page(Run.running(), Run.created_at, cursor=cursor, limit=limit)


@dataclass(frozen=True)
class WaitingMail:
    """A mail without what it says; of the address only what a log may have."""

    kind: str
    to: str
    queued_at: datetime
    good_until: datetime
    tries: int

    @classmethod
    def of(cls, queued: QueuedMail) -> "WaitingMail":
        """What may be told of a mail."""
        to = masked(queued.to)
        return cls(queued.kind, to, queued.queued_at, queued.good_until, queued.tries)


def mails() -> dict:
    """The mail that is not sent yet: that of `scope` as a number, this process's by kind."""
    waiting = sorted(mail.waiting(), key=lambda queued: queued.queued_at)
    kinds = Counter(queued.kind for queued in waiting)
    return {
        "scope": metrics.scope(),
        "queued": _queued(),
        "waiting": len(waiting),
        "failing": sum(queued.tries > 0 for queued in waiting),
        "oldest_at": waiting[0].queued_at if waiting else None,
        "kinds": [{"kind": kind, "count": count} for kind, count in kinds.most_common()],
        "oldest": [WaitingMail.of(queued) for queued in waiting[:TOLD_MAILS]],
    }


def limits() -> dict:
    """How often each limit refused a request since the service started, within `scope`."""
    found = metrics.sums("limits_reached_total").items()
    by_count = sorted(found, key=lambda each: -each[1])
    reached = [{"limit": name, "refusals": int(n)} for (name,), n in by_count if n]
    return {"scope": metrics.scope(), "limits": reached}


def check_health() -> dict:
    """As `health.check`, with what this process is and does."""
    config = current_app.config
    return {
        **health.check(),
        "version": __version__,
        "uptime_seconds": int(time.monotonic() - _STARTED_AT),
        "workers": config["WEB_CONCURRENCY"],
        "scope": metrics.scope(),
        "runs": current_agent().journal.running,
        "mails": _queued(),
        "mail": "smtp" if config["SMTP_URL"] else "outbox",
        "model": config["AGENT_MODEL"] or "embedded",
        "pending_migrations": migrate.pending(db.obj),
    }


def _queued() -> int:
    return int(metrics.sums("mail_queue").get((), 0))
