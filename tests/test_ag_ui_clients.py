"""AG-UI's own clients, unmodified, against the service under gunicorn: two workers, so that what
was cut off is often taken up again by another process.

Whatever is cut, and however: in the end a client has the messages that the server has.
"""

import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from runtime.services.chats.ids import made_of
from tests import npm
from tests.agent.completions_server import (
    DONE,
    HANG,
    RESET,
    CompletionsServer,
    Pause,
    Reply,
    Request,
    call,
    chunk,
    finish,
    stream,
    text,
    usage,
)
from tests.cutter import Cut, Cutter
from tests.front_ends import settings_of, sign_in
from tests.servers import Client, Service, program, wait_until

VERSIONS = ["1.0.0", "0.0.59", "0.0.47"]
# What is said in each; `pick` is answered by the client.
SCENARIOS = {
    "text": ["text"],
    "tools": ["tools"],
    "error": ["error"],
    "stop": ["stop"],
    "pick": ["pick"],
    "think": ["think"],
    "turns": ["tools", "think", "error", "tools", "text"],
}
TOLD = {
    "text": [("assistant", "Hello 众人 🎉.")],
    "tools": [
        ("assistant", "Let me see."),
        ("tool", "2"),
        ("tool", "4"),
        ("assistant", "Both are done."),
    ],
    "error": [("assistant", None), ("tool", "2"), ("assistant", "Half an ans")],
    "stop": [("assistant", "On and on")],
    "pick": [
        ("assistant", "Which?"),
        ("tool", "2"),
        ("tool", "red"),
        ("assistant", "Both are done."),
    ],
    "think": [
        ("reasoning", "I need two sums."),
        ("assistant", None),
        ("tool", "2"),
        ("tool", "4"),
        ("reasoning", "Now I 知道 🎉."),
        ("assistant", "Both are done."),
        ("reasoning", "So that is that."),
    ],
}
HOWS = ["reset", "torn", "end"]
# A user may have eight runs in a process.
AT_ONCE = 6
PICK = {
    "name": "pick",
    "description": "Let the user pick a colour.",
    "parameters": {"type": "object", "properties": {"from": {"type": "string"}}},
}
ENDED = [finish("tool_calls"), usage(5, 2), DONE]


class Model(CompletionsServer):
    """Answers by what the user asked last: the name of a scenario, and what makes it their own."""

    def __init__(self) -> None:
        super().__init__()
        self.hanging: set[str] = set()

    def next_reply(self, request: Request) -> Reply:
        messages = request.body["messages"]
        asked = max(i for i, message in enumerate(messages) if message["role"] == "user")
        has_results = any(message["role"] == "tool" for message in messages[asked:])
        words = messages[asked]["content"]
        if has_results and words.startswith("think"):
            return self.thought_again()
        if has_results and words.startswith("error"):
            return slow(text("Half "), text("an "), text("ans"), RESET)
        if has_results:
            return slow(text("Both "), text("are "), text("done."), finish(), usage(9, 4), DONE)
        return getattr(self, words.partition(" ")[0])(words)

    def text(self, words: str) -> Reply:
        return slow(*map(text, ["Hel", "lo ", "众", "人 🎉", "."]), finish(), usage(7, 3), DONE)

    def tools(self, words: str) -> Reply:
        first = call(0, "c1", "calculate", '{"expres')
        second = call(1, "c2", "calculate", '{"expression": ')
        rest = [call(0, arguments='sion": "1+1"}'), call(1, arguments='"2+2"}')]
        return slow(text("Let me "), text("see."), first, second, *rest, *ENDED)

    def think(self, words: str) -> Reply:
        """Thoughts before the calls, and between them, where they wait for the step's end."""
        before = map(thought, ["I need ", "two "])
        first = call(0, "c1", "calculate", '{"expression": "1+1"}')
        second = call(1, "c2", "calculate", '{"expression": "2+2"}')
        return slow(*before, thought("sums."), first, thought("Now "), second, *ENDED)

    def thought_again(self) -> Reply:
        thoughts = map(thought, ["I ", "知", "道 🎉."])
        words = map(text, ["Both ", "are ", "done."])
        return slow(*thoughts, *words, thought("So that is that."), finish(), usage(9, 4), DONE)

    def error(self, words: str) -> Reply:
        return slow(call(0, "c1", "calculate", '{"expression": "1+1"}'), *ENDED)

    def stop(self, words: str) -> Reply:
        def parts() -> Iterator:
            yield from slow(text("On "), text("and "), text("on")).parts
            self.hanging.add(words)
            yield HANG

        return Reply(parts())

    def pick(self, words: str) -> Reply:
        ours = call(0, "c1", "calculate", '{"expression": "1+1"}')
        theirs = call(1, "c2", "pick", '{"from": ')
        return slow(text("Which?"), ours, theirs, call(1, arguments='"red"}'), *ENDED)


