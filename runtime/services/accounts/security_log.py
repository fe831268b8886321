"""The journal of an account: what concerns who may use it, for its owner to read.

What happened is recorded in the transaction that made it happen. What was refused is recorded a
moment later on a thread of its own, which looks up whose address it was: neither the answer nor its
time tells the caller whether the address has an account.
A process that is killed takes the refusals of its last second with it, and nothing else.
"""

import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from runtime import logs, metrics
from runtime.caller import Caller
from runtime.database.base import from_now, release
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.users import User

# Refusals within it are written together, and no answer waits for the thread by then.
PAUSE_SECONDS = 1
# More in one pause than a process can refuse.
CAPACITY = 1000
# Of one kind in 24 hours, so that a flood of wrong passwords does not fill the disk.
REFUSALS_A_DAY = 100
# Of one kind and one session in 24 hours: a phone that hops between networks has fewer.
PLACES_A_DAY = 20


class Kind(StrEnum):
    """What may happen, in the words of the wire."""

    SIGNED_UP = "signed_up"
    SIGNED_IN = "signed_in"
    SIGN_IN_REFUSED = "sign_in_refused"
    SESSION_MOVED = "session_moved"
    REFRESH_TOKEN_REPEATED = "refresh_token_repeated"
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    EMAIL_CHANGE_UNDONE = "email_change_undone"
    PASSWORD_CHANGED = "password_changed"
    PASSWORD_RESET = "password_reset"
    PASSWORD_REFUSED = "password_refused"
    CODE_REFUSED = "code_refused"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"
    SIGNED_OUT = "signed_out"
    SESSION_ENDED = "session_ended"
    OTHER_SESSIONS_ENDED = "other_sessions_ended"
    ALL_SESSIONS_ENDED = "all_sessions_ended"
    EXPORTED = "exported"
    DISABLED = "disabled"
    ENABLED = "enabled"
    PROMOTED = "promoted"
    DEMOTED = "demoted"


def record(
    user: User | UUID,
    kind: Kind,
    caller: Caller | None = None,
    *,
    session_id: UUID | None = None,
    seconds_ago: float = 0,
    by_administrator: bool = False,
) -> None:
    """Add an event to a user's journal, in the transaction that the caller is in.

    Without a caller it was an operator who did it, or an administrator. One event a transaction:
    those of one have the same instant, and no order.
    """
    SecurityEvent.insert(
        user=user,
        kind=kind.value,
        network=caller and caller.network,
        device=caller and caller.device,
        session_id=session_id,
        by_administrator=by_administrator,
        created_at=from_now(seconds=-seconds_ago),
    ).execute()
    metrics.security_events.labels(kind).inc()


def record_place(session: Session, kind: Kind, caller: Caller) -> None:
    """Record that a session was used from another place, in the caller's transaction.

    Once in 24 hours for each network and device, and PLACES_A_DAY times in all: a phone that hops
    between two networks all day has two events. The caller has changed the session's row in this
    transaction, so that of two who record the same at once one waits for the other.
    """
    today = SecurityEvent.created_at > from_now(days=-1)
    like_it = SecurityEvent.select(SecurityEvent.network, SecurityEvent.device).where(
        SecurityEvent.user == session.user_id,
        SecurityEvent.kind == kind.value,
        SecurityEvent.session_id == session.id,
        today,
    )
    places = list(like_it.tuples())
    if caller.origin not in places and len(places) < PLACES_A_DAY:
        record(session.user_id, kind, caller, session_id=session.id)


def refuse(kind: Kind, email: str, caller: Caller) -> None:
    """Record a refusal in the journal of the account with that address, if there is one.

    It costs the same for every address, and writes nothing before the answer.
    """
    refusals.add(_Refusal(kind, email, caller))


@dataclass(frozen=True)
class _Refusal:
    kind: Kind
    email: str
    caller: Caller
    at: float = field(default_factory=time.monotonic)


class Refusals:
    """What was refused and is not recorded yet; a thread records it, while there is any."""

    def __init__(self, pause_seconds: float = PAUSE_SECONDS):
        self._pause_seconds = pause_seconds
        self._waiting: list[_Refusal] = []
        self._is_due = False
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def add(self, refusal: _Refusal) -> None:
        with self._lock:
            if len(self._waiting) < CAPACITY:
                self._waiting.append(refusal)
            if not self._is_due:
                self._is_due = self._start_thread()

    def flush(self) -> None:
        """Record now what waits; when it returns, all that was added before is recorded."""
        with self._writing:
            with self._lock:
                due, self._waiting, self._is_due = self._waiting, [], False
            for refusal in due:
                _record(refusal)

    def _start_thread(self) -> bool:
        thread = threading.Timer(self._pause_seconds, self.flush)
        thread.name, thread.daemon = "refusals", True
        try:
            thread.start()
        except RuntimeError:  # The system has no thread left; the next refusal tries again.
            return False
        return True


def _record(refusal: _Refusal) -> None:
    try:
        user = User.find_by_email(refusal.email)
        if user and _has_room(user, refusal.kind):
            seconds_ago = time.monotonic() - refusal.at
            record(user, refusal.kind, refusal.caller, seconds_ago=seconds_ago)
    except Exception as error:
        # The database is away, or the account was deleted just now; the others are due as well.
        logs.event("refusal_not_recorded", reason=type(error).__name__)
    finally:
        release()


def _has_room(user: User, kind: Kind) -> bool:
    """Whether the journal takes one more refusal of this kind today."""
    today = SecurityEvent.created_at > from_now(days=-1)
    like_it = SecurityEvent.select().where(
        SecurityEvent.user == user, SecurityEvent.kind == kind, today
    )
    return like_it.count() < REFUSALS_A_DAY


def init_app(app: Flask) -> None:
    """Record the app's refusals beside its requests."""
    app.extensions["refusals"] = Refusals()


refusals: Refusals = LocalProxy(lambda: current_app.extensions["refusals"])
