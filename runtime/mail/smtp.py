"""Mail over SMTP, one connection for each, and what a refusal is about."""

import contextlib
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from typing import NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from runtime.config.settings import ConfigError
from runtime.config.urls import is_this_machine
from runtime.mail import smtp_refusals


class Refused(Exception):
    """The server takes a mail not now, or never; `smtp_code` is what it said."""

    def __init__(self, smtp_code: int):
        super().__init__(smtp_code)
        self.smtp_code = smtp_code


class MailRefused(Refused):
    """The server will never take this mail; its code is a 5xx."""


class SenderRefused(Refused):
    """The server takes no mail from MAIL_FROM, or from this client."""


class InTheClear(Exception):
    """The server offers no TLS, and the password does not travel without."""


class MailServer:
    """Sends over SMTP, one connection for each mail.

    `starttls=1` demands STARTTLS and `starttls=0` never uses it. Without the option it is used
    when the server offers it, but not to this very machine, where there is nothing to hide from
    and rarely a certificate that holds. Where TLS is used, the certificate is verified; user and
    password never leave the machine without it.
    """

    def __init__(
        self,
        url: str,
        sender_domain: str,
        ssl_context: ssl.SSLContext | None,
        timeout_seconds: float,
    ):
        parts = urlsplit(url)
        self._starttls = parse_qs(parts.query).get("starttls", [None])[0]
        self._is_tls = parts.scheme == "smtps"
        self._host = parts.hostname or ""
        self._port = parts.port or (465 if self._is_tls else 587 if self._starttls == "1" else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._own_name = _own_name(sender_domain)
        self._is_here = is_this_machine(self._host)
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._timeout_seconds = timeout_seconds
        if not (self._user + self._password).isascii():
            raise ConfigError("SMTP_URL must have a user and password in ASCII")
        if self._user and self._starttls == "0" and not (self._is_tls or self._is_here):
            raise ConfigError("SMTP_URL must not send a password with starttls=0")

    def deliver(self, message: EmailMessage, name: str) -> None:
        """Hand over one mail. Raises MailRefused, or OSError and others when it may yet go."""
        with contextlib.closing(self._connect()) as smtp:
            self._secure(smtp)
            if self._user:
                smtp.login(self._user, self._password)
            self._submit(smtp, message)
            # The mail is theirs already: to fail on the goodbye would send it twice.
            with contextlib.suppress(OSError):
                smtp.quit()

    def _connect(self) -> smtplib.SMTP:
        where, seconds = (self._host, self._port, self._own_name), self._timeout_seconds
        if self._is_tls:
            return smtplib.SMTP_SSL(*where, timeout=seconds, context=self._ssl_context)
        return smtplib.SMTP(*where, timeout=seconds)

    def _secure(self, smtp: smtplib.SMTP) -> None:
        """Go over to TLS where it is due; raises before a password could go without."""
        smtp.ehlo_or_helo_if_needed()
        is_due = self._starttls == "1" or (
            self._starttls is None and not self._is_here and smtp.has_extn("starttls")
        )
        if is_due and not self._is_tls:
            smtp.starttls(context=self._ssl_context)
        if self._user and not self._is_here and not isinstance(smtp.sock, ssl.SSLSocket):
            raise InTheClear

    def _submit(self, smtp: smtplib.SMTP, message: EmailMessage) -> None:
        """A 5xx to the recipient or the text is about this mail; any other may pass (RFC 5321)."""
        try:
            smtp.send_message(message)
        except smtplib.SMTPSenderRefused as error:
            raise SenderRefused(error.smtp_code) from error
        except smtplib.SMTPRecipientsRefused as error:
            [(code, reply)] = error.recipients.values()
            _judge(code, reply, smtp_refusals.is_about_recipient, error)
        except smtplib.SMTPDataError as error:
            _judge(error.smtp_code, error.smtp_error, smtp_refusals.is_about_text, error)


def _judge(code: int, reply: bytes, is_about_mail: Callable, error: Exception) -> NoReturn:
    """Raises MailRefused or SenderRefused by what a 5xx is about, and `error` itself otherwise."""
    if code < 500:
        raise error
    raise (MailRefused if is_about_mail(code, reply) else SenderRefused)(code) from error


def _own_name(domain: str) -> str:
    """Our name in EHLO: the sender's domain, which has records, as relays demand.

    The host's own name often has no dot, and large relays answer `EHLO [127.0.0.1]`, which is
    what smtplib then says, with 421. To look it up may hang, for every mail.
    """
    return domain if "." in domain else "[127.0.0.1]"
