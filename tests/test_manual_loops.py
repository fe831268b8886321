"""The manual's JavaScript, run as it is printed: no loop in it asks without end."""

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtime.config.settings import ROOT
from tests.conftest import Person
from tests.servers import Service, program

PAGE = (ROOT / "runtime" / "docs" / "front-ends.md").read_text()
BLOCKS = re.findall(r"^```js[^\n]*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
[ASK] = [block for block in BLOCKS if "async function* ask(" in block]
[CHAT] = [block for block in BLOCKS if block.startswith("// chat.mjs")]
# Time does not pass, and what would be waited is written down.
PROLOGUE = """
const waits = [];
const setTimeout = (go, ms) => { waits.push(ms); setImmediate(go); };
"""
EPILOGUE = """
const events = [];
let thrown = null;
try {
  for await (const event of ask(process.env.URL, process.env.TOKEN, "hello")) events.push(event);
} catch (error) { thrown = error.message ?? error; }
console.log(JSON.stringify({ events, thrown, waits }));
"""
AG_UI_CLIENT = """
class HttpAgent {
  messages = [];
  constructor({ url, headers }) { Object.assign(this, { url, headers }); }
  async runAgent({ runId }, on) {
    const answer = await fetch(process.env.URL, { method: "POST", headers: this.headers });
    if (!answer.ok) throw Object.assign(new Error("refused"), { status: answer.status });
  }
}
"""


@dataclass
class Played:
    """What came of the loop."""

    events: list[dict]
    thrown: object
    waits: list[float]


@dataclass
class Server:
    """Answers as it is told to: the number of the request leads to status, headers and body."""

    answer: Callable[[int], tuple[int, dict, bytes]]
    headers: list[dict] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(answer: Callable[[int], tuple[int, dict, bytes]]) -> Iterator[Server]:
    told = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.headers.append(dict(self.headers))
            status, headers, body = answer(len(told.headers))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_port}/"
        yield told
        server.shutdown()


def run(folder: Path, script: str, url: str, token: str = "t") -> subprocess.CompletedProcess:
    file = folder / "script.mjs"
    file.write_text(script)
    return subprocess.run(
        [program("node"), str(file)],
        env={"URL": url, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=60,
    )


def play(folder: Path, url: str, token: str = "t") -> Played:
    done = run(folder, PROLOGUE + ASK + EPILOGUE, url, token)
    assert done.returncode == 0, done.stderr
    return Played(**json.loads(done.stdout))


def events(*texts: str, first: int = 1) -> bytes:
    """Frames of a stream, whose events have these texts as their type."""
    frames = [
        f'id: {number}\ndata: {{"type":"{text}"}}\n\n' for number, text in enumerate(texts, first)
    ]
    return "".join([":\n\n", *frames]).encode()


STREAM = {"Content-Type": "text/event-stream"}


def test_the_loop_hears_a_run_to_its_end(service: Service, alice: Person, tmp_path: Path):
    url = f"http://127.0.0.1:{service.port}/api/v1/agent-chats"

    played = play(tmp_path, url, alice.tokens["access_token"])

    assert played.thrown is None
    assert played.events[0]["type"] == "RUN_STARTED"
    assert "embedded model" in played.events[-1]["output"]
    assert played.waits == [0]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085"])
def test_the_loop_takes_every_character_of_an_answer(tmp_path: Path, odd: str):
    with serving(lambda _: (200, STREAM, events(f"a{odd}b", "RUN_FINISHED"))) as server:
        played = play(tmp_path, server.url)

    assert [event["type"] for event in played.events] == [f"a{odd}b", "RUN_FINISHED"]
    assert len(server.headers) == 1


def test_the_loop_goes_on_where_it_was_cut(tmp_path: Path):
    def answer(number: int) -> tuple[int, dict, bytes]:
        texts = ("one", "two", "three", "RUN_FINISHED")
        return 200, STREAM, events(texts[number - 1], first=number) + b"id: 9\ndata: {"

    with serving(answer) as server:
        played = play(tmp_path, server.url)

    assert [event["type"] for event in played.events] == ["one", "two", "three", "RUN_FINISHED"]
    after = [headers.get("Last-Event-ID") for headers in server.headers]
    assert after == [None, "1", "2", "3"]
    assert len({headers["Idempotency-Key"] for headers in server.headers}) == 1
    assert max(played.waits) <= 1000


@pytest.mark.parametrize(
    "answer",
    [
        (200, STREAM, b""),
        (200, STREAM, b":\n\n" * 5),
        (200, STREAM, b"id: 1\ndata: {]\n\n"),
        (200, {"Content-Type": "text/html"}, b"<html>\n\n<p>\n</p>\n\n"),
        (502, {}, b"<html>"),
        (503, {"Retry-After": "1"}, b"{}"),
        (429, {}, b"{}"),
    ],
    ids=["nothing", "heartbeats", "no json", "a page", "502", "503", "429"],
)
def test_the_loop_gives_up(tmp_path: Path, answer: tuple):
    with serving(lambda _: answer) as server:
        played = play(tmp_path, server.url)

    assert (played.events, played.thrown) == ([], "no answer")
    assert len(server.headers) == 8
    assert sum(played.waits) > 30_000
    assert played.waits == sorted(played.waits)


def test_the_loop_gives_up_where_nobody_listens(tmp_path: Path):
    played = play(tmp_path, "http://127.0.0.1:9/")

    assert (played.thrown, len(played.waits)) == ("no answer", 8)


def test_the_loop_waits_as_long_as_it_is_told(tmp_path: Path):
    def answer(number: int) -> tuple[int, dict, bytes]:
        busy = (429, {"Retry-After": "47"}, b"{}")
        return busy if number == 1 else (200, STREAM, events("RUN_FINISHED"))

    with serving(answer) as server:
        played = play(tmp_path, server.url)

    assert played.waits == [0, 47_000]


@pytest.mark.parametrize(
    ("status", "headers"), [(401, {}), (409, {}), (422, {}), (429, {"Retry-After": "40000"})]
)
def test_the_loop_tells_a_refusal_at_once(tmp_path: Path, status: int, headers: dict):
    problem = json.dumps({"status": status}).encode()
    with serving(lambda _: (status, headers, problem)) as server:
        played = play(tmp_path, server.url)

    assert (played.thrown, len(server.headers)) == ({"status": status}, 1)


@pytest.mark.parametrize(("status", "asked"), [(200, 8), (503, 8), (429, 8), (401, 1)])
def test_the_loop_around_ag_uis_client_gives_up(tmp_path: Path, status: int, asked: int):
    """With a client that is told nothing, as the published ones are by a stream that breaks off."""
    imported = 'import { HttpAgent } from "@ag-ui/client";'
    assert imported in CHAT
    with serving(lambda _: (status, {}, b"")) as server:
        done = run(tmp_path, PROLOGUE + CHAT.replace(imported, AG_UI_CLIENT), server.url)

    assert done.returncode != 0
    assert len(server.headers) == asked
