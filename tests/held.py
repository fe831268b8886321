"""`wsgi:app` for tests that hold its clock from another process: what gunicorn loads for them.

What holds stands in `held.json` under INSTANCE_PATH and is read before every request. A file under
`sending/` there says that a mail is still to be sent, or a refusal to be recorded.
"""

import json
import secrets
import threading
import time
from datetime import datetime
from pathlib import Path

from runtime import clock
from runtime.mail.queue import Mail
from runtime.services.accounts.security_log import Refusals
from tests.quick import QuickPasswords
from wsgi import app


class WatchedMail(Mail):
    """Tells other processes while it has something to send."""

    def __init__(self, folder: Path, sender: str, name: str):
        outbox = folder / "outbox"
        super().__init__(None, sender, outbox, sender_name=name, pause_seconds=0.01)
        self._sending = folder / "sending"

    def send(self, *letter) -> None:
        super().send(*letter)
        note = self._sending / secrets.token_hex(8)
        note.touch()
        threading.Thread(target=self._wait, args=(note,), daemon=True).start()

    def _wait(self, note: Path) -> None:
        while self.queued:
            time.sleep(0.005)
        note.unlink(missing_ok=True)


class WatchedRefusals(Refusals):
    """Tells other processes while it has something to record."""

    def __init__(self, folder: Path):
        super().__init__(pause_seconds=0.01)
        self._sending = folder / "sending"
        self._notes: list[Path] = []
        self._one_at_a_time = threading.Lock()
        self._flushing = threading.Lock()

    def add(self, refusal) -> None:
        with self._one_at_a_time:
            self._notes.append(self._sending / secrets.token_hex(8))
            self._notes[-1].touch()
            super().add(refusal)

    def flush(self) -> None:
        with self._flushing:
            with self._one_at_a_time:
                notes, self._notes = self._notes, []
                # Who adds one from here on has another flush, which removes its note.
                self._is_due = False
            # Not with the lock that requests wait for: they may hold all connections there are.
            super().flush()
            for note in notes:
                note.unlink(missing_ok=True)


folder = Path(app.config["INSTANCE_PATH"])
passwords = {False: app.extensions["passwords"], True: QuickPasswords()}
answer = app.wsgi_app


def answer_as_held(environ, start_response):
    held = json.loads((folder / "held.json").read_text())
    clock.hold(held["now"] and datetime.fromisoformat(held["now"]))
    app.extensions["passwords"] = passwords[held["has_quick_passwords"]]
    return answer(environ, start_response)


app.wsgi_app = answer_as_held
app.extensions["mail"] = WatchedMail(folder, app.config["MAIL_FROM"], app.config["APP_NAME"])
app.extensions["refusals"] = WatchedRefusals(folder)
