"""Mail as files in a folder, where no mail server is configured."""

import contextlib
import os
import sys
from email.message import EmailMessage
from pathlib import Path


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

    def _print(self, message: EmailMessage) -> None:
        rule = "-" * 72
        text = message.get_body(("plain",)).get_content().replace("\r\n", "\n").strip()
        lines = [rule, f"To: {message['To']}", f"Subject: {message['Subject']}", "", text, rule]
        # One write, so that two mails do not mix; a console that is gone undoes no file.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()
