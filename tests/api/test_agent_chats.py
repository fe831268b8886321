"""POST /agent-chats"""

import json
import threading
import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from runtime import clock
from runtime.database.base import db
from runtime.models.chats import Chat, Run
from runtime.models.run_events import RunEvent
from runtime.services.chats import agent, history, keeper
from tests.agent.completions_server import (
    DONE,
    HANG,
    RESET,
    CompletionsServer,
    Pause,
    answer,
    call,
    finish,
    plain,
    stream,
    text,
    tool_answer,
    usage,
)
from tests.agent.order import check_order, from_wire
from tests.conftest import Person


def types(answer) -> list[str]:
    return [event["type"] for event in answer.json["events"]]


def wait_until(condition) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def said(request) -> list[tuple[str, str]]:
    """What a model was sent, without the instructions."""
    return [(m["role"], m.get("content")) for m in request.body["messages"][1:]]


def test_the_embedded_model_shows_every_kind_of_event(alice: Person):
    reply = alice.chat("What time is it, what is 12*(3+4), and who am I?")

    assert reply.status_code == 200
    assert set(types(reply)) == {
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "RUN_FINISHED",
    }
    assert "84" in reply.json["output"]
    assert "alice" in reply.json["output"]


def test_events_are_in_order_and_the_output_is_the_last_message(alice: Person):
    reply = alice.chat("What time is it?")

    check_order(from_wire(reply.json["events"]))
    last = [e for e in reply.json["events"] if e["type"] == "TEXT_MESSAGE_START"][-1]["message_id"]
    deltas = [
        e["delta"] for e in reply.json["events"] if e.get("message_id") == last if "delta" in e
    ]
    assert "".join(deltas) == reply.json["output"] == reply.json["events"][-1]["output"]


def test_events_have_no_field_without_a_value(alice: Person):
    events = alice.chat("Who am I?").json["events"]
    assert len(events) > 3
    for event in events:
        assert None not in event.values()
        assert event["run_id"]


def test_a_chat_remembers_what_was_said(model: CompletionsServer, alice: Person):
    model.script(answer("Hello Ada"), answer("Ada"))
    chat = alice.chat("I am Ada").json["session_id"]

    assert alice.chat("Who am I?", chat).json["output"] == "Ada"

    assert said(model.requests[1]) == [
        ("user", "I am Ada"),
        ("assistant", "Hello Ada"),
        ("user", "Who am I?"),
    ]


def test_a_tool_result_follows_its_call_in_the_history(model: CompletionsServer, alice: Person):
    model.script(tool_answer("calculate", '{"expression": "2+3"}'), answer("5"), answer("again"))
    chat = alice.chat("2+3?").json["session_id"]
    alice.chat("and?", chat)

    messages = model.requests[2].body["messages"]
    roles = [message["role"] for message in messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert messages[2]["tool_calls"][0]["id"] == messages[3]["tool_call_id"]
    assert messages[3]["content"] == "5"


def test_a_new_uuid_becomes_the_chats_id(alice: Person):
    chat = str(uuid4())

    assert alice.chat("hello", chat).json["session_id"] == chat
    assert alice.chat("hello again", chat.upper()).json["session_id"] == chat


def test_somebody_elses_chat_is_not_found(alice: Person, charlie: Person):
    chat = alice.chat("a secret").json["session_id"]

    reply = charlie.chat("show me", chat)

    assert reply.status_code == 404
    assert reply.json["detail"] == "对话不存在"


def test_chats_are_for_who_is_signed_in(stranger: Person):
    assert stranger.chat("hello").status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": ""},
        {"message": "x" * 8001},
        {"message": None},
        {"message": "a\x00b"},
        {"message": "x", "session_id": "1"},
        {"message": "x", "session_id": "{" + str(uuid4()) + "}"},
        {"message": "x", "session_id": 1},
        {"message": "x", "model": "other"},
    ],
)
def test_a_message_that_makes_no_sense_is_refused(alice: Person, body: dict):
    assert alice.post("/agent-chats", body).status_code == 422
    assert Chat.select().count() == 0


