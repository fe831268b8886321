"""Sending mail, off the caller's path: a queue, retries while a mail is good, SMTP or an outbox.

What a mail says is in `letters`. A log line never has more of a mail than its masked address:
not the code, the link, the subject or the server's words, which may quote any of them.
"""

import atexit
import contextlib
import heapq
import itertools
import logging
import os
import random
import re
import secrets
import smtplib
import ssl
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from runtime import clock, metrics
from runtime.config.settings import ConfigError
from runtime.config.urls import is_this_machine
from runtime.logs import request_id
from runtime.mail import smtp_refusals
from runtime.mail.headers import POLICY
from runtime.mail.letters import Letter

log = logging.getLogger("runtime.mail")

# How long a mail that only tells something is worth sending.
NOTICE_LIFE = timedelta(days=1)
# What is left to a sender's thread waits so long: by then nobody's answer waits for the interpreter
# with it, and so none takes longer when there is something to mail.
PAUSE_SECONDS = 1
# One mail that hangs leaves three senders to the others.
SENDERS = 4
# A server that refuses the sender is asked again after up to so many times the longest delay, an
# hour: a notice is good for a day, and who insists every minute is soon refused for that.
REFUSED_FACTOR = 60
# What Ctrl-C on `flask run` may take; gunicorn's hook drains for longer and before this.
EXIT_SECONDS = 5

_ADDRESS = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@[a-z0-9-]+(\.[a-z0-9-]+)*", re.I | re.A)


def mailable(address: str) -> str:
    """`address` as SMTP takes it: one bare ASCII address, an international domain as IDNA.

    Raises ValueError for anything else: names, lists, quoted local parts, control characters,
    and `=?`, since CPython decodes such a word and may write its line break into the header
    (CVE-2024-6923).
    """
    local, at, domain = address.rpartition("@")
    with contextlib.suppress(UnicodeError):
        address = local + at + domain.encode("idna").decode()
    if len(address) > 254 or "=?" in address or not _ADDRESS.fullmatch(address):
        raise ValueError("not an address that mail can be sent to")
    return address


