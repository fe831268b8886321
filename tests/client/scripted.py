"""A server that answers as it is told to, and what Node makes of it with our client."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from runtime.config.settings import ROOT
from tests.servers import program

CLIENT = ROOT / "runtime" / "static" / "client.mjs"
USER = {"id": "3f1c1a52-6c1e-4b43-9f0e-0a3c5a0c2f11", "email": "ada@example.org"}
STREAM = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}
MOST_CONNECTIONS = 1000
# A connection that is closed without a word.
NOTHING = (0, {}, b"")
# Before the client's own text: what is waited is written down, and takes no time.
CLOCK = """
globalThis.waits = [];
const setTimeout = (go, ms) => {
  if (ms === SILENCE_MS) return globalThis.setTimeout(go, ms);
  globalThis.waits.push(ms / 1000);
  return globalThis.setTimeout(go, {ms});
};
"""
PROLOGUE = """
import { Client, Problem } from "./client.mjs";
let kept = process.env.PAIR;
const storage = {
  getItem: () => kept ?? null,
  setItem: (key, value) => { kept = value; },
  removeItem: () => { kept = undefined; },
};
const told = [];
const requests = [];
const onRequest = (request, response) => response || requests.push(request);
const client = new Client({ base: process.env.BASE, storage, language: "en", onRequest });
for (const type of ["signedin", "signedout"]) client.addEventListener(type, () => told.push(type));
const all = async (events) => {
  const heard = [];
  try {
    for await (const event of events) heard.push([event.id, event.data.type]);
  } catch (error) {
    return { heard, problem: as_told(error) };
  }
  return { heard, problem: null };
};
const as_told = (error) =>
  error instanceof Problem ? { ...error, message: error.message } : { name: error.name };
const outcome = (promise) =>
  promise.then((value) => ({ value }), (error) => ({ problem: as_told(error) }));
const say = (value) => console.log(JSON.stringify({
  value, told, waits, kept: JSON.parse(kept ?? null), user: client.user,
  urls: requests.map((request) => request.url),
}));
"""


@dataclass
class Asked:
    """One request, as the server got it."""

    method: str
    path: str
    headers: dict
    body: dict | None


Answer = tuple[int, dict, bytes]


@dataclass
class Server:
    """What was asked; `answer` gives the status, headers and body for a request, by its number."""

    answer: Callable[[int, Asked], Answer]
    asked: list[Asked] = field(default_factory=list)
    origin: str = ""

    @property
    def paths(self) -> list[str]:
        return [f"{each.method} {each.path.removeprefix('/api/v1')}" for each in self.asked]


@contextmanager
def serving(answer: Callable[[int, Asked], Answer]) -> Iterator[Server]:
    """Serve answers until the end of the block."""
    told = Server(answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(self.command, self.path, dict(self.headers), body and json.loads(body))
            with lock:
                told.asked.append(asked)
                number = len(told.asked)
            status, headers, content = answer(number, asked)
            self.close_connection = True
            if not status:
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        told.origin = f"http://127.0.0.1:{server.server_port}"
        yield told
        server.shutdown()


@dataclass
class Played:
    """What a script came to, what was dispatched, waited and kept, and which URLs were asked."""

    value: object
    told: list[str]
    waits: list[float]
    kept: dict | None
    user: dict | None
    urls: list[str]


def play(
    folder: Path,
    base: str,
    script: str,
    pair: dict | None = None,
    *,
    hurry: bool = True,
    most: int = MOST_CONNECTIONS,
) -> Played:
    """Run a script that ends with `say(value)`; the client is signed in if there is a pair.

    A stream may have `most` connections.
    """
    client = CLIENT.read_text()
    assert f"connections: {MOST_CONNECTIONS} " in client
    client = client.replace(f"connections: {MOST_CONNECTIONS} ", f"connections: {most} ")
    (folder / "client.mjs").write_text(CLOCK.replace("{ms}", "0" if hurry else "ms") + client)
    (folder / "script.mjs").write_text(PROLOGUE + script)
    environ = {"BASE": base} | ({"PAIR": json.dumps(pair)} if pair else {})
    done = subprocess.run(
        [program("node"), str(folder / "script.mjs")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return Played(**json.loads(done.stdout))


def pair(number: int = 1, renew_at: float = 9e15, **members: object) -> dict:
    """Tokens as the client keeps them."""
    tokens = {"access_token": f"access {number}", "refresh_token": f"refresh {number}"}
    return {**tokens, "user": USER, "renew_at": renew_at, **members}


def new_pair(number: int) -> Answer:
    """The answer to a refresh or a sign-in."""
    tokens = {"access_token": f"access {number}", "refresh_token": f"refresh {number}"}
    members = {**tokens, "expires_in": 3600, "token_type": "bearer", "user": USER}
    return 200, JSON, json.dumps(members).encode()


def problem(status: int, code: str, **headers: str) -> Answer:
    members = {"title": "A title", "status": status, "code": code, "detail": f"It is {code}."}
    return status, PROBLEM | headers, json.dumps(members).encode()


def value(what: object) -> Answer:
    return 200, JSON, json.dumps(what).encode()


def events(*types: str, first: int = 1) -> bytes:
    """Frames of a stream, whose events have these types."""
    frames = [
        f'id: {number}\ndata: {{"type":"{each}"}}\n\n' for number, each in enumerate(types, first)
    ]
    return "".join([":\n\n", *frames]).encode()
