"""Sending mail, off the caller's path: a queue, retries while a mail is good, SMTP or an outbox.

What a mail says is in `letters`. A log line never has more of a mail than its masked address:
not the code, the link, the subject or the server's words, which may quote any of them.
"""

import atexit
import heapq
import itertools
import logging
import os
import random
import secrets
import ssl
import threading
import time
import weakref
from datetime import datetime, timedelta
from pathlib import Path

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from runtime import clock, logs, metrics
from runtime.mail.addresses import mailable, masked
from runtime.mail.letters import Letter
from runtime.mail.message import compose, parse_sender, refuse_header_breaks
from runtime.mail.outbox import Outbox
from runtime.mail.queued_mail import MakesLetter, QueuedMail
from runtime.mail.smtp import MailRefused, MailServer, SenderRefused
from runtime.mail.smtp_refusals import told

# How long a mail that only tells something is worth sending.
NOTICE_LIFE = timedelta(days=1)
# A letter that a sender's thread makes waits so long. By then the answer is sent, and takes no
# longer when there is something to mail.
PAUSE_SECONDS = 1
# One mail that hangs leaves three senders to the others.
SENDERS = 4
# A server that refuses the sender is asked again after up to so many times the longest delay, an
# hour: a notice is good for a day, and who insists every minute is soon refused for that.
REFUSED_FACTOR = 60
# What Ctrl-C on `flask run` may take; gunicorn's hook drains for longer and before this.
EXIT_SECONDS = 5


