"""One's chats: listed, read, renamed, deleted."""

import json
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from runtime import clock as runtime_clock
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from tests.agent.completions_server import (
    HANG,
    RESET,
    CompletionsServer,
    answer,
    call,
    stream,
    text,
    tool_answer,
)
from tests.api.test_agent_chats import in_background, wait_until
from tests.conftest import Clock, Person, at_once, events_in, instant
from tests.servers import Service
from tests.streaming import Listener


def listed(person: Person, **query) -> list[dict]:
    return person.get("/agent-chats", query_string=query).json["chats"]


def pages(person: Person, path: str, name: str, limit: int) -> list[list[dict]]:
    """Every page of a list, followed by its cursors to the end."""
    found, query = [], {"limit": limit}
    while True:
        page = person.get(path, query_string=query)
        assert page.status_code == 200
        found.append(page.json[name])
        if page.json["next_cursor"] is None:
            return found
        query["cursor"] = page.json["next_cursor"]


def messages(person: Person, chat: str) -> list[dict]:
    return person.get(f"/agent-chats/{chat}/messages").json["messages"]


def test_chats_are_listed_the_last_active_first(alice: Person):
    first = alice.chat("What is 1+1?").json["session_id"]
    second = alice.chat("What is 2+2?").json["session_id"]
    assert [chat["session_id"] for chat in listed(alice)] == [second, first]

    alice.chat("And 3+3?", first)

    chats = listed(alice)
    assert [chat["session_id"] for chat in chats] == [first, second]
    assert [chat["title"] for chat in chats] == ["What is 1+1?", "What is 2+2?"]
    active, created = instant(chats[0]["active_at"]), instant(chats[0]["created_at"])
    assert created < instant(chats[1]["active_at"]) < active


def test_one_sees_ones_own_chats_alone(alice: Person, bob: Person):
    alice.chat("hello")
    theirs = bob.chat("hello").json["session_id"]

    assert [chat["session_id"] for chat in listed(bob)] == [theirs]


def test_who_has_no_chats_gets_an_empty_list(alice: Person):
    assert alice.get("/agent-chats").json == {"chats": [], "next_cursor": None}


def make_chats(app, person: Person, count: int, **columns) -> list[str]:
    with app.app_context():
        made = [Chat.create(user=person.id, **columns) for _ in range(count)]
    return [str(chat.id) for chat in made]


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
def test_pages_have_every_chat_once(app, alice: Person, limit: int):
    chats = make_chats(app, alice, 5)

    found = pages(alice, "/agent-chats", "chats", limit)

    assert [chat["session_id"] for page in found for chat in page] == chats[::-1]
    assert all(len(page) == limit for page in found[:-1])


def test_chats_of_one_instant_are_on_one_page_each(app, clock: Clock, alice: Person):
    chats = make_chats(app, alice, 5, active_at=clock.now())

    found = pages(alice, "/agent-chats", "chats", limit=2)

    assert [len(page) for page in found] == [2, 2, 1]
    assert {chat["session_id"] for page in found for chat in page} == set(chats)


def test_a_chat_that_is_active_meanwhile_moves_no_other(app, alice: Person):
    chats = make_chats(app, alice, 4)
    first = alice.get("/agent-chats", query_string={"limit": 2}).json
    alice.chat("hello again", chats[0])

    second = listed(alice, limit=2, cursor=first["next_cursor"])

    assert [chat["session_id"] for chat in second] == [chats[1]]


