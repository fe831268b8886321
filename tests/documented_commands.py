"""Runs the commands of the README and the manual: `python -m tests.documented_commands`.

In a fresh clone of the project, with nothing configured. Each fenced block is run as printed, in
its order, in one shell; only the port 8000 becomes a free one. The first that fails ends the run.
What stands behind a fence's language says what the block is, and no reader of the page sees it:

- ```` ```sh ```` has to succeed;
- ```` ```sh serves ```` is left running in the place of the service before, once it answers;
- ```` ```sh stops ```` is run when the service has stopped;
- ```` ```sh not-run: reason ```` is counted aloud;
- ```` ```json answer ```` is what the block before it printed; ids and instants may be others, and
  "…" stands for anything;
- ```` ```python shell ```` is typed into `flask shell`;
- ```` ```js file: path ```` is written to that file.

Other blocks are not commands.
"""

import doctest
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import urllib3

from runtime.api.routes import manual
from runtime.config.settings import ROOT, SETTINGS
from tests.ports import free_port

PAGES = (ROOT / "README.md", *(manual.FOLDER / f"{name}.md" for name in manual.NAMES))
# The longest, where nothing is installed yet, is the installation.
SECONDS = 120
STOP_SECONDS = 40
KINDS = ("run", "serves", "stops", "not-run", "answer", "shell", "file")
_END = "--- end of a block ---"
_BLOCKS = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = re.compile(
    r"(?P<any>…)"
    r"|(?P<id>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"
    r"|(?P<instant>\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"
)


class Failed(Exception):
    """A command did not do what is printed; the text says what came instead."""


@dataclass(frozen=True)
class Block:
    """A fenced block: `place` is its file and line, `detail` a reason or path behind its kind."""

    place: str
    kind: str
    detail: str
    text: str


def blocks_of(page: Path, root: Path = ROOT) -> Iterator[Block]:
    """The blocks of a page that are commands, their answers or files, in their order."""
    source = page.read_text(encoding="utf-8")
    for found in _BLOCKS.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        language, _space, info = found["info"].partition(" ")
        kind, _colon, detail = (info or ("run" if language == "sh" else "")).partition(": ")
        if kind:
            place = f"{page.relative_to(root)}:{line}"
            yield Block(place, kind, detail, found["text"])


def matches(answer: str, output: str) -> bool:
    """Whether a command printed what a page says, but for what differs each time."""
    pattern, end = "", 0
    for varying in _VARYING.finditer(answer.strip()):
        same = {"any": ".*", "id": "[0-9a-f-]{36}", "instant": "[0-9T:.Z-]{24}"}
        pattern += re.escape(answer.strip()[end : varying.start()]) + same[varying.lastgroup]
        end = varying.end()
    pattern += re.escape(answer.strip()[end:])
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


class Reader:
    """Types what the pages print: has a shell, and beside it the service."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._port = str(free_port())
        # A proxy is the machine's: pip and npm may need it.
        ours = {name for name in SETTINGS if not name.endswith("_PROXY")}
        ours |= {"TEST_DATABASE_URL", "TEST_REDIS_URL", "CI"}
        environ = {name: value for name, value in os.environ.items() if name not in ours}
        self._environ = environ | {"PORT": self._port}
        self._errors = TemporaryFile("w+")  # noqa: SIM115 - closed with the reader.
        self._shell = self._popen(["bash", "-e"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._service: subprocess.Popen | None = None
        self._output = ""

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_error) -> None:
        _end(self._shell)
        self._shell.wait()
        for pipe in (self._shell.stdin, self._shell.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        self._stop()
        self._errors.close()

    def follow(self, block: Block) -> None:
        """Do what a block says. Raises Failed when that comes out otherwise."""
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}")
        if block.kind == "run":
            self._output = self._run(text)
        elif block.kind == "stops":
            self._stop()
            self._output = self._run(text)
        elif block.kind == "serves":
            self._serve(text)
        elif block.kind == "answer":
            self._expect(text)
        elif block.kind == "shell":
            self._type(text)
        elif block.kind == "file":
            file = self._folder / block.detail
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif block.kind != "not-run":
            raise Failed(f"no kind of block: {block.kind}")

    def _run(self, commands: str) -> str:
        """What the commands print on stdout."""
        began = time.monotonic()
        late = threading.Timer(SECONDS, _end, [self._shell])
        late.start()
        lines = []
        with suppress(BrokenPipeError):
            self._shell.stdin.write(f"{{\n{commands}\n}} </dev/null\nprintf '\\n{_END}\\n'\n")
            self._shell.stdin.flush()
            for line in self._shell.stdout:
                if line == f"{_END}\n":
                    late.cancel()
                    return "".join(lines)[:-1]
                lines.append(line)
        late.cancel()
        is_late = time.monotonic() - began >= SECONDS
        why = f"was not over in {SECONDS} s" if is_late else "failed"
        raise Failed(f"{why}:\n{''.join(lines)[-2000:]}{self._read_errors()}")

    def _type(self, session: str) -> None:
        """Type the lines behind `>>>` into `flask shell`, and expect what is below them."""
        examples = doctest.DocTestParser().get_examples(session)
        sources = "".join(example.source for example in examples)
        output = self._run(f".venv/bin/flask shell <<'TYPED'\n{sources}TYPED")
        self._output = output.replace(">>> ", "")
        self._expect("".join(example.want for example in examples))

    def _expect(self, answer: str) -> None:
        if not matches(answer, self._output):
            raise Failed(f"printed\n{self._output}\nand not\n{answer}")

    def _serve(self, command: str) -> None:
        self._stop()
        self._service = self._popen(["bash", "-c", command])
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if self._service.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"does not serve:\n{self._read_errors()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self._port}/api/v1/health"
            return urllib3.request("GET", url, retries=False, timeout=1).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def _stop(self) -> None:
        if self._service:
            with suppress(ProcessLookupError):
                os.killpg(self._service.pid, signal.SIGTERM)
            try:
                self._service.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _end(self._service)
                raise Failed(f"the service did not stop within {STOP_SECONDS} s") from None
            self._service = None

    def _popen(self, command: list[str], **pipes) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environ,
            text=True,
            start_new_session=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": self._errors,
                "stderr": self._errors,
                **pipes,
            },
        )

    def _read_errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:]


def _end(process: subprocess.Popen) -> None:
    """Kill a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def follow(blocks: list[Block], folder: Path) -> int:
    """Do what the blocks say, one after the other; returns the exit status."""
    with Reader(folder) as reader:
        for block in blocks:
            began = time.monotonic()
            try:
                reader.follow(block)
            except Failed as failure:
                print(f"{block.place}: {failure}\n\n{block.text}", file=sys.stderr)
                return 1
            print(f"{block.place}: {block.kind} {time.monotonic() - began:.1f} s", flush=True)
    counts = Counter(block.kind for block in blocks)
    print(", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    for block in blocks:
        if block.kind == "not-run":
            print(f"not run: {block.place}: {block.detail}")
    return 0


def main() -> int:
    """Returns the exit status: 2 where there is more than a clone."""
    if any((ROOT / "instance").glob("*")):
        print("instance/ is there already: run this in a fresh clone", file=sys.stderr)
        return 2
    return follow([block for page in PAGES for block in blocks_of(page)], ROOT)


if __name__ == "__main__":
    sys.exit(main())