def masked(address: str) -> str:
    """What a log may have of an address: `a***@example.org`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


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
        self._sender = _sender(sender, sender_name)
        self._transport = (
            _Server(smtp_url, _own_name(self._sender.domain), ssl_context, timeout_seconds)
            if smtp_url
            else _Outbox(outbox, show)
        )
        self._first_delay_seconds = first_delay_seconds
        self._longest_delay_seconds = longest_delay_seconds
        # A thread's start costs a caller half a millisecond; one that waits for work, nothing.
        self._idle_seconds = idle_seconds
        self._pause_seconds = pause_seconds
        self._capacity = capacity
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Hold nothing: at first, and again in a forked child, where the lock may be taken."""
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        # Of each address that a mail is just tried to: those that have to wait for that.
        self._behind: dict[str, list[_Waiting]] = {}
        self._numbers = itertools.count()
        self._unsent = 0
        self._threads = 0
        self._drain_ends_at: float | None = None

    @property
    def queued(self) -> int:
        """How many mails wait or are just being sent."""
        return self._unsent

    def send(
        self, to: str, letter: Letter | Callable[[], Letter | None], good_until: datetime
    ) -> None:
        """Queue a mail and return at once; it is tried until it is sent or `good_until` comes.

        A function instead of a letter is called on a sender's thread, a moment later and until it
        has returned one, or None for no mail. A full queue drops the mail with a log line. Raises
        ValueError when `to` is not `mailable` or the subject could not be a header.
        """
        to = mailable(to)
        if isinstance(letter, Letter):
            _refuse_header_breaks(letter.subject)
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
            log.error("mail to %s dropped: the queue is full", masked(to))

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
            log.warning("mails left unsent: %d", left)
        return left

    def _drain_at_exit(self) -> None:
        self.drain(EXIT_SECONDS)

    def _new(self, to: str, letter: Letter, good_until: datetime) -> "_Waiting":
        number, queued_at = next(self._numbers), clock.now()
        # The number keeps the order of mails of one instant.
        name = f"{queued_at:%Y%m%dT%H%M%S.%fZ}-{number:06d}-{secrets.token_hex(8)}"
        pause = 0 if isinstance(letter, Letter) else self._pause_seconds
        return _Waiting(time.monotonic() + pause, number, to, letter, good_until, queued_at, name)

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
            log.error("no thread to send mail with")
        else:
            self._threads += 1

    def _run(self) -> None:
        while waiting := self._take():
            request_id.set(waiting.request_id)
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

    def _take(self) -> "_Waiting | None":
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

    def _try(self, waiting: "_Waiting") -> bool:
        """Send one mail now; whether that is the end of it: sent, refused for good, or run out."""
        to = masked(waiting.to)
        if clock.now() >= waiting.good_until:
            metrics.mails.labels("expired").inc()
            log.warning("mail to %s dropped: it is no longer good", to)
            return True
        try:
            if not isinstance(waiting.letter, Letter):
                # Kept, so that a mail that fails is tried again with the same codes.
                waiting.letter = waiting.letter()
            if waiting.letter is None:
                return True
            if waiting.letter.is_wanted and not waiting.letter.is_wanted():
                metrics.mails.labels("outdated").inc()
                log.info("mail to %s dropped: what it says holds no longer", to)
                return True
            self._transport.deliver(self._message(waiting), waiting.name)
        except _RefusedForGood as refusal:
            metrics.mails.labels("refused").inc()
            log.warning("mail to %s dropped: refused with %d", to, refusal.code)
            return True
        except _SenderRefused as refusal:
            self._count_failure(waiting, refusal)
            waiting.is_refused = True
            log.error("the mail server refuses the sender: see MAIL_FROM and SMTP_URL")
            return False
        except Exception as error:
            # Whatever it was, the mail is still good and this thread has others to send.
            self._count_failure(waiting, error)
            return False
        metrics.mails.labels("sent").inc()
        log.info("mail to %s sent", to)
        return True

    def _count_failure(self, waiting: "_Waiting", error: Exception) -> None:
        waiting.tries += 1
        metrics.mail_failures.inc()
        to = masked(waiting.to)
        log.warning("mail to %s failed, try %d: %s", to, waiting.tries, _kind(error))

    def _try_later(self, waiting: "_Waiting") -> None:
        """Queue a failed mail again: a little later each time, or soon when the process stops."""
        now = time.monotonic()
        delay = self._first_delay_seconds * 2 ** min(waiting.tries - 1, 20)
        longest = self._longest_delay_seconds * (REFUSED_FACTOR if waiting.is_refused else 1)
        delay = min(delay, longest) * random.uniform(0.5, 1)
        if self._drain_ends_at is not None:
            delay = min(delay, self._first_delay_seconds, max(0, self._drain_ends_at - now))
        waiting.due_at = now + delay
        heapq.heappush(self._waiting, waiting)

    def _message(self, waiting: "_Waiting") -> EmailMessage:
        """The mail as it travels; the same Message-ID at every try, so that a copy is known.

        Quoted-printable survives every server and leaves a code readable in the file.
        """
        message = EmailMessage(policy=POLICY)
        message["From"] = self._sender
        message["To"] = Address(addr_spec=waiting.to)
        message["Subject"] = waiting.letter.subject
        message["Date"] = waiting.queued_at
        message["Message-ID"] = f"<{waiting.message_id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(waiting.letter.text, cte="quoted-printable")
        message.add_alternative(waiting.letter.html, subtype="html", cte="quoted-printable")
        return message


# A child has its parent's queue in memory and none of its threads.
_all: "weakref.WeakSet[Mail]" = weakref.WeakSet()
os.register_at_fork(after_in_child=lambda: [each._begin() for each in _all])


@dataclass(order=True)
class _Waiting:
    """A mail in the queue, ordered by when it is next tried (on the monotonic clock)."""

    due_at: float
    number: int
    to: str = field(compare=False)
    letter: Letter | Callable[[], Letter | None] | None = field(compare=False, repr=False)
    good_until: datetime = field(compare=False)
    queued_at: datetime = field(compare=False)
    name: str = field(compare=False)
    # Of the request that queued it: every line about the mail has it.
    request_id: str | None = field(compare=False, default_factory=request_id.get)
    message_id: str = field(compare=False, default_factory=lambda: secrets.token_hex(16))
    tries: int = field(compare=False, default=0)
    is_refused: bool = field(compare=False, default=False)


