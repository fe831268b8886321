"""`useChat` of Vercel's AI SDK, unmodified, against the service under gunicorn: two workers, so
that what one begins is often read on from another.
"""

import json
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.cutter import Cut, Cutter
from tests.front_ends import WHOLE, Model, Stage, settings_of, sign_in
from tests.servers import Service, program

# Those of the AI SDK 6 and 7.
VERSIONS = ["3.0.328", "4.0.177"]


class Node:
    """Pages with one version of the client, in one process."""

    def __init__(self, version: str) -> None:
        folder = npm.CACHE / f"ai-sdk-react-{version}"
        modules = npm.installed(f"@ai-sdk/react@{version}", folder)
        script = Path(__file__).with_name("ai_sdk_client.mjs")
        self._process = subprocess.Popen(
            [program("node"), script, modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, **what: object) -> dict:
        """Let a page do something; what it has then."""
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        with self._process:  # waits for its end, which is that of its input
            self._process.stdin.close()


class Page:
    """A page that shows a chat; it has read the messages that there are."""

    numbers = count()

    def __init__(self, node: Node, chat: str, pair: dict, port: int) -> None:
        self._node = node
        self._key = next(self.numbers)
        base = f"http://127.0.0.1:{port}/api/v1"
        self.state = self.do("open", id=chat, pair=pair, base=base)

    def do(self, what: str, **how: object) -> dict:
        self.state = self._node.do(key=self._key, what=what, **how)
        return self.state

    def ask(self, words: str) -> dict:
        """Send a message, and wait for its answer."""
        self.do("send", text=words)
        return self.do("wait")

    @property
    def messages(self) -> list[dict]:
        return self.state["messages"]

    @property
    def texts(self) -> list[str]:
        """What is to be read in each message."""
        return [
            "".join(part["text"] for part in message["parts"] if part["type"] == "text")
            for message in self.messages
        ]


class CutStage(Stage):
    """A stage with a router that cuts, in front of the service."""

    def __init__(self, service: Service, model: Model, pair: dict) -> None:
        super().__init__(service, model, pair)
        self.cuts: dict[str, Cut] = {}
        self.cutter = Cutter(service.port, self.cut)

    def cut(self, body: bytes) -> Cut | None:
        return self.cuts.pop(json.loads(body)["id"], None) if body else None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutStage]:
    folder = tmp_path_factory.mktemp("ai-sdk")
    with Model() as model:
        settings = settings_of(folder, model)
        pair = sign_in(settings)
        with Service(folder, settings) as service:
            stage = CutStage(service, model, pair)
            with stage.cutter:
                yield stage


