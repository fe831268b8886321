"""The manual's JavaScript, run as it is printed: no loop in it asks without end."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.config.settings import ROOT
from tests.client.scripted import CLIENT, events, new_pair, problem, serving
from tests.servers import program

PAGE = (ROOT / "runtime" / "docs" / "front-ends.md").read_text()
BLOCKS = re.findall(r"^```js[^\n]*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
[BROWSER] = [block for block in BLOCKS if 'from "/client.mjs"' in block]
[ASK] = [block for block in BLOCKS if block.startswith("// ask.mjs")]
[CHAT] = [block for block in BLOCKS if block.startswith("// chat.mjs")]
# Time does not pass.
PROLOGUE = """
const setTimeout = (go) => setImmediate(go);
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
STREAM = {"Content-Type": "text/event-stream"}


def run(folder: Path, script: str, url: str) -> subprocess.CompletedProcess:
    shutil.copy(CLIENT, folder)
    file = folder / "script.mjs"
    file.write_text(script)
    return subprocess.run(
        [program("node"), str(file)],
        env={"URL": url, "TOKEN": "t"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_chat_in_a_page_takes_five_lines():
    assert len(BROWSER.splitlines()) == 5


def test_the_lines_for_node_sign_in_and_hear_the_answer(tmp_path: Path):
    said = b'id: 3\ndata: {"type":"RUN_FINISHED","output":"42"}\n\n'

    def answer(number: int, _asked) -> tuple[int, dict, bytes]:
        parts = {1: new_pair(1), 2: (200, STREAM, events("RUN_STARTED", "x"))}
        return parts.get(number, (200, STREAM, said))

    with serving(answer) as server:
        done = run(tmp_path, ASK.replace("http://127.0.0.1:8000", server.origin), "")

    assert (done.stdout, done.returncode) == ("42\n", 0)
    assert server.paths == ["POST /auth/sessions", *["POST /agent-chats"] * 2]
    assert server.asked[2].headers["Last-Event-ID"] == "2"


def test_the_lines_for_node_end_when_they_are_refused(tmp_path: Path):
    with serving(lambda *_: problem(401, "wrong_credentials")) as server:
        done = run(tmp_path, ASK.replace("http://127.0.0.1:8000", server.origin), "")

    assert done.returncode != 0
    assert "Problem: It is wrong_credentials." in done.stderr
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "asked"), [(200, 8), (503, 8), (429, 8), (401, 1)])
def test_the_loop_around_ag_uis_client_gives_up(tmp_path: Path, status: int, asked: int):
    """With a client that is told nothing, as the published ones are by a stream that breaks off."""
    imported = 'import { HttpAgent } from "@ag-ui/client";'
    assert imported in CHAT
    with serving(lambda *_: (status, {}, b"")) as server:
        done = run(tmp_path, PROLOGUE + CHAT.replace(imported, AG_UI_CLIENT), server.origin)

    assert done.returncode != 0
    assert len(server.asked) == asked