class _RefusedForGood(Exception):
    """The server will never take this mail; `code` is its 5xx."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class _SenderRefused(Exception):
    """The server takes no mail from MAIL_FROM, or from this client; `smtp_code` says how."""

    def __init__(self, smtp_code: int):
        super().__init__(smtp_code)
        self.smtp_code = smtp_code


class _InTheClear(Exception):
    """The server offers no TLS, and the password does not travel without."""


class _Server:
    """Sends over SMTP, one connection for each mail.

    `starttls=1` demands STARTTLS and `starttls=0` never uses it. Without the option it is used
    when the server offers it, but not to this very machine, where there is nothing to hide from
    and rarely a certificate that holds. Where TLS is used, the certificate is verified; user and
    password never leave the machine without it.
    """

    def __init__(
        self, url: str, own_name: str, ssl_context: ssl.SSLContext | None, timeout_seconds: float
    ):
        parts = urlsplit(url)
        self._starttls = parse_qs(parts.query).get("starttls", [None])[0]
        self._is_tls = parts.scheme == "smtps"
        self._host = parts.hostname or ""
        self._port = parts.port or (465 if self._is_tls else 587 if self._starttls == "1" else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._own_name = own_name
        self._is_here = is_this_machine(self._host)
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._timeout_seconds = timeout_seconds
        if not (self._user + self._password).isascii():
            raise ConfigError("SMTP_URL must have a user and password in ASCII")
        if self._user and self._starttls == "0" and not (self._is_tls or self._is_here):
            raise ConfigError("SMTP_URL must not send a password with starttls=0")

    def deliver(self, message: EmailMessage, name: str) -> None:
        """Hand over one mail. Raises _RefusedForGood, or OSError and others when it may yet go."""
        with contextlib.closing(self._connect()) as smtp:
            self._secure(smtp)
            if self._user:
                smtp.login(self._user, self._password)
            self._submit(smtp, message)
            # The mail is theirs already: to fail on the goodbye would send it twice.
            with contextlib.suppress(OSError):
                smtp.quit()

    def _connect(self) -> smtplib.SMTP:
        where = {
            "host": self._host,
            "port": self._port,
            "local_hostname": self._own_name,
            "timeout": self._timeout_seconds,
        }
        if self._is_tls:
            return smtplib.SMTP_SSL(**where, context=self._ssl_context)
        return smtplib.SMTP(**where)

    def _secure(self, smtp: smtplib.SMTP) -> None:
        """Go over to TLS where it is due; raises before a password could go without."""
        smtp.ehlo_or_helo_if_needed()
        is_due = self._starttls == "1" or (
            self._starttls is None and not self._is_here and smtp.has_extn("starttls")
        )
        if is_due and not self._is_tls:
            smtp.starttls(context=self._ssl_context)
        if self._user and not self._is_here and not isinstance(smtp.sock, ssl.SSLSocket):
            raise _InTheClear

    def _submit(self, smtp: smtplib.SMTP, message: EmailMessage) -> None:
        """A 5xx to the recipient or the text is about this mail; any other may pass (RFC 5321)."""
        try:
            smtp.send_message(message)
        except smtplib.SMTPSenderRefused as error:
            raise _SenderRefused(error.smtp_code) from error
        except smtplib.SMTPRecipientsRefused as error:
            [(code, reply)] = error.recipients.values()
            _judge(code, reply, smtp_refusals.is_about_recipient, error)
        except smtplib.SMTPDataError as error:
            _judge(error.smtp_code, error.smtp_error, smtp_refusals.is_about_text, error)


def _judge(code: int, reply: bytes, is_about_mail: Callable, error: Exception) -> NoReturn:
    """Raises what a refusal is: of this mail, of who sends it, or one that may pass."""
    if code < 500:
        raise error
    raise (_RefusedForGood if is_about_mail(code, reply) else _SenderRefused)(code) from error


class _Outbox:
    """Writes each mail into a folder as an `.eml` file, for want of a server.

    With `show` its text goes to stderr as well, for somebody who is trying the service out.
    """

    def __init__(self, folder: Path, show: bool):
        self._folder = folder
        self._show = show

    def deliver(self, message: EmailMessage, name: str) -> None:
        """Write `name`.eml with mode 0600, there whole or not at all."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / f".{name}.part"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(message.as_bytes())
        draft.rename(self._folder / f"{name}.eml")
        if self._show:
            self._print(message)

    def _print(self, message: EmailMessage) -> None:
        rule = "-" * 72
        text = message.get_body(("plain",)).get_content().replace("\r\n", "\n").strip()
        lines = [rule, f"To: {message['To']}", f"Subject: {message['Subject']}", "", text, rule]
        # One write, so that two mails do not mix; a console that is gone undoes no file.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()


def _sender(value: str, default_name: str) -> Address:
    name, address = parseaddr(value)
    name = name or default_name
    try:
        _refuse_header_breaks(value + name)
        return Address(name, addr_spec=mailable(address))
    except ValueError as error:
        raise ConfigError("MAIL_FROM must be an address, as in Name <name@example.org>") from error


def _refuse_header_breaks(value: str) -> None:
    """Raises ValueError for what could end a header or be decoded to its end (CVE-2024-6923)."""
    if "=?" in value or not value.isprintable():
        raise ValueError("not a text for a header")


def _own_name(domain: str) -> str:
    """Our name in EHLO: the sender's domain, which has records, as relays demand.

    The host's own name often has no dot, and large relays answer `EHLO [127.0.0.1]`, which is
    what smtplib then says, with 421. To look it up may hang, for every mail.
    """
    return domain if "." in domain else "[127.0.0.1]"


def _kind(error: Exception) -> str:
    """What a log may have of an error: its class and SMTP code, none of the server's words."""
    code = getattr(error, "smtp_code", None)
    return type(error).__name__.removeprefix("_") + (f" {code}" if code else "")


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
