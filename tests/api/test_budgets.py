"""What runs use, and what they may use in a day."""

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from runtime.models.chats import Chat, Run
from runtime.models.spendings import Spending
from tests.agent.completions_server import (
    CLOSE,
    DONE,
    HANG,
    RESET,
    CompletionsServer,
    Pause,
    Reply,
    Request,
    answer,
    chunk,
    finish,
    plain,
    stream,
    text,
    tool_answer,
    usage,
)
from tests.api.test_agent_chats import in_background, types, wait_until
from tests.conftest import Clock, Person, at_once, instant

LIMIT = 50_000
OUT_OF_TOKENS = "今天的用量已用完，请明天再试"
TOO_LONG = "回答过长，已停止"


@pytest.fixture
def budget(settings: dict[str, str], model: CompletionsServer) -> None:
    """LIMIT tokens a day for each user, of which a step may write 1,000."""
    settings |= {"AGENT_DAILY_TOKENS": str(LIMIT), "AGENT_MAX_OUTPUT_TOKENS": "1000"}


@pytest.fixture
def evening(clock: Clock) -> Clock:
    """The clock, standing still a second before midnight."""
    clock.hold(clock.now().replace(hour=23, minute=59, second=59, microsecond=0))
    return clock


def left(person: Person) -> int:
    return person.get("/agent-chats/budget").json["left"]


def leave(app, person: Person, tokens: int) -> None:
    """Let somebody have so many left today."""
    with app.app_context():
        Spending.insert(
            user=UUID(person.id), day=Spending.today(), tokens=LIMIT - tokens
        ).on_conflict(
            conflict_target=[Spending.user], update={Spending.tokens: LIMIT - tokens}
        ).execute()


def used(request: Request) -> int:
    """The most that a call can use: what it was paid for with."""
    body = {**request.body, "model": ""}
    output = body.pop("max_tokens")
    return len(json.dumps(body, ensure_ascii=False).encode()) + 256 + output


def last_error(reply) -> str:
    assert types(reply)[-1] == "RUN_ERROR"
    return reply.json["events"][-1]["error"]


def test_what_a_run_uses_is_taken_from_the_day(budget, model: CompletionsServer, alice: Person):
    assert left(alice) == LIMIT
    model.script(tool_answer("calculate", '{"expression": "1"}'), answer("One"))

    alice.chat("hello")

    assert left(alice) == LIMIT - (5 + 2) - (7 + 3)
    assert model.requests[0].body["max_tokens"] == 1000


def test_a_budget_tells_its_end_and_when_it_begins_anew(budget, evening: Clock, alice: Person):
    told = alice.get("/agent-chats/budget").json

    assert (told["limit"], told["left"]) == (LIMIT, LIMIT)
    assert instant(told["resets_at"]) == evening.now() + timedelta(seconds=1)


def test_without_a_budget_there_is_no_bound(model: CompletionsServer, app, alice: Person):
    alice.chat("hello")

    told = alice.get("/agent-chats/budget").json
    assert (told["limit"], told["left"]) == (None, None)
    assert "max_tokens" not in model.requests[0].body
    with app.app_context():
        assert [spending.tokens for spending in Spending.select()] == [0]


def test_everybody_has_a_budget_of_their_own(budget, app, alice: Person, bob: Person):
    leave(app, alice, 0)

    assert alice.chat("hello").status_code == 429
    assert bob.chat("hello").status_code == 200
    assert (left(alice), left(bob)) == (0, LIMIT - 10)


def test_the_most_a_call_could_use_is_taken_while_it_goes_on(
    budget, model: CompletionsServer, alice: Person
):
    chat = str(uuid4())
    model.script(stream(text("Hi"), HANG))
    asking = in_background(alice.chat, "hello", chat)
    wait_until(lambda: model.requests)

    assert left(alice) == LIMIT - used(model.requests[0])

    model.stopping.set()
    asking.join()


@pytest.mark.parametrize(
    "reply",
    [stream(text("Hi"), RESET), stream(text("Hi"), finish(), DONE), stream("data: {\n\n")],
    ids=["broken off", "without usage", "rubbish"],
)
def test_a_call_that_does_not_tell_its_usage_counts_for_the_most(
    budget, model: CompletionsServer, alice: Person, reply: Reply
):
    model.script(reply)

    alice.chat("hello")

    assert left(alice) == LIMIT - used(model.requests[0])


@pytest.mark.parametrize("cut", [RESET, CLOSE], ids=["reset", "clean end"])
def test_a_call_that_breaks_off_before_its_first_word_is_paid_for_and_not_made_again(
    budget, model: CompletionsServer, alice: Person, cut
):
    model.script(stream(": thinking\n\n", cut), answer("Hello"))

    alice.chat("hello")

    assert len(model.requests) == 1
    assert left(alice) == LIMIT - used(model.requests[0])


