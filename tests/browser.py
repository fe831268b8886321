"""A browser without a screen, told what to do over pipes (the Chrome DevTools Protocol)."""

import fcntl
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
SECONDS = 30
# Where the browser reads and writes; ours are moved behind them first.
READS, WRITES, BEHIND = 3, 4, 100


def program() -> str:
    """Where a browser is. Without one the test is skipped, but never under CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        assert not os.environ.get("CI"), "a browser must be there under CI: chromium"
        pytest.skip("needs chromium to set a page")
    return found


class Browser:
    """A browser with one page."""

    def __init__(self, folder: Path):
        reads, self._to = map(_moved, os.pipe())
        self._from, writes = map(_moved, os.pipe())
        self._process = subprocess.Popen(
            [program(), *OPTIONS, f"--user-data-dir={folder}"],
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=lambda: (os.dup2(reads, READS), os.dup2(writes, WRITES)),
        )
        os.close(reads)
        os.close(writes)
        self._number, self._unread, self._session = 0, b"", {}
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_error) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, url: str, until: str) -> None:
        """Go to a page, and wait until it is loaded and the JavaScript expression true there."""
        self._ask("Page.navigate", url=url)
        is_loaded = f"location.href === '{url}' && document.readyState === 'complete'"
        wait_until(lambda: self.read(f"!!({is_loaded} && {until})"), SECONDS, until)

    def resize(self, width: int, height: int = 900) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **screen)
        # Once what was changed is on the screen, and what observes sizes has been told.
        two_frames = "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
        self.read(f"{two_frames}.then(() => 0)")

    def read(self, expression: str) -> object:
        """What a JavaScript expression comes to on the page, waited for if it is a promise."""
        told = self._ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return told["result"].get("value")

    def _ask(self, method: str, **params: object) -> dict:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass  # It tells events too.
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict:
        while b"\0" not in self._unread:
            assert select.select([self._from], [], [], SECONDS)[0], "the browser says nothing"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser is gone"
            self._unread += part
        message, _end, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


def _moved(pipe: int) -> int:
    moved = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, BEHIND)
    os.close(pipe)
    return moved