@pytest.fixture(scope="module", params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    node = Node(request.param)
    yield node
    node.close()


def opened(stage: Stage, node: Node, chat: str, **more: Any) -> Page:
    return Page(node, chat, **{"pair": stage.pair, "port": stage.service.port} | more)


def same(messages: list[dict]) -> list[dict]:
    """The messages without what one version of the client adds to a part of its own."""
    kept = json.loads(json.dumps(messages))
    for message in kept:
        for part in message["parts"]:
            if part["type"] == "reasoning":
                part.pop("id", None)
    return kept


def test_a_page_has_after_a_reload_what_it_had_before(stage: Stage, node: Node):
    chat = stage.new_chat()
    page = opened(stage, node, chat)
    assert page.messages == []
    for words in ("hello", "add"):
        assert page.ask(words)["status"] == "ready"
    again = opened(stage, node, chat)

    assert page.texts == ["hello", "Hello.", "add", "See: It is 2."]
    assert [(part["type"], part.get("state")) for part in page.messages[3]["parts"]] == [
        ("step-start", None),
        ("reasoning", "done"),
        ("text", "done"),
        ("tool-calculate", "output-available"),
        ("step-start", None),
        ("reasoning", "done"),
        ("text", "done"),
    ]
    called = page.messages[3]["parts"][3]
    assert (called["input"], called["output"]) == ({"expression": "1+1"}, "2")
    assert page.messages[3]["metadata"]["status"] == "finished"
    assert same(page.messages) == same(again.messages)


def test_a_page_that_is_reloaded_in_the_middle_hears_the_rest(stage: Stage, node: Node):
    chat = stage.new_chat()
    page = opened(stage, node, chat)
    page.do("send", text="count")
    page.do("hear", text="One and ")
    again = opened(stage, node, chat)
    assert again.texts == ["count", "One and "]
    again.do("resume")
    again.do("hear", text="One and ")
    stage.model.go_on.set()

    assert again.do("wait")["status"] == page.do("wait")["status"] == "ready"
    assert again.texts == page.texts == ["count", WHOLE]
    assert same(again.messages) == same(page.messages)


def test_a_page_that_reads_the_messages_and_then_asks_for_the_rest_misses_no_end(
    stage: Stage, node: Node
):
    chat = stage.new_chat()
    page = opened(stage, node, chat)
    page.do("send", text="count")
    page.do("hear", text="One and ")
    again = opened(stage, node, chat)
    stage.model.go_on.set()
    page.do("wait")
    again.do("resume")
    again.do("wait")

    assert again.texts == ["count", WHOLE]


def test_where_nothing_goes_on_there_is_nothing_to_resume(stage: Stage, node: Node):
    page = opened(stage, node, stage.new_chat())
    page.do("resume")

    assert page.do("wait")["status"] == "ready"
    assert (page.messages, page.state["finished"]) == ([], [])


@pytest.mark.parametrize("stop", ["stop", "cancel"])
def test_the_next_message_may_follow_a_stop_at_once(stage: Stage, node: Node, stop: str):
    chat = stage.new_chat()
    page = opened(stage, node, chat)
    page.do("send", text="count")
    page.do("hear", text="One and ")
    page.do(stop)
    page.ask("hello")
    again = opened(stage, node, chat)

    assert page.state["status"] == "ready"
    assert page.texts == ["count", "One and ", "hello", "Hello."]
    assert again.texts == page.texts
    assert again.messages[1]["metadata"]["status"] == "stopped"


def test_an_answer_and_a_message_are_replaced(stage: Stage, node: Node):
    chat = stage.new_chat()
    page = opened(stage, node, chat)
    page.ask("hello")
    page.ask("fail")
    page.do("regenerate")
    page.do("wait")
    assert page.texts == ["hello", "Hello.", "fail", "Half an ans"]
    first = page.messages[0]["id"]
    page.do("send", text="add", messageId=first)
    page.do("wait")
    again = opened(stage, node, chat)

    assert page.texts == ["add", "See: It is 2."]
    assert page.messages[0]["id"] == first
    assert same(again.messages) == same(page.messages)


@pytest.mark.parametrize("how", ["reset", "torn", "end"])
def test_a_page_that_was_cut_off_comes_to_the_same(stage: Stage, node: Node, how: str):
    chat = stage.new_chat()
    page = opened(stage, node, chat, port=stage.cutter.port)
    stage.cuts[chat] = Cut(3, how)
    page.ask("add")
    # Node takes each of the three for the end of the answer.
    assert page.messages[-1]["metadata"]["status"] == "running"
    page.do("resume")
    page.do("wait")

    assert page.texts == ["add", "See: It is 2."]
    assert page.state["status"] == "ready"
    assert same(opened(stage, node, chat).messages) == same(page.messages)


def test_an_access_token_that_is_over_is_renewed(stage: Stage, node: Node):
    pair = {**stage.pair, "access_token": "over"}
    page = opened(stage, node, stage.new_chat(), pair=pair)
    page.ask("hello")
    stage.pair = page.state["pair"]  # the old refresh token is over with it

    assert page.texts == ["hello", "Hello."]
    assert stage.pair["access_token"] != "over"


def test_what_went_wrong_is_told_in_the_persons_language(stage: Stage, node: Node):
    chat = stage.new_chat()
    page = opened(stage, node, chat)
    page.ask("fail")
    again = opened(stage, node, chat)

    assert (page.state["status"], page.state["error"]) == ("error", "模型的回答中断了")
    assert page.texts == ["fail", "Half an ans"]
    assert page.messages[1]["metadata"]["error"] == "模型的回答中断了"
    assert same(again.messages) == same(page.messages)


def test_a_refusal_is_a_problem_document(stage: Stage, node: Node):
    page = opened(stage, node, stage.new_chat(), pair={"access_token": "nobody's"})
    page.ask("hello")

    assert page.state["status"] == "error"
    assert json.loads(page.state["error"])["code"] == "invalid_access_token"