def test_half_a_usage_counts_for_what_it_tells(budget, model: CompletionsServer, alice: Person):
    half = {"choices": [], "usage": {"completion_tokens": 3}}
    model.script(stream(text("Hi"), finish(), half, DONE))

    alice.chat("hello")

    assert left(alice) == LIMIT - used(model.requests[0]) + 1000 - 3


def test_a_call_that_is_stopped_counts_for_the_most(
    budget, model: CompletionsServer, alice: Person
):
    chat = str(uuid4())
    model.script(stream(text("Hi"), HANG))
    asking = in_background(alice.chat, "hello", chat)
    wait_until(lambda: alice.get(f"/agent-chats/{chat}/messages").status_code == 200)
    [message, *_] = alice.get(f"/agent-chats/{chat}/messages").json["messages"]
    wait_until(lambda: model.requests)

    alice.post(f"/agent-chats/{chat}/runs/{message['run_id']}/cancel")

    asking.join()
    assert left(alice) == LIMIT - used(model.requests[0])


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_call_that_is_refused_costs_nothing(
    budget, model: CompletionsServer, alice: Person, status: int
):
    model.script(plain({"error": "no"}, status, Retry_After="900"))

    assert types(alice.chat("hello"))[-1] == "RUN_ERROR"

    assert left(alice) == LIMIT


def test_with_nothing_left_no_run_begins(budget, evening: Clock, app, model, alice: Person):
    evening.advance(minutes=-10)
    leave(app, alice, 0)

    for refused in (alice.chat("hello"), alice.stream("hello")):
        assert refused.status_code == 429
        assert refused.mimetype == "application/problem+json"
        assert re.fullmatch("今天的用量已用完，请 .* (小时|分钟|秒)后再试", refused.json["detail"])
        assert refused.json["code"] == "out_of_tokens"
        assert refused.headers["Retry-After"] == "601"
    with app.app_context():
        assert (Chat.select().count(), Run.select().count()) == (0, 0)
    assert model.requests == []


def test_a_run_begins_only_if_its_message_can_be_paid_for(
    budget, app, model: CompletionsServer, alice: Person
):
    alice.chat("hello")
    cost = used(model.requests[0]) - 1000
    leave(app, alice, cost)
    assert alice.chat("hello").status_code == 429

    leave(app, alice, cost + 1)

    assert alice.chat("hello").status_code == 200
    assert model.requests[-1].body["max_tokens"] == 1


def test_a_new_day_is_a_new_budget(budget, evening: Clock, app, alice: Person):
    leave(app, alice, 0)
    assert alice.chat("hello").status_code == 429

    evening.advance(seconds=1)

    assert left(alice) == LIMIT
    assert alice.chat("hello").status_code == 200
    assert left(alice) == LIMIT - 10


def test_a_clock_that_is_set_back_over_midnight_gives_nothing_twice(
    budget, evening: Clock, alice: Person
):
    evening.advance(seconds=2)
    alice.chat("hello")
    evening.advance(seconds=-2)
    assert left(alice) == LIMIT - 10
    alice.chat("hello")
    evening.advance(seconds=2)

    assert left(alice) == LIMIT - 20


def test_what_is_given_back_after_midnight_is_not_the_new_days(
    budget, evening: Clock, model: CompletionsServer, alice: Person
):
    model.script(stream(text("Hi"), Pause(1), finish(), usage(7, 3), DONE), answer("Hi"))
    asking = in_background(alice.chat, "hello")
    wait_until(lambda: model.requests)
    evening.advance(seconds=2)
    assert alice.chat("hello").status_code == 200

    asking.join()

    assert left(alice) == LIMIT - 10


def test_a_run_ends_when_its_next_step_cannot_be_paid_for(
    budget, app, model: CompletionsServer, alice: Person
):
    leave(app, alice, 10_000)
    calling = tool_answer("calculate", '{"expression": "1"}').parts[:-2]
    model.script(stream(*calling, usage(9_500, 400), DONE), answer("One"))

    failed = alice.chat("hello")

    assert failed.status_code == 200
    assert last_error(failed) == OUT_OF_TOKENS
    assert len(model.requests) == 1
    assert left(alice) == 100


def test_an_answer_that_takes_all_that_is_left_is_cut_off_there(
    budget, app, model: CompletionsServer, alice: Person
):
    alice.chat("hello")
    leave(app, alice, used(model.requests[0]) - 1000 + 30)
    model.script(stream(text("As far as"), finish("length"), usage(20, 30), DONE))

    failed = alice.chat("hello")

    assert model.requests[-1].body["max_tokens"] == 30
    assert last_error(failed) == OUT_OF_TOKENS
    assert failed.json["output"] == "As far as"
    with app.app_context():
        run = Run.get(Run.error == "out_of_tokens")
        assert (run.input_tokens, run.output_tokens) == (20, 30)


