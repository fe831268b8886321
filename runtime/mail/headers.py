"""Subjects of any length that are not ASCII, as encoded words (RFC 2047) of the very same text."""

from email.header import Header
from email.policy import EmailPolicy


class MailPolicy(EmailPolicy):
    """CPython's own for SMTP, but for how it folds a subject.

    That (seen: 3.11.7) doubles or drops a space where a long text breaks.
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