class Mail:
    """A queue of mails and the threads that send them.

    `smtp_url` is `smtp://[user:password@]host[:port][?starttls=1|0]` or `smtps://…`, user and
    password percent-encoded; None writes files into `outbox`, and with `show` prints the text on
    the console too. `sender` is whom mail is from, called `sender_name` if it has no name. A failed
    mail is tried again after `first_delay_seconds`, twice that, and so on up to
    `longest_delay_seconds`.

    Of the mails to one address one is tried at a time, so that the last to be asked for comes last.
    Nothing runs before the first `send`. A forked child starts with an empty queue: its parent
    sends what it queued. Raises ConfigError when the URL or the sender makes no sense.
    """

    def __init__(
        self,
        smtp_url: str | None,
        sender: str,
        outbox: Path,
        *,
        sender_name: str = "",
        show: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        timeout_seconds: float = 10,
        first_delay_seconds: float = 1,
        longest_delay_seconds: float = 60,
        idle_seconds: float = 10,
        pause_seconds: float = PAUSE_SECONDS,
        capacity: int = 10_000,
    ):
        self._sender = parse_sender(sender, sender_name)
        self._transport = (
            MailServer(smtp_url, self._sender.domain, ssl_context, timeout_seconds)
            if smtp_url
            else Outbox(outbox, show)
        )
        self._first_delay_seconds = first_delay_seconds
        self._longest_delay_seconds = longest_delay_seconds
        # A thread's start costs a caller half a millisecond; a waiting thread costs nothing.
        self._idle_seconds = idle_seconds
        self._pause_seconds = pause_seconds
        self._capacity = capacity
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Hold nothing: at first, and again in a forked child, where the lock may be taken."""
        self._changed = threading.Condition()
        self._waiting: list[QueuedMail] = []
        # Of each address that a mail is just tried to: those that have to wait for that.
        self._behind: dict[str, list[QueuedMail]] = {}
        self._numbers = itertools.count()
        self._unsent = 0
        self._threads = 0
        self._drain_ends_at: float | None = None

    @property
    def outbox(self) -> Outbox | None:
        """Where mails are written; None if they are sent."""
        return self._transport if isinstance(self._transport, Outbox) else None

    @property
    def queued(self) -> int:
        """How many mails wait or are just being sent."""
        return self._unsent

    def waiting(self) -> list[QueuedMail]:
        """The mails that wait, in no order; of those that are just being sent none."""
        with self._changed:
            return [*self._waiting, *itertools.chain(*self._behind.values())]

    def send(self, to: str, letter: Letter | MakesLetter, good_until: datetime) -> None:
        """Queue a mail and return at once; it is tried until it is sent or `good_until` comes.

        A function instead of a letter is called on a sender's thread, a moment later and until it
        has returned one, or None for no mail. A full queue drops the mail with a log line. Raises
        ValueError when `to` is not `mailable` or the subject could not be a header.
        """
        to = mailable(to)
        if isinstance(letter, Letter):
            refuse_header_breaks(letter.subject)
        with self._changed:
            has_room = self._unsent < self._capacity
            if has_room:
                heapq.heappush(self._waiting, self._new(to, letter, good_until))
                self._unsent += 1
                metrics.mail_queue.inc()
                self._start_thread()
                self._changed.notify_all()
        if not has_room:
            metrics.mails.labels("dropped").inc()
            _log(f"mail to {masked(to)} dropped: the queue is full", logging.ERROR)

    def drain(self, timeout_seconds: float) -> int:
        """Send what is queued now, retries at once, for at most this long; how many are left.

        Does no harm a second time, and mail can go on being sent afterwards.
        """
        ends_at = time.monotonic() + timeout_seconds
        with self._changed:
            self._drain_ends_at = ends_at
            for waiting in self._waiting:
                waiting.due_at = 0
            heapq.heapify(self._waiting)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._unsent, timeout_seconds)
            self._drain_ends_at = None
            left = self._unsent
        atexit.unregister(self._drain_at_exit)
        if left:
            _log(f"mails left unsent: {left}", logging.WARNING)
        return left

    def _drain_at_exit(self) -> None:
        self.drain(EXIT_SECONDS)

    def _new(self, to: str, letter: Letter | MakesLetter, good_until: datetime) -> QueuedMail:
        number, queued_at = next(self._numbers), clock.now()
        # The number keeps the order of mails of one instant.
        name = f"{queued_at:%Y%m%dT%H%M%S.%fZ}-{number:06d}-{secrets.token_hex(8)}"
        pause = 0 if isinstance(letter, Letter) else self._pause_seconds
        return QueuedMail(time.monotonic() + pause, number, to, letter, good_until, queued_at, name)

    def _start_thread(self) -> None:
        """One more sender, up to SENDERS; each ends by itself when nothing comes."""
        atexit.unregister(self._drain_at_exit)
        atexit.register(self._drain_at_exit)
        if self._threads == SENDERS:
            return
        try:
            threading.Thread(target=self._run, name="mail", daemon=True).start()
        except RuntimeError:
            # The machine has no thread to give; the mail waits for the next that is queued.
            _log("no thread to send mail with", logging.ERROR)
        else:
            self._threads += 1

    def _run(self) -> None:
        while waiting := self._take():
            logs.request_id.set(waiting.request_id)
            is_over = self._try(waiting)
            with self._changed:
                for each in self._behind.pop(waiting.to.lower()):
                    heapq.heappush(self._waiting, each)
                if is_over:
                    self._unsent -= 1
                    metrics.mail_queue.dec()
                else:
                    self._try_later(waiting)
                self._changed.notify_all()

    def _take(self) -> QueuedMail | None:
        """The next mail that is due, once it is; None when nothing comes, which ends the thread."""
        idle_ends_at = time.monotonic() + self._idle_seconds
        with self._changed:
            while True:
                due_at = self._waiting[0].due_at if self._waiting else idle_ends_at
                seconds = due_at - time.monotonic()
                if seconds > 0:
                    self._changed.wait(seconds)
                elif self._waiting:
                    waiting = heapq.heappop(self._waiting)
                    if (to := waiting.to.lower()) not in self._behind:
                        self._behind[to] = []
                        return waiting
                    self._behind[to].append(waiting)
                else:
                    self._threads -= 1
                    return None

    def _try(self, waiting: QueuedMail) -> bool:
        """Send one mail now; whether that is the end of it: sent, refused for good, or run out."""
        to = masked(waiting.to)
        if clock.now() >= waiting.good_until:
            metrics.mails.labels("expired").inc()
            _log(f"mail to {to} dropped: it is no longer good", logging.WARNING)
            return True
        try:
            letter = waiting.letter
            if letter and not isinstance(letter, Letter):
                # Kept, so that a mail that fails is tried again with the same codes.
                letter = waiting.letter = letter()
            if letter is None:
                return True
            if letter.is_wanted and not letter.is_wanted():
                metrics.mails.labels("outdated").inc()
                _log(f"mail to {to} dropped: what it says holds no longer")
                return True
            message = compose(
                self._sender, waiting.to, letter, waiting.queued_at, waiting.message_id
            )
            self._transport.deliver(message, waiting.name)
        except MailRefused as refusal:
            metrics.mails.labels("refused").inc()
            _log(f"mail to {to} dropped: refused with {refusal.smtp_code}", logging.WARNING)
            return True
        except SenderRefused as refusal:
            self._count_failure(waiting, refusal)
            waiting.is_refused = True
            _log("the mail server refuses the sender: see MAIL_FROM and SMTP_URL", logging.ERROR)
            return False
        except Exception as error:
            # The mail is still good, and this thread has others to send.
            self._count_failure(waiting, error)
            return False
        metrics.mails.labels("sent").inc()
        _log(f"mail to {to} sent")
        return True

    def _count_failure(self, waiting: QueuedMail, error: Exception) -> None:
        waiting.tries += 1
        metrics.mail_failures.inc()
        to = masked(waiting.to)
        _log(f"mail to {to} failed, try {waiting.tries}: {told(error)}", logging.WARNING)

    def _try_later(self, waiting: QueuedMail) -> None:
        """Queue a failed mail again: a little later each time, or soon when the process stops."""
        now = time.monotonic()
        delay = self._first_delay_seconds * 2 ** min(waiting.tries - 1, 20)
        longest = self._longest_delay_seconds * (REFUSED_FACTOR if waiting.is_refused else 1)
        delay = min(delay, longest) * random.uniform(0.5, 1)
        if self._drain_ends_at is not None:
            delay = min(delay, self._first_delay_seconds, max(0, self._drain_ends_at - now))
        waiting.due_at = now + delay
        heapq.heappush(self._waiting, waiting)


# A child has its parent's queue in memory and none of its threads.
_all: "weakref.WeakSet[Mail]" = weakref.WeakSet()


os.register_at_fork(after_in_child=lambda: list(map(Mail._begin, _all)))


def _log(sentence: str, level: int = logging.INFO) -> None:
    logs.event(sentence, level=level, logger="runtime.mail")


def init_app(app: Flask) -> None:
    """Build the application's mail from its settings; raises ConfigError when one is nonsense."""
    settings = app.config
    app.extensions["mail"] = Mail(
        settings["SMTP_URL"],
        settings["MAIL_FROM"],
        Path(settings["INSTANCE_PATH"]) / "outbox",
        sender_name=settings["APP_NAME"],
        show=not settings["SMTP_URL"] and not settings["DATABASE_URL"],
    )


mail: Mail = LocalProxy(lambda: current_app.extensions["mail"])  # type: ignore[assignment]