def test_a_message_may_have_8000_characters(alice: Person):
    assert alice.chat("字" * 8000).status_code == 200


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (plain({"error": {"message": "no"}}, status=401), "模型服务配置有误，请联系管理员"),
        (plain({"error": {"message": "no"}}, status=400), "模型拒绝了该请求"),
        (stream(text("Hal"), RESET), "模型的回答中断了"),
        (stream(text("Hal"), {"error": {"message": "overloaded"}}), "模型的回答中断了"),
        (stream("rubbish\n\n", "data: {]\n\n"), "模型返回了无法识别的内容"),
    ],
)
def test_a_model_that_fails_is_an_answer_that_says_so(
    model: CompletionsServer, alice: Person, reply, sentence: str
):
    model.script(reply)

    failed = alice.chat("hello")

    assert failed.status_code == 200
    check_order(from_wire(failed.json["events"]))
    assert types(failed)[-1] == "RUN_ERROR"
    assert failed.json["events"][-1]["error"] == sentence
    assert failed.json["output"] == "".join(e.get("delta", "") for e in failed.json["events"])


def test_what_was_said_is_kept_when_the_model_fails(model: CompletionsServer, alice: Person):
    model.script(stream(text("Half an ans"), RESET), answer("Whole"))
    chat = alice.chat("question").json["session_id"]

    alice.chat("go on", chat)

    assert said(model.requests[-1]) == [
        ("user", "question"),
        ("assistant", "Half an ans"),
        ("user", "go on"),
    ]


def test_a_run_that_failed_between_call_and_result_leaves_no_open_call(
    model: CompletionsServer, alice: Person
):
    half = stream(text("Let me see"), call(0, "c1", "calculate", '{"expres'), RESET)
    model.script(half, answer("Whole"))
    chat = alice.chat("question").json["session_id"]

    assert types(alice.chat("go on", chat))[-1] == "RUN_FINISHED"

    sent = model.requests[-1].body["messages"]
    called = [c["id"] for m in sent for c in m.get("tool_calls", ())]
    answered = [m["tool_call_id"] for m in sent if m["role"] == "tool"]
    assert called == answered


def test_an_error_is_told_in_the_language_of_whoever_asks(model: CompletionsServer, alice: Person):
    model.script(plain({"error": "no"}, status=400))
    alice.language = "en"

    assert alice.chat("hello").json["events"][-1]["error"] == "The model refused the request."


def test_a_silent_model_ends_in_time(model: CompletionsServer, settings, request):
    settings |= {"AGENT_SILENCE_SECONDS": "1"}
    model.script(stream(text("Hel"), HANG))

    reply = request.getfixturevalue("alice").chat("hello")

    assert types(reply)[-1] == "RUN_ERROR"
    assert reply.json["output"] == "Hel"


def test_the_history_that_is_sent_is_bounded(model: CompletionsServer, settings, request):
    settings |= {"AGENT_HISTORY_CHARS": "1000"}
    alice = request.getfixturevalue("alice")
    chat = alice.chat("first " + "x" * 600).json["session_id"]
    alice.chat("second " + "x" * 600, chat)
    alice.chat("third", chat)

    assert [content[:6] for _, content in said(model.requests[-1])] == ["second", "Hello", "third"]


def test_instructions_and_the_newest_message_are_sent_whatever_their_size(
    model: CompletionsServer, settings, request
):
    settings |= {"AGENT_HISTORY_CHARS": "1000", "AGENT_INSTRUCTIONS": "Be brief. " * 90}
    alice = request.getfixturevalue("alice")
    chat = alice.chat("before").json["session_id"]
    alice.chat("x" * 8000, chat)

    messages = model.requests[-1].body["messages"]
    assert [len(message["content"]) for message in messages] == [899, 8000]
    alice.chat("short", chat)
    contents = [message["content"] for message in model.requests[-1].body["messages"][1:]]
    assert contents == ["short"]


