"""client.mjs against the service under gunicorn: two workers, and a router that cuts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.client.scripted import Played, play
from tests.cutter import Cut, Cutter
from tests.servers import Service

# What signs up somebody, with the code that the outbox shows to this machine.
SIGN_UP = """
const email = `${crypto.randomUUID()}@example.org`;
const username = email.slice(0, 8);
await client.signUp({ username, email, password: "correct horse" });
let code;
for (let tries = 0; !code && tries < 100; tries++) {
  await new Promise((go) => setTimeout(go, 100));
  const { mails } = await (await fetch(process.env.BASE + "/page/outbox")).json();
  code = mails.find((mail) => mail.to === email)?.text.match(/Code: (\\d{6})/)[1];
}
await client.verify(email, code);
"""
# Each message is a chat of its own, six at once, since a user may have eight runs in a process.
CHATS = """
const names = %s;
const answers = {};
const hear = async () => {
  for (let name = names.pop(); name; name = names.pop()) {
    const sessionId = crypto.randomUUID();
    const heard = [];
    for await (const event of client.chat(name, { sessionId })) heard.push(event);
    const { messages } = await client.request("GET", `/agent-chats/${sessionId}/messages`);
    answers[name] = { heard, messages };
  }
};
await Promise.all(Array.from({ length: 6 }, hear));
say(answers);"""


@dataclass
class Stage:
    service: Service
    origin: str
    pair: dict

    def play(self, folder: Path, script: str, origin: str | None = None) -> Played:
        return play(folder, origin or self.origin, script, self.pair)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("client")
    settings = {"SECRET_KEY": "a-key-for-tests-" * 3, "RATE_LIMITS": "off", "WEB_CONCURRENCY": "2"}
    with Service(folder, settings) as service:
        origin = f"http://127.0.0.1:{service.port}"
        signed_up = play(folder, origin, f"{SIGN_UP} say(0);")
        yield Stage(service, origin, signed_up.kept)


def words(heard: list[dict]) -> str:
    """What the last message of a run says, from its pieces."""
    messages = [each["data"] for each in heard if "delta" in each["data"]]
    last = messages[-1]["message_id"]
    return "".join(each["delta"] for each in messages if each.get("message_id") == last)


def test_a_run_is_heard_whole_however_its_connection_is_cut(stage: Stage, tmp_path: Path):
    cuts = {
        f"What is {number} * 7?": [Cut(after, how)]
        for number, (after, how) in enumerate(
            [
                (0, "mute"),
                *((after, how) for after in range(12) for how in ("reset", "torn", "end")),
            ]
        )
    }
    names = list(cuts)

    def cut(body: bytes) -> Cut | None:
        waiting = cuts.get(json.loads(body)["message"]) if body else None
        return waiting.pop() if waiting else None

    with Cutter(stage.service.port, cut) as cutter:
        origin = f"http://127.0.0.1:{cutter.port}"
        answers = stage.play(tmp_path, CHATS % json.dumps(names), origin).value

    assert len(answers) == len(names) > 30
    assert not any(cuts.values())
    for number, name in enumerate(names):
        heard = answers[name]["heard"]
        ids = [each["id"] for each in heard]
        assert ids == sorted(set(ids)), name
        assert heard[0]["data"]["type"] == "RUN_STARTED"
        end = heard[-1]["data"]
        output = f"[embedded model] {number} * 7 = {number * 7}."
        assert (end["type"], end["output"], words(heard)) == ("RUN_FINISHED", output, output), name
        said = [each for each in answers[name]["messages"] if each["role"] == "user"]
        assert len(said) == 1, name


def test_a_run_is_followed_from_any_event(stage: Stage, tmp_path: Path):
    script = """
    const sessionId = crypto.randomUUID();
    const whole = [];
    for await (const event of client.chat("What is 6 * 7?", { sessionId })) whole.push(event);
    const runId = whole[0].data.run_id;
    const rests = [];
    for (const after of [0, 1, whole.at(-2).id, whole.at(-1).id]) {
      const rest = [];
      for await (const event of client.follow(sessionId, runId, { after })) rest.push(event.id);
      rests.push(rest);
    }
    await client.stop(sessionId, runId);
    const missing = await all(client.follow(sessionId, crypto.randomUUID()));
    say({ last: whole.at(-1).id, rests, missing });"""

    value = stage.play(tmp_path, script).value

    last = value["last"]
    first, second, one, none = value["rests"]
    assert first[-1] == second[-1] == last
    assert min(second) > 1 >= min(first)
    assert (one, none) == ([last], [])
    assert value["missing"]["problem"]["code"] == "run_not_found"


def test_many_that_renew_one_token_at_once_stay_signed_in(stage: Stage, tmp_path: Path):
    """As tabs do in a browser without locks."""
    script = f"""
    {SIGN_UP}
    const stale = {{ ...JSON.parse(kept), renew_at: 0 }};
    const at_once = async () => {{
      let own = JSON.stringify(stale);
      const storage = {{ getItem: () => own, setItem: (_, value) => {{ own = value; }} }};
      const tab = new Client({{ base: process.env.BASE, storage }});
      await tab.request("GET", "/users/me");
      await tab.request("GET", "/users/me");
      return JSON.parse(own).refresh_token;
    }};
    say(await Promise.all(Array.from({{ length: 5 }}, at_once)));"""

    tokens = play(tmp_path, stage.origin, script).value

    assert len(tokens) == 5
    assert len(set(tokens)) == 1


def test_a_new_password_leaves_its_user_signed_in(stage: Stage, tmp_path: Path):
    script = f"""
    {SIGN_UP}
    const old = JSON.parse(kept);
    const changed = {{ current_password: "correct horse", password: "another horse" }};
    await client.request("PUT", "/users/me/password", changed);
    const me = await client.request("GET", "/users/me");
    await client.signOut();
    const again = await outcome(client.signIn(email, "correct horse"));
    await client.signIn(email, "another horse");
    say({{ me, again, old, now: JSON.parse(kept) }});"""

    played = play(tmp_path, stage.origin, script)

    assert played.value["me"]["id"] == played.user["id"]
    assert played.value["again"]["problem"]["code"] == "wrong_credentials"
    assert played.value["old"]["access_token"] != played.value["now"]["access_token"]
    assert played.told == ["signedin", "signedout", "signedin"]


def test_who_is_signed_out_elsewhere_hears_of_it(stage: Stage, tmp_path: Path):
    script = f"""
    {SIGN_UP}
    const base = process.env.BASE;
    const elsewhere = new Client({{ base }});
    await elsewhere.signIn(email, "correct horse");
    const {{ sessions }} = await elsewhere.request("GET", "/auth/sessions");
    const other = sessions.find((session) => !session.is_current);
    await elsewhere.request("DELETE", `/auth/sessions/${{other.id}}`);
    const refused = await outcome(client.request("GET", "/users/me"));
    say({{ refused, here: client.user, there: elsewhere.user.email === email }});"""

    played = play(tmp_path, stage.origin, script)

    assert played.value["refused"]["problem"]["code"] == "signed_out"
    assert (played.value["here"], played.value["there"]) == (None, True)
    assert played.told == ["signedin", "signedout"]
