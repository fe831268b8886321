"""A browser without a screen, told what to do over pipes (the Chrome DevTools Protocol)."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
SECONDS = 30
# Where the browser reads and writes; ours are moved behind them first.
READS, WRITES, BEHIND = 3, 4, 100
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32}


def program() -> str:
    """Where a browser is. Without one the test is skipped, but never under CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        assert not os.environ.get("CI"), "a browser must be there under CI: chromium"
        pytest.skip("needs chromium to set a page")
    return found


class Page:
    """A tab of the browser, which keeps what it said and whom it asked.

    `asked` has the URL of each request, `complaints` what the console has of errors: exceptions,
    and what the page's policy (CSP) forbade.
    """

    def __init__(self, connection: "Connection"):
        self._connection = connection
        target = connection.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = connection.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.asked: list[str] = []
        self.complaints: list[str] = []
        connection.listeners[self._session] = self._hear
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def open(self, url: str, until: str) -> None:
        """Go to a page, and wait until it is loaded and the JavaScript expression true there."""
        self._ask("Page.navigate", url=url)
        is_loaded = f"location.href === '{url}' && document.readyState === 'complete'"
        wait_until(lambda: self.read(f"!!({is_loaded} && {until})"), SECONDS, until)

    def reload(self) -> None:
        self._ask("Page.reload")

    def resize(self, width: int, height: int = 900) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **screen)
        # Once what was changed is on the screen, and what observes sizes has been told.
        two_frames = "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
        self.read(f"{two_frames}.then(() => 0)")

    def prefer(self, scheme: str) -> None:
        """Have the user prefer the colours "dark" or "light"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._ask("Emulation.setEmulatedMedia", features=[feature])

    def run_first(self, script: str) -> None:
        """Run a script in each document from now on before its own."""
        self._ask("Page.addScriptToEvaluateOnNewDocument", source=script)

    def read(self, expression: str) -> object:
        """What a JavaScript expression comes to on the page, waited for if it is a promise."""
        told = self._ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; a failure says what the page shows."""
        try:
            wait_until(lambda: self.read(f"!!({expression})"), SECONDS, expression)
        except AssertionError as error:
            shown = self.read("document.body.innerText")
            raise AssertionError(f"{error}\n{self.complaints}\n{shown}") from None

    def press(self, *keys: str) -> None:
        """Press keys by their names, as in "Tab", or "Shift+Tab"."""
        for key in keys:
            *held, name = key.split("+")
            code = KEYS[name]
            how = {"key": name, "code": name, "windowsVirtualKeyCode": code}
            how["modifiers"] = 8 if held == ["Shift"] else 0
            text = {"text": "\r"} if name == "Enter" else {"text": " "} if name == "Space" else {}
            self._ask("Input.dispatchKeyEvent", type="keyDown", **how, **text)
            self._ask("Input.dispatchKeyEvent", type="keyUp", **how)

    def type(self, text: str) -> None:
        """Write where the focus is."""
        self._ask("Input.insertText", text=text)

    def grant(self, *permissions: str) -> None:
        """Allow a page what a user would be asked for."""
        self._connection.ask("Browser.grantPermissions", permissions=list(permissions))

    def keep_downloads(self, folder: Path) -> None:
        """Save what is downloaded in a folder."""
        behaviour = {"behavior": "allow", "downloadPath": str(folder)}
        self._connection.ask("Browser.setDownloadBehavior", **behaviour)

    def screenshot(self) -> bytes:
        """What is on the screen, as a PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot")["data"])

    def _ask(self, method: str, **params: object) -> dict:
        return self._connection.ask(method, self._session, **params)

    def _hear(self, method: str, params: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            entry = params["entry"]
            # An answer from 400 up is an error of the network, and for the page to show.
            if entry["level"] == "error" and entry["source"] != "network":
                self.complaints.append(entry["text"])


class Connection:
    """The pipes to a browser. `listeners` hear the events of each session."""

    def __init__(self, to: int, from_: int):
        self._to, self._from = to, from_
        self._number, self._unread = 0, b""
        self.listeners: dict[str, Callable[[str, dict], None]] = {}

    def ask(self, method: str, session: str | None = None, **params: object) -> dict:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if session:
            asked["sessionId"] = session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            if listener := self.listeners.get(answer.get("sessionId", "")):
                listener(answer["method"], answer["params"])
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


class Browser(Page):
    """A browser, and its first page."""

    def __init__(self, folder: Path, *options: str):
        reads, self._to = map(_moved, os.pipe())
        self._from, writes = map(_moved, os.pipe())
        self._process = subprocess.Popen(
            [program(), *OPTIONS, *options, f"--user-data-dir={folder}"],
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=lambda: (os.dup2(reads, READS), os.dup2(writes, WRITES)),
        )
        os.close(reads)
        os.close(writes)
        super().__init__(Connection(self._to, self._from))

    def new_page(self) -> Page:
        """Another tab, of the same person."""
        return Page(self._connection)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_error) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)


def _moved(pipe: int) -> int:
    moved = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, BEHIND)
    os.close(pipe)
    return moved
