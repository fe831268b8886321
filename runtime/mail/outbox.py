"""Mail as files in a folder, where no mail server is configured."""

import contextlib
import heapq
import os
import sys
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

# What the names of mails look like: when one was asked for, and a number.
NAMES = "[0-9]*T[0-9]*Z-*.eml"


class WrittenMail(NamedTuple):
    """A mail as its reader would see it."""

    to: str
    subject: str
    text: str
    at: datetime


class Outbox:
    """Writes each mail into a folder as an `.eml` file, for want of a server.

    With `show` its text goes to stderr as well, for a first try without any settings.
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

    def newest(self, count: int) -> list[WrittenMail]:
        """The mails that were asked for last, the last of them first."""
        mails = map(_read, heapq.nlargest(count, self._folder.glob(NAMES)))
        return [mail for mail in mails if mail]

    def _print(self, message: EmailMessage) -> None:
        rule = "-" * 72
        lines = [rule, f"To: {message['To']}", f"Subject: {message['Subject']}", ""]
        lines += [_text_of(message), rule]
        # One write, so that two mails do not mix; a console that is gone undoes no file.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()


def _text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    return body.get_content().replace("\r\n", "\n").strip() if body else ""


def _read(file: Path) -> WrittenMail | None:
    """What is in a file; None if it was deleted meanwhile."""
    try:
        message = message_from_bytes(file.read_bytes(), policy=policy.default)
    except FileNotFoundError:
        return None
    at = message["Date"].datetime
    return WrittenMail(message["To"], message["Subject"], _text_of(message), at)