def test_a_chat_of_the_previous_release_stands_where_it_was_made(app, alice: Person):
    yesterday = runtime_clock.now() - timedelta(days=1)
    old, older = make_chats(app, alice, 2)
    with app.app_context():
        Chat.update(created_at=yesterday, active_at=None).where(Chat.id == older).execute()

    chats = listed(alice)

    assert [chat["session_id"] for chat in chats] == [old, older]
    assert chats[1]["active_at"] == chats[1]["created_at"]
    alice.chat("hello", older)
    assert [chat["session_id"] for chat in listed(alice)] == [older, old]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "1_0"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "_" * 46}, "cursor"),
        ({"cursor": "é" * 46}, "cursor"),
        ({"offset": "1"}, "offset"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(alice: Person, query: dict, parameter: str):
    chat = alice.chat("hello").json["session_id"]
    for path in ("/agent-chats", f"/agent-chats/{chat}/messages"):
        refused = alice.get(path, query_string=query)

        assert refused.status_code == 422
        assert [each["parameter"] for each in refused.json["errors"]] == [parameter]


@pytest.mark.parametrize("cursor", ["0" * 46, "f" * 46])
def test_a_cursor_that_nobody_gave_only_points_elsewhere(alice: Person, cursor: str):
    chat = alice.chat("hello").json["session_id"]
    for path in ("/agent-chats", f"/agent-chats/{chat}/messages"):
        assert alice.get(path, query_string={"cursor": cursor}).status_code in (200, 422)


def test_a_chat_is_named_after_the_first_line_of_its_first_message(alice: Person):
    chat = alice.chat("\n  Where\tdo I\u3000begin? \nHere is more.").json["session_id"]
    alice.chat("And then?", chat)

    assert alice.get(f"/agent-chats/{chat}").json["title"] == "Where do I begin?"


def test_a_chat_is_renamed_and_takes_its_own_name_back(alice: Person):
    chat = alice.chat("hello").json["session_id"]
    path = f"/agent-chats/{chat}"

    renamed = alice.patch(path, {"title": "东京的天气"})

    assert renamed.status_code == 200
    assert renamed.json == alice.get(path).json == listed(alice)[0]
    assert renamed.json["title"] == "东京的天气"
    assert alice.patch(path, {"title": None}).json["title"] == "hello"


@pytest.mark.parametrize(
    "body",
    [{}, {"title": ""}, {"title": "x" * 101}, {"title": 1}, {"title": "a\x00b"}, {"name": "x"}],
)
def test_a_title_that_makes_no_sense_is_refused(alice: Person, body: dict):
    chat = alice.chat("hello").json["session_id"]

    assert alice.patch(f"/agent-chats/{chat}", body).status_code == 422
    assert alice.get(f"/agent-chats/{chat}").json["title"] == "hello"


def test_renaming_is_no_activity(alice: Person):
    first = alice.chat("one").json["session_id"]
    alice.chat("two")

    alice.patch(f"/agent-chats/{first}", {"title": "eins"})

    assert [chat["title"] for chat in listed(alice)] == ["two", "eins"]


def test_somebody_elses_chat_is_not_there(alice: Person, charlie: Person):
    chat = alice.chat("a secret").json["session_id"]
    before = alice.get(f"/agent-chats/{chat}").json

    def asked(chat: str) -> list[tuple[int, str]]:
        path = f"/agent-chats/{chat}"
        answers = [
            charlie.get(path),
            charlie.patch(path, {"title": "mine"}),
            charlie.delete(path),
            charlie.get(f"{path}/messages"),
        ]
        return [(each.status_code, each.json["detail"]) for each in answers]

    assert asked(chat) == asked(str(uuid4())) == [(404, "对话不存在")] * 4
    assert alice.get(f"/agent-chats/{chat}").json == before


def test_chats_are_for_who_is_signed_in(stranger: Person):
    path = f"/agent-chats/{uuid4()}"
    assert stranger.get("/agent-chats").status_code == 401
    assert stranger.get(path).status_code == 401
    assert stranger.patch(path, {"title": "x"}).status_code == 401
    assert stranger.delete(path).status_code == 401
    assert stranger.get(f"{path}/messages").status_code == 401


def test_messages_are_read_as_they_were_said(model: CompletionsServer, alice: Person):
    model.script(
        tool_answer("calculate", '{"expression": "2+3"}'), answer("It is ", "5"), answer("Bye")
    )
    asked = alice.chat("2+3?").json
    chat, run = asked["session_id"], asked["events"][0]["run_id"]
    alice.chat("Thanks", chat)

    said = messages(alice, chat)

    assert [(each["role"], each["content"]) for each in said] == [
        ("user", "2+3?"),
        ("assistant", ""),
        ("assistant", "It is 5"),
        ("user", "Thanks"),
        ("assistant", "Bye"),
    ]
    [tool_call] = said[1]["tool_calls"]
    assert tool_call == {
        "tool_call_id": next(e["tool_call_id"] for e in asked["events"] if "tool_call_id" in e),
        "tool_name": "calculate",
        "arguments": '{"expression": "2+3"}',
        "result": "5",
    }
    assert {each["status"] for each in said} == {"finished"}
    assert [each["run_id"] for each in said[:3]] == [run] * 3
    assert said[0]["id"] == run
    starts = [e["message_id"] for e in asked["events"] if e["type"] == "TEXT_MESSAGE_START"]
    assert said[2]["id"] == starts[0]
    assert len({each["id"] for each in said}) == len(said)


def test_messages_come_in_pages_of_whole_turns(alice: Person):
    chat = alice.chat("What is 0+1?").json["session_id"]
    for number in range(1, 5):
        alice.chat(f"What is {number}+1?", chat)
    path = f"/agent-chats/{chat}/messages"

    found = pages(alice, path, "messages", limit=2)

    def questions(page: list[dict]) -> list[str]:
        return [each["content"][8] for each in page if each["role"] == "user"]

    assert [questions(page) for page in found] == [["3", "4"], ["1", "2"], ["0"]]
    assert all(page[0]["role"] == "user" for page in found)
    assert [each for page in reversed(found) for each in page] == messages(alice, chat)
    assert found[0][1]["tool_calls"][0]["result"] == "4"


def test_a_page_of_messages_has_so_many_bytes_and_one_turn_at_least(app, alice: Person):
    chat = alice.chat("the first").json["session_id"]
    sizes = [100_000, 100_000, 100_000, 300_000, 10, 10]
    with app.app_context():
        for number, size in enumerate(sizes):
            run = Run.create(
                chat=chat,
                message=f"{number}",
                created_at=runtime_clock.now() + timedelta(seconds=number + 1),
                finished_at=runtime_clock.now(),
                lease_until=runtime_clock.now(),
            )
            delta = {"type": "TEXT_MESSAGE_CONTENT", "message_id": "m", "delta": "x" * size}
            RunEvent.create(run=run, number=1, data=json.dumps(delta | {"run_id": str(run.id)}))

    read = pages(alice, f"/agent-chats/{chat}/messages", "messages", limit=100)

    questions = [[m["content"] for m in page if m["role"] == "user"] for page in read]
    assert questions == [["4", "5"], ["3"], ["1", "2"], ["the first", "0"]]


def test_the_part_that_was_said_of_an_answer_that_failed_is_shown(
    model: CompletionsServer, alice: Person
):
    half = stream(text("Let me see"), call(0, "c1", "calculate", '{"expres'), RESET)
    model.script(half)
    chat = alice.chat("question").json["session_id"]

    question, said = messages(alice, chat)

    assert (question["status"], said["status"]) == ("failed", "failed")
    assert said["content"] == "Let me see"
    assert said["tool_calls"][0]["arguments"] == '{"expres'
    assert said["tool_calls"][0]["result"] is None


def test_an_answer_is_shown_while_it_is_given(model: CompletionsServer, alice: Person):
    chat = str(uuid4())
    model.script(stream(text("Half an ans"), HANG))
    asking = in_background(alice.chat, "hello", chat)
    wait_until(lambda: len(messages(alice, chat) if listed(alice) else []) == 2)

    question, said = messages(alice, chat)

    assert (question["status"], said["status"]) == ("running", "running")
    assert said["content"] == "Half an ans"
    run = said["run_id"]
    assert alice.post(f"/agent-chats/{chat}/runs/{run}/cancel").json["status"] == "stopped"
    asking.join()
    assert [each["status"] for each in messages(alice, chat)] == ["stopped", "stopped"]
    assert messages(alice, chat)[1]["content"] == "Half an ans"


def make_dead_run(app, chat: str) -> Run:
    """A run whose process was killed."""
    with app.app_context():
        lapsed = runtime_clock.now() - timedelta(seconds=1)
        run = Run.create(chat=chat, message="cut off", lease_until=lapsed)
        delta = {"type": "TEXT_MESSAGE_CONTENT", "message_id": "m", "delta": "Hal"}
        RunEvent.create(run=run, number=1, data=json.dumps(delta | {"run_id": str(run.id)}))
    return run


def test_an_answer_whose_process_died_is_shown_as_failed(app, alice: Person):
    chat = alice.chat("hello").json["session_id"]
    make_dead_run(app, chat)

    said = messages(alice, chat)

    assert [each["status"] for each in said] == ["finished"] * 2 + ["failed"] * 2
    assert said[-1]["content"] == "Hal"


def rows_of(app, chat: str) -> list[int]:
    with app.app_context():
        runs = Run.select(Run.id).where(Run.chat == chat)
        return [
            Chat.select().where(Chat.id == chat).count(),
            runs.count(),
            RunEvent.select().where(RunEvent.run.in_(runs)).count(),
            # Events of runs that are nowhere.
            RunEvent.select().where(RunEvent.run.not_in(Run.select(Run.id))).count(),
        ]


def test_a_deleted_chat_is_in_no_table(app, alice: Person):
    kept = alice.chat("keep me").json["session_id"]
    chat = alice.chat("What is 1+1?").json["session_id"]
    before = messages(alice, kept)

    deleted = alice.delete(f"/agent-chats/{chat}")

    assert (deleted.status_code, deleted.data) == (204, b"")
    assert rows_of(app, chat) == [0, 0, 0, 0]
    assert alice.get(f"/agent-chats/{chat}").status_code == 404
    assert alice.delete(f"/agent-chats/{chat}").status_code == 404
    assert [each["session_id"] for each in listed(alice)] == [kept]
    assert messages(alice, kept) == before


def test_the_id_of_a_deleted_chat_is_new_again(alice: Person, bob: Person):
    chat = alice.chat("forget me").json["session_id"]
    alice.delete(f"/agent-chats/{chat}")

    assert bob.chat("hello", chat).status_code == 200
    assert [each["content"] for each in messages(bob, chat) if each["role"] == "user"] == ["hello"]


def test_deleting_a_chat_stops_its_run_for_everybody_who_reads_it(
    model: CompletionsServer, app, alice: Person, service: Service
):
    chat = str(uuid4())
    model.left.clear()
    model.script(stream(text("Half an ans"), HANG))
    # In process the run is in another one than whoever deletes it; over sockets it may be.
    writer = Listener(alice.tokens["access_token"], "hello", chat)
    readers = [in_background(writer.listen, service.port)]
    wait_until(lambda: writer.text)
    heard = []
    path = writer.where.removeprefix("/api/v1")
    readers += [in_background(lambda: heard.append(alice.get(path))) for _ in range(4)]
    time.sleep(0.5)  # for them to be answered, or the worst of them has a 404

    deleted = alice.delete(f"/agent-chats/{chat}")

    assert deleted.status_code == 204
    assert model.left.is_set()
    assert rows_of(app, chat) == [0, 0, 0, 0]
    for thread in readers:
        thread.join()
    endings = [writer.events[-1][1], *(events_in(each)[-1][1] for each in heard)]
    assert [(ending["type"], ending["error"]) for ending in endings] == [
        ("RUN_ERROR", "已按要求停止")
    ] * 5


def test_a_message_that_races_with_deletion_leaves_no_half(app, settings, alice: Person):
    chat = alice.chat("first").json["session_id"]

    def write() -> list[int]:
        return [alice.chat(f"What is {number}+1?", chat).status_code for number in range(8)]

    def delete() -> list[int]:
        return [alice.delete(f"/agent-chats/{chat}").status_code for _ in range(8)]

    statuses = at_once(write, write, delete, delete)

    assert set(statuses[0] + statuses[1]) <= {200, 409}
    # 409: one run after the other began in it while it was to be deleted.
    assert set(statuses[2] + statuses[3]) <= {204, 404, 409}
    with app.app_context():
        assert Run.select().where(Run.finished_at.is_null()).count() == 0
    assert rows_of(app, chat)[3] == 0
    for each in messages(alice, chat) if rows_of(app, chat)[0] else []:
        assert each["status"] == "finished" or each["role"] == "user"
