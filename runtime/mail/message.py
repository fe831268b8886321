"""A letter as it travels: its headers, and its body twice, as text and as HTML."""

from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import parseaddr

from runtime.config.settings import ConfigError
from runtime.mail.addresses import mailable
from runtime.mail.letters import Letter


class MailPolicy(EmailPolicy):
    """CPython's own for SMTP, with subjects of any length as encoded words (RFC 2047).

    CPython's way to fold them (seen: 3.11.7) doubles or drops a space where a long text breaks.
    """

    def fold(self, name: str, value) -> str:
        """The header's lines. An ASCII subject is one, which RFC 5322 §2.1.1 allows up to 998."""
        if name != "Subject":
            return super().fold(name, value)
        charset = "ascii" if str(value).isascii() else "utf-8"
        length = 0 if charset == "ascii" else None
        words = Header(str(value), charset, header_name=name, maxlinelen=length)
        return f"{name}: {words.encode(linesep=self.linesep)}{self.linesep}"

    def fold_binary(self, name: str, value) -> bytes:
        """The same in bytes, which are ASCII."""
        return self.fold(name, value).encode("ascii")


POLICY = MailPolicy(linesep="\r\n")


def compose(
    sender: Address, to: str, letter: Letter, queued_at: datetime, message_id: str
) -> EmailMessage:
    """The mail from `sender` to a mailable address.

    Quoted-printable survives every server and leaves a code readable in the file.
    """
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = Address(addr_spec=to)
    message["Subject"] = letter.subject
    message["Date"] = queued_at
    message["Message-ID"] = f"<{message_id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return message


def parse_sender(value: str, default_name: str) -> Address:
    """The address in MAIL_FROM, called `default_name` if it has no name. Raises ConfigError."""
    name, address = parseaddr(value)
    name = name or default_name
    try:
        refuse_header_breaks(value + name)
        return Address(name, addr_spec=mailable(address))
    except ValueError as error:
        raise ConfigError("MAIL_FROM must be an address, as in Name <name@example.org>") from error


def refuse_header_breaks(value: str) -> None:
    """Raises ValueError for what could end a header or be decoded to its end (CVE-2024-6923)."""
    if "=?" in value or not value.isprintable():
        raise ValueError("not a text for a header")