def test_an_answer_is_as_long_as_the_setting_allows(settings, model: CompletionsServer, request):
    settings |= {"AGENT_MAX_OUTPUT_TOKENS": "50"}
    alice = request.getfixturevalue("alice")
    model.script(stream(text("As far as"), finish("length"), usage(20, 50), DONE))

    failed = alice.chat("hello")

    assert model.requests[-1].body["max_tokens"] == 50
    assert last_error(failed) == TOO_LONG
    assert failed.json["output"] == "As far as"


def test_an_answer_that_ends_at_the_models_own_length_is_not_whole(model, alice: Person):
    model.script(stream(text("As far as"), finish("length"), usage(20, 50), DONE))

    failed = alice.chat("hello")

    assert (last_error(failed), failed.json["output"]) == (TOO_LONG, "As far as")


def test_a_run_that_was_had_is_had_again_whatever_is_left(budget, app, alice: Person):
    key = {"Idempotency-Key": "the-first"}
    first = alice.post("/agent-chats", {"message": "hello"}, headers=key)
    leave(app, alice, 0)

    again = alice.post("/agent-chats", {"message": "hello"}, headers=key)

    assert (again.status_code, again.json["output"]) == (200, first.json["output"])


def test_the_embedded_model_is_paid_for_too(settings, request):
    settings |= {"AGENT_DAILY_TOKENS": str(LIMIT)}
    alice = request.getfixturevalue("alice")

    assert types(alice.chat("What is 1+1?"))[-1] == "RUN_FINISHED"

    assert 0 < LIMIT - left(alice) < 500


class Greedy:
    """A model that uses as much as it may, and adds it up."""

    def __init__(self):
        self.used = 0
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        output = request.body["max_tokens"]
        total = used(request)
        with self._lock:
            self.used += total
            self.calls += 1
        said = stream(text("Hi"), Pause(0.05), finish(), usage(total - output, output), DONE)
        return said


def until_told(ask: Callable) -> object:
    """The answer to a message, once there is room for its run."""
    while True:
        told = ask()
        if told.status_code != 429 or told.json["code"] == "out_of_tokens":
            return told
        time.sleep(0.05)


def test_a_hundred_runs_at_once_never_use_one_token_too_many(
    budget, settings, model: CompletionsServer, request
):
    settings |= {"RATE_LIMITS": "off"}
    alice = request.getfixturevalue("alice")
    greedy = Greedy()
    model.script(greedy)

    told = at_once(*[lambda: until_told(lambda: alice.chat("hello"))] * 100)

    endings = [types(each)[-1] if each.status_code == 200 else each.status_code for each in told]
    assert set(endings) <= {"RUN_FINISHED", "RUN_ERROR", 429}
    assert greedy.used <= LIMIT
    # What nobody could use does not suffice for a message.
    assert left(alice) == LIMIT - greedy.used <= used(model.requests[0]) - 1000
    assert endings.count("RUN_FINISHED") == greedy.calls < 100


HOSTILE = "stream_options max_tokens max_completion_tokens unsupported"


def quoting_the_type(request: Request) -> Reply:
    """A server that quotes a schema's type that is none."""
    for tool in request.body.get("tools", []):
        if (kind := tool["function"]["parameters"]["type"]) != "object":
            return plain({"error": {"message": f"'{kind}' is no type of a schema"}}, 400)
    return stream(text("Hi"), finish(), usage(300, 2), DONE)


def quoting_the_message(request: Request) -> Reply:
    """A server that refuses some words, and quotes them."""
    said = request.body["messages"][-1]["content"]
    if HOSTILE in said:
        return plain({"error": {"message": f"Refused by a filter: {said}"}}, 400)
    return stream(text("Hi"), finish(), usage(300, 2), DONE)


@pytest.mark.parametrize(
    ("server", "message", "kind"),
    [(quoting_the_type, "Hi", HOSTILE), (quoting_the_message, HOSTILE, "object")],
)
def test_what_one_user_sends_lifts_no_bound_for_another(
    budget, model: CompletionsServer, alice: Person, bob: Person, server, message, kind
):
    model.script(server)
    theirs = {"name": "pick", "description": "Pick.", "parameters": {"type": kind}}
    body = {"threadId": "t", "runId": "r", "tools": [theirs]}
    body["messages"] = [{"id": "u", "role": "user", "content": message}]
    for _ in range(2):
        failed = alice.post("/agent-chats/ag-ui", body, headers={"Accept": "text/event-stream"})
        assert b"RUN_ERROR" in failed.data

    assert types(bob.chat("Hi"))[-1] == "RUN_FINISHED"

    assert left(bob) == LIMIT - 302
    sent = model.requests[-1].body
    assert sent["max_tokens"] == 1000 and "stream_options" in sent


def test_a_bound_that_was_spent_on_thinking_says_so(
    budget, model: CompletionsServer, alice: Person
):
    thoughts = chunk({"reasoning_content": "hm"})
    model.script(stream(thoughts, finish("length"), usage(10, 1000), DONE))

    assert last_error(alice.chat("hello")) == "模型思考过长，没来得及回答"