def thought(piece: str) -> dict:
    return chunk({"reasoning_content": piece})


def slow(*parts) -> Reply:
    """Each part apart from the one before, so that the journal has them apart."""
    return stream(*(each for part in parts for each in (part, Pause(0.01))))


class Node:
    """One version of the client, at work on many jobs at once."""

    def __init__(self, version: str) -> None:
        self.version = version
        modules = npm.installed(f"@ag-ui/client@{version}", npm.CACHE / f"ag-ui-client-{version}")
        script = Path(__file__).with_name("ag_ui_client.mjs")
        command = [program("node"), script, modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._outcomes: dict[int, Future] = {}
        self._numbers = count()
        threading.Thread(target=self._read, daemon=True).start()

    def do(self, **job) -> dict:
        """The outcome of a job."""
        number = next(self._numbers)
        outcome = self._outcomes[number] = Future()
        self._process.stdin.write(json.dumps({"id": number, **job}) + "\n")
        self._process.stdin.flush()
        return outcome.result(60)

    def _read(self) -> None:
        for line in self._process.stdout:
            outcome = json.loads(line)
            self._outcomes.pop(outcome["id"]).set_result(outcome)

    def close(self) -> None:
        with self._process:  # waits for its end, which is that of its input
            self._process.stdin.close()


class Stage:
    """The service, its model, and a router that cuts, in front of it."""

    def __init__(self, service: Service, model: Model, token: str) -> None:
        self.service, self.model = service, model
        self.client = Client(service.port)
        self.token = token
        self.port = service.port
        self._cuts: dict[str, list[Cut]] = defaultdict(list)

    def cut(self, body: bytes) -> Cut | None:
        """The next cut of the run that is asked for."""
        cuts = self._cuts[json.loads(body)["runId"]]
        return cuts.pop(0) if cuts else None

    def play(
        self,
        node: Node,
        scenario: str,
        *cuts: Cut,
        wait: float = 0,
        token: str | None = None,
        again: Sequence[dict] = (),
    ) -> "Played":
        """A client's chat, the connections of each of its runs cut one after the other.

        It waits so many seconds before it asks again. In the end turns are answered `again`.
        """
        thread, run = str(uuid4()), uuid4().hex
        turns = [f"{scene} {run}" for scene in SCENARIOS[scenario]]
        runs = [f"{run}-{n}{which}" for n in range(len(turns)) for which in ("", "-answered")]
        runs_again = [f"{run}-again-{time}" for time in range(len(again))]
        self._cuts |= {each: list(cuts) for each in [*runs, *runs_again]}
        if scenario == "stop":
            threading.Thread(target=self._stop, args=(thread, runs[0], turns[0])).start()
        outcome = node.do(
            url=f"http://127.0.0.1:{self.port}/api/v1/agent-chats/ag-ui",
            headers={"Authorization": f"Bearer {token or self.token}"},
            threadId=thread,
            runId=run,
            turns=turns,
            tools=[PICK],
            answers={"pick": "red"},
            wait=wait * 1000,
            again=again,
        )
        last = runs[-1] if scenario == "pick" else runs[-2]
        return self._played(outcome, thread, run, last)

    def load(self, node: Node, how: str, thread: str) -> "Played":
        """A page that was just loaded, and holds nothing of the chat: what it comes to."""
        run = uuid4().hex
        outcome = node.do(
            url=f"http://127.0.0.1:{self.port}/api/v1/agent-chats/ag-ui",
            headers={"Authorization": f"Bearer {self.token}"},
            threadId=thread,
            runId=run,
            load=how,
            turns=[],
        )
        return self._played(outcome, thread, run, run)

    def _played(self, outcome: dict, thread: str, run: str, last: str) -> "Played":
        assert "failed" not in outcome, outcome
        server = self._messages(thread, last) if outcome["endings"] else []
        return Played(thread=thread, run=run, server=server, **outcome)

    def _stop(self, thread: str, run: str, words: str) -> None:
        wait_until(lambda: words in self.model.hanging, 30, "the model hangs")
        time.sleep(0.2)  # what it said last is on its way
        run_id = made_of(UUID(thread), f"run {run}")
        self.client.post(f"/agent-chats/{thread}/runs/{run_id}/cancel", None, self.token)

    def _messages(self, thread: str, run: str) -> list[dict]:
        """What the server has, as it tells a client that has nothing."""
        body = {"threadId": thread, "runId": run, "messages": []}
        told = self.client.post("/agent-chats/ag-ui", body, self.token).body.decode()
        frames = [frame for frame in told.split("\n\n") if frame.startswith("data: ")]
        snapshot = json.loads(frames[1].removeprefix("data: "))
        assert snapshot["type"] == "MESSAGES_SNAPSHOT"
        return snapshot["messages"]


@dataclass
class Played:
    """What a client had in the end, what the server has, and what happened on the way."""

    id: int
    thread: str
    run: str
    messages: list[dict]
    server: list[dict]
    events: list[str]
    endings: list[dict]
    errors: list[dict]
    warnings: list[str]

    @property
    def story(self) -> str:
        """The messages and how the runs ended, but for the ids, which no two chats share."""
        ids = [(message["id"], f"message-{n}") for n, message in enumerate(self.messages)]
        calls = [call["id"] for message in self.messages for call in message.get("toolCalls", ())]
        ids += [(call, f"call-{n}") for n, call in enumerate(calls)]
        story = json.dumps([self.messages, [each["type"] for each in self.endings]], sort_keys=True)
        for old, new in [*ids, (self.run, "run")]:
            story = story.replace(f'"{old}"', f'"{new}"')
        return story.replace(self.run, "run")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("ag-ui")
    with Model() as model:
        settings = settings_of(folder, model)
        token = sign_in(settings)["access_token"]
        with Service(folder, settings) as service:
            stage = Stage(service, model, token)
            with Cutter(service.port, stage.cut) as cutter:
                stage.port = cutter.port
                yield stage


@pytest.fixture(scope="module", params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    node = Node(request.param)
    yield node
    node.close()


@pytest.fixture(scope="module")
def whole(stage: Stage, node: Node) -> dict[str, Played]:
    """Every scenario without a cut."""
    return {scenario: stage.play(node, scenario) for scenario in SCENARIOS}


def check(played: Played, whole: Played) -> None:
    """It came to the same as without a cut, and the client has what the server has."""
    assert played.messages == played.server
    assert played.story == whole.story
    assert not played.warnings
    assert not any(error.get("status") for error in played.errors)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_client_has_what_the_server_has(whole: dict[str, Played], scenario: str):
    played = whole[scenario]

    check(played, played)
    assert not played.errors
    told = [(m["role"], m.get("content")) for m in played.messages if m["role"] != "user"]
    assert told == [message for scene in SCENARIOS[scenario] for message in TOLD[scene]]


def test_every_version_is_told_how_a_run_ended(node: Node, whole: dict[str, Played]):
    def ending(scenario: str) -> dict:
        return whole[scenario].endings[0]

    failed = {"type": "RUN_ERROR", "message": "模型的回答中断了", "code": "provider_interrupted"}
    assert ending("error") == {**failed, "usage": [{"inputTokens": 5, "outputTokens": 2}]}
    assert ending("text")["usage"] == [{"inputTokens": 7, "outputTokens": 3}]
    if node.version == "1.0.0":
        called = whole["pick"].messages[1]["toolCalls"]
        pending = {"type": "success", "pendingToolCallIds": [called[1]["id"]]}
        assert ending("stop")["outcome"] == {"type": "cancelled"}
        assert ending("pick")["outcome"] == pending
    else:
        assert (ending("stop")["type"], ending("stop")["code"]) == ("RUN_ERROR", "stopped")
        assert "outcome" not in ending("pick")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_client_that_was_cut_off_comes_to_the_same(
    stage: Stage, node: Node, whole: dict[str, Played], scenario: str, how: str
):
    played = stage.play(node, scenario, Cut(3, how))

    check(played, whole[scenario])
    assert "MESSAGES_SNAPSHOT" in played.events


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_client_that_hears_three_events_at_a_time_comes_to_the_same(
    stage: Stage, node: Node, whole: dict[str, Played], scenario: str
):
    check(stage.play(node, scenario, *[Cut(3)] * 90), whole[scenario])


@pytest.mark.parametrize("cuts", [0, 90], ids=["whole", "cut"])
def test_a_client_edits_a_message_and_has_it_answered_anew(stage: Stage, node: Node, cuts: int):
    again = [{"turn": 3}, {"turn": 1, "content": "text anew"}, {"turn": 0}]

    all_three = stage.play(node, "turns", *[Cut(3)] * cuts, again=again)
    two = stage.play(node, "turns", *[Cut(3)] * cuts, again=again[:2])

    for played in (all_three, two):
        assert played.messages == played.server
        assert not played.warnings
    asked = [each["id"] for each in two.messages if each["role"] == "user"]
    assert asked == [f"{two.run}-asked-0", f"{two.run}-edited-1"]
    assert two.messages[-1]["content"] == TOLD["text"][0][1]
    asked = [each["id"] for each in all_three.messages if each["role"] == "user"]
    assert asked == [f"{all_three.run}-asked-0"]


LOADS = ["runAgent", "connectAgent"]


@pytest.mark.parametrize("how", LOADS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_page_that_is_loaded_after_the_end_has_the_chat(
    stage: Stage, node: Node, whole: dict[str, Played], scenario: str, how: str
):
    asked = len(stage.model.requests)

    loaded = stage.load(node, how, whole[scenario].thread)

    assert loaded.messages == whole[scenario].messages
    assert loaded.events == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert not loaded.errors
    assert not loaded.warnings
    assert len(stage.model.requests) == asked


@pytest.mark.parametrize("how", LOADS)
def test_a_page_that_is_loaded_in_the_middle_hears_the_rest(stage: Stage, node: Node, how: str):
    thread, words = str(uuid4()), f"stop {uuid4().hex}"
    body = {"threadId": thread, "runId": "r", "protocolVersion": "1.0"}
    body["messages"] = [{"id": "u", "role": "user", "content": words}]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(stage.client.post, "/agent-chats/ag-ui", body, stage.token)
        wait_until(lambda: words in stage.model.hanging, 30, "the model hangs")
        time.sleep(0.2)  # what it said last is on its way
        loading = threads.submit(stage.load, node, how, thread)
        time.sleep(0.5)
        run_id = made_of(UUID(thread), "run r")
        stage.client.post(f"/agent-chats/{thread}/runs/{run_id}/cancel", None, stage.token)
        loaded = loading.result(30)

    told = [(message["role"], message["content"]) for message in loaded.messages]
    assert told == [("user", words), *TOLD["stop"]]
    assert loaded.messages == loaded.server
    assert loaded.events[:3] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TEXT_MESSAGE_START"]
    assert b'"RUN_FINISHED"' in first.result().body
    assert loaded.endings[0]["type"] in ("RUN_FINISHED", "RUN_ERROR")
    assert not loaded.warnings


@pytest.mark.parametrize("how", LOADS)
def test_a_page_may_be_loaded_before_the_chat_begins(stage: Stage, node: Node, how: str):
    loaded = stage.load(node, how, f"new {uuid4()}")

    assert loaded.messages == loaded.errors == loaded.warnings == []
    assert loaded.events == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]


def test_a_client_is_told_what_is_wrong(stage: Stage, node: Node):
    played = stage.play(node, "text", token="nobody's")

    assert [error["status"] for error in played.errors] == [401]


# Ten seconds each, times three versions.
@pytest.mark.slow
@pytest.mark.parametrize("wait", [0, 0.4], ids=["at once", "later"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_client_may_be_cut_off_after_any_event(
    stage: Stage, node: Node, whole: dict[str, Played], scenario: str, wait: float
):
    def play(cut: Cut) -> Played:
        return stage.play(node, scenario, cut, wait=wait)

    runs_of_it = len(whole[scenario].endings)
    events = 25 if runs_of_it > 1 else len(whole[scenario].events)
    cuts = [Cut(after, how) for after in range(events + 1) for how in HOWS]
    assert cuts
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for cut, played in zip(cuts, threads.map(play, cuts), strict=True):
            check(played, whole[scenario])
            assert cut.after > 3 or "MESSAGES_SNAPSHOT" in played.events or not cut.after
