"""The manual's session that renews itself, as a phone's app has it: its store takes its time."""

import json
import subprocess
from pathlib import Path

from tests.documented_commands import blocks_of
from tests.front_ends import Stage
from tests.recipes.conftest import MANUAL
from tests.servers import program

APP = """
import { Session } from "./session.mjs";

const [base, kept] = process.argv.slice(2);
const items = new Map([["session", kept]]);
const later = (value) => new Promise((go) => setTimeout(go, 5, value));
const store = {
  getItem: (key) => later(items.get(key)),
  setItem: (key, value) => later(items.set(key, value)),
};
const session = new Session(base, store);
let renewals = 0;
let lost = 1; // answers to come that are lost on the way
const real = fetch;
globalThis.fetch = async (url, options) => {
  const answer = await real(url, options);
  if (!String(url).endsWith("/refresh")) return answer;
  renewals++;
  if (lost-- > 0) throw new TypeError("fetch failed");
  return answer;
};
const me = async () => (await session.fetch(`${base}/users/me`)).status;
const first = await Promise.allSettled([me(), me()]);
const then = await Promise.all([me(), me(), me()]);
const pair = JSON.parse(items.get("session"));
await session.keep({ access_token: "over", refresh_token: "nobody's" });
const over = [await me(), await me(), items.get("session")];
const told = { first: first.map((each) => each.status), then, renewals, pair, over };
console.log(JSON.stringify(told));
"""


def test_a_session_is_renewed_once_and_survives_a_lost_answer(stage: Stage, tmp_path: Path):
    [block] = [block for block in blocks_of(MANUAL) if block.detail.endswith("/session.mjs")]
    (tmp_path / "session.mjs").write_text(block.text)
    (tmp_path / "app.mjs").write_text(APP)
    base = f"http://127.0.0.1:{stage.service.port}/api/v1"
    kept = json.dumps({**stage.pair, "access_token": "over"})

    command = [program("node"), tmp_path / "app.mjs", base, kept]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    stage.pair = told["pair"]

    # Both heard of the lost answer; the next three renewed together.
    assert told["first"] == ["rejected", "rejected"]
    assert told["then"] == [200, 200, 200]
    assert told["over"] == [401, 401, "{}"]
    assert told["renewals"] == 3