def test_of_a_chat_of_many_runs_the_newest_are_sent(app, alice: Person):
    chat = alice.chat("What is 0+0?").json["session_id"]
    make_runs(app, chat, 200)

    def read(max_chars: int) -> list[str]:
        with app.app_context():
            said = history.messages_of(UUID(chat), max_chars, {})
        return [message.content for message in said if message.role == "user"]

    assert read(10_000_000) == [f"question {number}" for number in range(100, 200)]
    for max_chars in (1000, 3000, 5000):
        assert read(max_chars) == read(10_000_000)[-(max_chars // 40) :]


def make_runs(app, chat: str, count: int) -> None:
    """Runs that have ended, each of 40 characters, one after the other."""
    now = clock.now()
    with app.app_context(), db.atomic():
        for number in range(count):
            at = now + timedelta(seconds=number)
            message = f"question {number}"
            run = Run.create(
                chat=chat, message=message, created_at=at, lease_until=at, finished_at=at
            )
            delta = {"type": "TEXT_MESSAGE_CONTENT", "message_id": "m", "delta": "x"}
            delta["delta"] *= 40 - len(message)
            events = [{"type": "RUN_STARTED"}, delta, {"type": "RUN_FINISHED", "output": "y" * 99}]
            for number, event in enumerate(events, 1):
                RunEvent.create(run=run, number=number, data=json.dumps(event))


def test_a_second_run_in_a_chat_meanwhile_is_refused(model: CompletionsServer, alice: Person):
    chat = str(uuid4())
    model.script(stream(text("slow"), HANG))
    first = threading.Thread(target=alice.chat, args=("one", chat), daemon=True)
    first.start()
    wait_until(lambda: model.requests)

    reply = alice.chat("two", chat)

    assert reply.status_code == 409
    assert reply.json["detail"] == "上一条消息仍在处理中，请稍候"
    model.stopping.set()
    first.join()


def test_of_many_messages_at_once_one_runs(model: CompletionsServer, alice: Person):
    chat = str(uuid4())
    model.script(stream(text("slow"), HANG))
    start = threading.Barrier(9)
    statuses = []

    def ask():
        start.wait()
        statuses.append(alice.chat("hello", chat).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    wait_until(lambda: len(statuses) == 7)
    model.stopping.set()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


def test_a_dead_process_locks_a_chat_no_longer_than_its_lease(app, alice: Person):
    chat = alice.chat("hello").json["session_id"]
    with app.app_context():
        dead = Run.create(
            chat=chat, message="cut off", lease_until=clock.now() + timedelta(seconds=1)
        )
        started = {"type": "RUN_STARTED", "run_id": str(dead.id)}
        RunEvent.create(run=dead, number=1, data=json.dumps(started))
    assert alice.chat("too early", chat).status_code == 409
    with app.app_context():
        Run.update(lease_until=clock.now()).where(Run.id == dead.id).execute()

    assert alice.chat("now", chat).status_code == 200

    ending = RunEvent.select().where(RunEvent.run == dead).order_by(RunEvent.number.desc()).get()
    assert json.loads(ending.data)["type"] == "RUN_ERROR"
    assert json.loads(ending.data)["error"] == "interrupted"


def test_a_tool_of_ones_own_is_offered(settings, tmp_path, monkeypatch, model, request):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "my_tools.py").write_text(
        "from runtime.agent import tool\n"
        "@tool\ndef weather(city: str) -> str:\n"
        "    '''The weather in a city.'''\n"
        "    return f'rain in {city}'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings |= {"AGENT_TOOLS": "my_tools"}
    model.script(tool_answer("weather", '{"city": "Oslo"}'), answer("Rain."))

    reply = request.getfixturevalue("alice").chat("weather in Oslo?")

    results = [e["result"] for e in reply.json["events"] if e["type"] == "TOOL_CALL_RESULT"]
    assert results == ["rain in Oslo"]


def test_usage_is_kept_with_the_run(model: CompletionsServer, alice: Person):
    model.script(stream(text("Hi"), finish(), usage(11, 5), DONE))

    alice.chat("hello")

    run = Run.get()
    assert (run.input_tokens, run.output_tokens) == (11, 5)


def test_the_journal_says_what_the_answer_said(alice: Person):
    reply = alice.chat("What is 1+1, and who am I?")

    rows = RunEvent.select().order_by(RunEvent.number)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    kept = [json.loads(row.data) for row in rows]
    assert kept[-1].pop("usage").keys() == {"input_tokens", "output_tokens"}
    assert kept == reply.json["events"]


def in_background(function, *arguments) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


@pytest.mark.in_process("looks into the pool of connections")
def test_no_connection_to_the_database_is_held_while_the_model_thinks(
    model: CompletionsServer, app, alice: Person
):
    model.script(stream(HANG))
    asking = in_background(alice.chat, "hello")
    wait_until(lambda: model.requests)

    wait_until(lambda: not app.extensions["db"]._in_use)

    model.stopping.set()
    asking.join()


def test_the_lease_of_a_run_is_renewed_while_it_goes_on(
    model: CompletionsServer, alice: Person, monkeypatch
):
    # In this process; workers take the three seconds that it is.
    monkeypatch.setattr(keeper, "RENEWAL_SECONDS", 0.05)
    model.script(stream(HANG))
    asking = in_background(alice.chat, "hello")
    wait_until(lambda: model.requests)
    before = Run.get().lease_until

    wait_until(lambda: Run.get().lease_until > before)

    model.stopping.set()
    asking.join()


def test_a_run_that_was_found_dead_ends_as_its_journal_does(
    model: CompletionsServer, app, alice: Person
):
    chat = str(uuid4())
    model.script(stream(text("Hel"), Pause(3), text("lo"), finish(), DONE), answer("Next"))
    replies = []
    asking = in_background(lambda: replies.append(alice.chat("hello", chat)))
    wait_until(lambda: model.requests)
    with app.app_context():
        Run.update(lease_until=clock.now() - timedelta(seconds=1)).execute()
    assert alice.chat("and now?", chat).status_code == 200

    asking.join()

    assert replies[0].status_code == 200
    assert types(replies[0])[-1] == "RUN_ERROR"
    endings = [row for row in RunEvent.select() if "RUN_FINISHED" in row.data]
    assert len(endings) == 1


def test_a_user_has_only_so_many_runs_at_once(settings, model: CompletionsServer, request):
    settings |= {"WEB_CONCURRENCY": "1"}
    alice, bob = request.getfixturevalue("alice"), request.getfixturevalue("bob")
    model.script(stream(HANG))
    asking = [in_background(alice.chat, "hello") for _ in range(agent.RUNS_AT_ONCE_PER_USER)]
    wait_until(lambda: len(model.requests) == len(asking))

    refused = alice.chat("one more")

    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    model.script(answer("Hi"))
    assert bob.chat("hello").status_code == 200
    model.stopping.set()
    for thread in asking:
        thread.join()
    assert alice.chat("again").status_code == 200


def test_runs_leave_threads_for_everybody_else(settings, model: CompletionsServer, request):
    settings |= {"WEB_THREADS": "4", "WEB_CONCURRENCY": "1"}
    alice, bob = request.getfixturevalue("alice"), request.getfixturevalue("bob")
    model.script(stream(HANG))
    asking = [in_background(alice.chat, "hello") for _ in range(3)]
    wait_until(lambda: len(model.requests) == 3)

    assert bob.chat("hello").status_code == 429

    model.stopping.set()
    for thread in asking:
        thread.join()


def test_messages_are_limited_by_the_minute(alice: Person):
    statuses = {alice.chat("hello").status_code for _ in range(60)}

    assert statuses == {200}
    assert alice.chat("hello").status_code == 429


@pytest.mark.parametrize(
    ("bound", "reply", "sentence"),
    [
        ("AGENT_MAX_SECONDS", stream(text("Hel"), HANG), "用时过长，已停止"),
        ("AGENT_MAX_STEPS", tool_answer("calculate", '{"expression": "1"}'), "步骤过多，已停止"),
    ],
)
def test_the_bounds_of_a_run_are_settings(settings, model, request, bound, reply, sentence):
    settings |= {bound: "1"}
    model.script(reply)

    failed = request.getfixturevalue("alice").chat("hello")

    assert failed.json["events"][-1]["error"] == sentence


def test_the_length_of_an_answer_is_a_setting(settings, model: CompletionsServer, request):
    settings |= {"AGENT_MAX_OUTPUT_CHARS": "100"}
    model.script(answer("x" * 101))

    failed = request.getfixturevalue("alice").chat("hello")

    assert failed.json["events"][-1]["error"] == "回答过长，已停止"
