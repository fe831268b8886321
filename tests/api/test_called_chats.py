"""Chats and runs by the names that a front end has given them, in paths; stopping a chat."""

from urllib.parse import quote
from uuid import uuid4

import pytest

from runtime.models.chats import Run
from tests.agent.completions_server import HANG, CompletionsServer, answer, stream, text
from tests.api.test_ag_ui import Hearing, heard, post, user, written
from tests.api.test_runs import running
from tests.conftest import Person

NAMES = ["my thread", "a/b", "主题 1", "100%", "x?y#z", "..", "x" * 255]


def path_of(thread: str) -> str:
    return f"/agent-chats/{quote(thread, safe='')}"


def hanging(model: CompletionsServer, person: Person, thread: str, run: str = "r1") -> Hearing:
    """A front end that hears a run which goes on for ever."""
    model.script(stream(text("Hel"), HANG), answer("Next"))
    hearing = Hearing(person, user("hello"), thread=thread, run=run)
    written("Hel")
    return hearing


@pytest.mark.parametrize("name", NAMES)
def test_paths_take_what_a_front_end_calls_a_chat_and_its_run(alice: Person, name: str):
    names = heard(post(alice, user("hello"), thread=name, run=name))[0]["metadata"]
    chat, run = path_of(name), f"{path_of(name)}/runs/{quote(name, safe='')}"

    state = alice.get(run)

    assert (state.status_code, state.json["id"]) == (200, names["run_id"])
    assert alice.get(chat).json["session_id"] == names["session_id"]
    assert alice.post(f"{run}/cancel").json == state.json
    assert "RUN_FINISHED" in alice.get(f"{run}/events").text
    assert len(alice.get(f"{chat}/messages").json["messages"]) == 2
    assert alice.patch(chat, {"title": "Mine"}).json["title"] == "Mine"
    assert alice.post(f"{chat}/cancel").status_code == 204
    assert alice.delete(chat).status_code == 204
    assert alice.get(chat).status_code == alice.get(run).status_code == 404


def test_a_run_that_a_front_end_calls_by_a_uuid_has_two_ids(alice: Person):
    chat, run = str(uuid4()), str(uuid4())
    names = heard(post(alice, user("hello"), thread=chat, run=run))[0]["metadata"]

    states = [alice.get(f"/agent-chats/{chat}/runs/{its}") for its in (run, names["run_id"])]

    assert names["run_id"] != run
    assert [state.json["id"] for state in states] == [names["run_id"]] * 2


def test_a_name_is_everybodys_own(alice: Person, charlie: Person):
    heard(post(alice, user("a secret"), thread="main"))

    for path in ("", "/messages", "/runs/r1", "/runs/r1/events"):
        assert charlie.get(f"/agent-chats/main{path}").status_code == 404
    for path in ("/cancel", "/runs/r1/cancel"):
        assert charlie.post(f"/agent-chats/main{path}").status_code == 404
    assert charlie.delete("/agent-chats/main").status_code == 404
    assert alice.get("/agent-chats/main").status_code == 200


def test_a_front_end_stops_a_run_by_its_own_names(model: CompletionsServer, alice: Person):
    hearing = hanging(model, alice, "my thread", "my run")

    stopped = alice.post("/agent-chats/my%20thread/runs/my%20run/cancel")

    assert (stopped.status_code, stopped.json["status"]) == (200, "stopped")
    assert hearing.events[-1]["outcome"] == {"type": "cancelled"}


# Stopping a chat


def test_what_goes_on_in_a_chat_is_stopped(model: CompletionsServer, alice: Person):
    chat, path, thread, replies = running(model, alice)
    model.left.clear()

    stopped = alice.post(f"/agent-chats/{chat}/cancel")

    assert model.left.wait(0.2), "the connection to the model is closed by then"
    assert (stopped.status_code, stopped.data) == (204, b"")
    assert alice.get(path).json["status"] == "stopped"
    thread.join()
    assert replies[0].json["output"] == "Hel"
    assert alice.chat("go on", chat).json["output"] == "Next"


def test_a_front_end_stops_a_chat_and_may_go_on_at_once(model: CompletionsServer, alice: Person):
    hearing = hanging(model, alice, "t")

    assert alice.post("/agent-chats/t/cancel").status_code == 204
    again = heard(post(alice, user("hello"), user("And now?", "u2"), run="r2"))

    assert again[-1]["result"] == "Next"
    assert hearing.events[-1]["outcome"] == {"type": "cancelled"}


def test_a_chat_in_which_nothing_goes_on_is_stopped_already(alice: Person):
    chat = alice.chat("hello").json["session_id"]

    answers = [alice.post(f"/agent-chats/{chat}/cancel") for _ in range(2)]

    assert [each.status_code for each in answers] == [204, 204]
    assert Run.get().status == "finished"


def test_only_ones_own_chats_are_stopped(
    model: CompletionsServer, alice: Person, charlie: Person, stranger: Person
):
    chat, path, thread, _ = running(model, alice)

    refused = charlie.post(f"/agent-chats/{chat}/cancel")
    nowhere = charlie.post(f"/agent-chats/{uuid4()}/cancel")

    assert (refused.status_code, refused.json["detail"]) == (404, "对话不存在")
    assert (nowhere.status_code, nowhere.json["detail"]) == (404, "对话不存在")
    assert stranger.post(f"/agent-chats/{chat}/cancel").status_code == 401
    assert alice.get(path).json["status"] == "running"
    model.stopping.set()
    thread.join()
