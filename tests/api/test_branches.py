"""Messages that are edited or answered anew: what is cut off is kept, outside the conversation."""

import json
from functools import partial
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from runtime.models.chats import Run
from runtime.services.chats import claim, execution
from tests.agent.completions_server import (
    HANG,
    CompletionsServer,
    answer,
    stream,
    text,
    tool_answer,
)
from tests.api.test_ag_ui import (
    PICK,
    Hearing,
    heard,
    kinds,
    post,
    result,
    snapshot,
    user,
    words,
    written,
)
from tests.api.test_agent_chats import said, wait_until
from tests.api.test_chats import listed, messages, pages
from tests.conftest import Person, at_once


def ask(person: Person, **body) -> TestResponse:
    return person.post("/agent-chats", body)


def conversation(person: Person, chat: str) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in messages(person, chat)]


def run_ids(person: Person, chat: str) -> list[str]:
    """The runs of the conversation, the first one first."""
    return list(dict.fromkeys(each["run_id"] for each in messages(person, chat)))


@pytest.fixture
def chat(model: CompletionsServer, alice: Person) -> str:
    """A chat of two turns; what the model says next is not said yet."""
    model.script(answer("One"), answer("Two"))
    chat = ask(alice, message="first").json["session_id"]
    ask(alice, message="second", session_id=chat)
    model.requests.clear()
    return chat


# Over REST


def test_an_edited_message_runs_in_the_place_of_the_old_one(
    model: CompletionsServer, alice: Person, chat: str
):
    model.script(answer("Better"))

    done = ask(alice, message="better", session_id=chat, replaces=run_ids(alice, chat)[1])

    assert done.json["output"] == "Better"
    now = [("user", "first"), ("assistant", "One"), ("user", "better")]
    assert said(model.requests[0]) == now
    assert conversation(alice, chat) == [*now, ("assistant", "Better")]


def test_all_that_follows_the_replaced_run_leaves_the_conversation(
    model: CompletionsServer, alice: Person, chat: str
):
    model.script(answer("Anew"))

    ask(alice, message="anew", session_id=chat, replaces=run_ids(alice, chat)[0])

    assert said(model.requests[0]) == [("user", "anew")]
    assert conversation(alice, chat) == [("user", "anew"), ("assistant", "Anew")]
    assert [each["title"] for each in listed(alice)] == ["anew"]


def test_without_a_message_the_old_one_is_answered_anew(
    model: CompletionsServer, alice: Person, chat: str
):
    model.script(answer("Two, really"))

    ask(alice, session_id=chat, replaces=run_ids(alice, chat)[1])

    assert said(model.requests[0])[-1] == ("user", "second")
    assert conversation(alice, chat)[2:] == [("user", "second"), ("assistant", "Two, really")]


def test_the_next_message_follows_what_took_the_place(
    model: CompletionsServer, alice: Person, chat: str
):
    model.script(answer("Anew"), answer("More"))
    ask(alice, session_id=chat, replaces=run_ids(alice, chat)[0])

    ask(alice, message="more", session_id=chat)

    assert said(model.requests[1]) == [("user", "first"), ("assistant", "Anew"), ("user", "more")]


def test_what_was_cut_off_is_kept(model: CompletionsServer, alice: Person, chat: str):
    replaced = run_ids(alice, chat)
    model.script(answer("Anew"))
    ask(alice, session_id=chat, replaces=replaced[0])
    [new] = run_ids(alice, chat)

    exported = json.loads(alice.get("/users/me/export").data)["chats"][0]["runs"]

    by_run = [(each["id"], each["replaced_by"]) for each in reversed(exported)]
    assert by_run == [(replaced[0], new), (replaced[1], new), (new, None)]
    assert exported[1]["messages"][-1]["content"] == "Two"
    events = alice.get(f"/agent-chats/{chat}/runs/{replaced[1]}/events")
    assert "Two" in events.text


def test_pages_leave_out_what_was_cut_off(model: CompletionsServer, alice: Person, chat: str):
    model.script(*[answer(f"answer {number}") for number in range(4)])
    for _ in range(3):
        ask(alice, session_id=chat, replaces=run_ids(alice, chat)[1])
    ask(alice, message="third", session_id=chat)

    read = pages(alice, f"/agent-chats/{chat}/messages", "messages", 1)

    contents = [[each["content"] for each in page] for page in read]
    assert contents == [["third", "answer 3"], ["second", "answer 2"], ["first", "One"]]


@pytest.mark.parametrize("name", ["message", "session_id"])
def test_what_a_run_needs_is_asked_for(alice: Person, chat: str, name: str):
    body = {
        "message": {"session_id": chat},
        "session_id": {"message": "hello", "replaces": run_ids(alice, chat)[0]},
    }

    refused = ask(alice, **body[name])

    assert refused.status_code == 422
    [fault] = refused.json["errors"]
    assert (fault["pointer"], fault["code"]) == (f"#/{name}", "required")


def test_only_a_run_of_the_same_chat_can_be_replaced(
    model: CompletionsServer, alice: Person, charlie: Person, chat: str
):
    model.script(answer("Hello"), answer("Mine"))
    another = ask(alice, message="hello").json["session_id"]
    mine = ask(charlie, message="mine").json["session_id"]
    theirs = run_ids(alice, chat)[0]
    new = str(uuid4())

    refused = [
        ask(alice, session_id=another, replaces=theirs),
        ask(alice, session_id=chat, replaces=str(uuid4())),
        ask(alice, session_id=new, replaces=theirs),
        ask(charlie, session_id=chat, replaces=theirs),
        ask(charlie, session_id=mine, replaces=theirs),
    ]

    told = {(each.status_code, each.json["code"]) for each in refused}
    assert told == {(404, "run_not_found")}
    assert len(run_ids(alice, chat)) == 2
    assert {each["session_id"] for each in listed(alice)} == {chat, another}


def test_what_was_replaced_cannot_be_replaced_again(
    model: CompletionsServer, alice: Person, chat: str
):
    old = run_ids(alice, chat)[1]
    model.script(answer("Two, really"))
    ask(alice, session_id=chat, replaces=old)
    before = conversation(alice, chat)

    refused = ask(alice, session_id=chat, replaces=old)

    assert (refused.status_code, refused.json["code"]) == (409, "run_replaced")
    assert refused.json["detail"] == "这条消息已被修改或重新回答，请刷新对话"
    assert conversation(alice, chat) == before


def test_a_run_that_goes_on_is_not_replaced(model: CompletionsServer, alice: Person):
    model.script(stream(text("Slow"), HANG))
    slow = Hearing(alice, user("hello"))
    written("Slow")
    [chat] = [each["session_id"] for each in listed(alice)]
    run_id = run_ids(alice, chat)[0]

    refused = ask(alice, session_id=chat, replaces=run_id)

    assert (refused.status_code, refused.json["code"]) == (409, "chat_busy")
    assert conversation(alice, chat) == [("user", "hello"), ("assistant", "Slow")]
    model.stopping.set()
    assert kinds(slow.events)[-1] == "RUN_ERROR"


def test_the_same_key_replaces_once(model: CompletionsServer, alice: Person, chat: str):
    first, second = run_ids(alice, chat)
    model.script(answer("Anew"))

    def again(**body) -> TestResponse:
        return alice.post("/agent-chats", {"session_id": chat, **body}, headers=key)

    key = {"Idempotency-Key": "anew"}
    done = [again(replaces=first).json for _ in range(3)]

    assert done[0]["output"] == "Anew"
    assert done == [done[0]] * 3
    others = [again(replaces=second), again(message="first"), again(message="?", replaces=first)]
    assert {each.json["code"] for each in others} == {"idempotency_key_reused"}


def test_the_same_key_at_once_is_one_run(model: CompletionsServer, alice: Person, chat: str):
    old = run_ids(alice, chat)[1]
    model.script(*[answer("Anew")] * 4)
    body = {"session_id": chat, "replaces": old}
    key = {"Idempotency-Key": "anew"}

    answers = at_once(*[lambda: alice.post("/agent-chats", body, headers=key)] * 4)

    assert [each.status_code for each in answers] == [200] * 4
    assert {each.json["output"] for each in answers} == {"Anew"}
    assert len(model.requests) == 1


def test_of_many_who_replace_a_run_at_once_one_does(
    model: CompletionsServer, alice: Person, chat: str
):
    old = run_ids(alice, chat)[1]
    model.script(*[answer("Anew")] * 8)

    answers = at_once(*[lambda: ask(alice, session_id=chat, replaces=old)] * 8)

    codes = sorted(each.json.get("code", "done") for each in answers)
    assert codes.count("done") == 1
    assert set(codes[:-1]) <= {"chat_busy", "run_replaced"} | {"done"}
    assert conversation(alice, chat) == [
        ("user", "first"),
        ("assistant", "One"),
        ("user", "second"),
        ("assistant", "Anew"),
    ]
    [kept] = Run.select().where(Run.id == old)
    assert str(kept.replaced_by) == run_ids(alice, chat)[1]


@pytest.mark.in_process("breaks a part of the service")
def test_a_message_that_cannot_begin_cuts_nothing_off(
    model: CompletionsServer, alice: Person, chat: str, monkeypatch
):
    before = conversation(alice, chat)

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(execution.history, "messages_of", fail)
    assert ask(alice, session_id=chat, replaces=run_ids(alice, chat)[0]).status_code == 500

    assert conversation(alice, chat) == before
    assert Run.select().where(Run.replaced_by.is_null(False)).count() == 0


@pytest.mark.in_process("leaves a claim behind as a killed process does")
def test_a_process_that_is_killed_in_between_loses_nothing(
    model: CompletionsServer, app, alice: Person, chat: str
):
    """It had begun the run, and told nobody of it."""
    first = run_ids(alice, chat)[0]
    with app.app_context():
        old = Run.get_by_id(first)
        dead = Run(id=uuid4(), chat_id=old.chat_id, message=old.message)
        dead.replaces = old.id
        assert claim.claim(old.chat.user, dead)
    Run.update(lease_until=old.created_at).where(Run.id == dead.id).execute()

    assert conversation(alice, chat) == [("user", "first")]
    assert [each["status"] for each in messages(alice, chat)] == ["failed"]
    model.script(answer("Anew"))
    ask(alice, session_id=chat, replaces=str(dead.id))
    assert conversation(alice, chat) == [("user", "first"), ("assistant", "Anew")]


# Over AG-UI


class Page:
    """A front end as AG-UI's are: it holds the messages, and sends all of them."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self.messages: list[dict] = []

    def send(self, *new: dict, **more) -> list[dict]:
        """Run on what it holds and these, and hold what it hears."""
        self.messages += new
        events = heard(post(self._person, *self.messages, run=str(uuid4()), **more))
        texts: dict[str, str] = {}
        for event in events:
            if event["type"] == "TEXT_MESSAGE_CONTENT":
                texts[event["messageId"]] = texts.get(event["messageId"], "") + event["delta"]
        self.messages += [
            {"id": its_id, "role": "assistant", "content": said} for its_id, said in texts.items()
        ]
        return events

    def cut(self, its_id: str) -> None:
        """Forget what follows a message."""
        place = next(n for n, each in enumerate(self.messages) if each["id"] == its_id)
        del self.messages[place + 1 :]

    def shown(self) -> list[tuple[str, str]]:
        """What another page would show, which was just loaded."""
        [run] = [each for each in Run.select().order_by(Run.created_at.desc()).limit(1)]
        again = self._person.get(f"/agent-chats/{run.chat_id}/messages").json["messages"]
        return [(each["role"], each["content"]) for each in again]


@pytest.fixture
def page(model: CompletionsServer, alice: Person) -> Page:
    """A page with a chat of two turns."""
    page = Page(alice)
    model.script(answer("One"), answer("Two"))
    page.send(user("first", "u1"))
    page.send(user("second", "u2"))
    model.requests.clear()
    return page


def test_a_front_end_has_a_message_answered_anew(model: CompletionsServer, page: Page):
    """As CopilotKit does: the messages end with the user's, whose answer is left out."""
    model.script(answer("Two, really"))
    page.cut("u2")

    page.send()

    assert said(model.requests[0]) == [("user", "first"), ("assistant", "One"), ("user", "second")]
    assert page.shown() == words(page.messages)
    assert page.shown()[2:] == [("user", "second"), ("assistant", "Two, really")]


def test_a_front_end_has_an_earlier_message_answered_anew(model: CompletionsServer, page: Page):
    model.script(answer("One, really"), answer("Three"))
    page.cut("u1")

    page.send()
    page.send(user("third", "u3"))

    assert said(model.requests[0]) == [("user", "first")]
    assert said(model.requests[1])[1:] == [("assistant", "One, really"), ("user", "third")]
    assert page.shown() == words(page.messages)


def test_a_message_may_be_answered_anew_again_and_again(model: CompletionsServer, page: Page):
    model.script(*[answer(f"Two {number}") for number in range(3)])

    for _ in range(3):
        page.cut("u2")
        page.send()

    assert page.shown() == words(page.messages)
    assert page.shown()[-1] == ("assistant", "Two 2")


@pytest.mark.parametrize("its_id", ["u2", "another"], ids=["the same id", "an id of its own"])
def test_a_front_end_edits_a_message(model: CompletionsServer, page: Page, its_id: str):
    """assistant-ui gives the message an id of its own, other pages keep the old one."""
    model.script(answer("Better"))
    del page.messages[2:]

    page.send(user("better", its_id))

    assert said(model.requests[0]) == [("user", "first"), ("assistant", "One"), ("user", "better")]
    assert page.shown() == words(page.messages)


def test_an_edited_message_takes_all_that_follows_with_it(model: CompletionsServer, page: Page):
    model.script(answer("Three"), answer("Better"))
    page.send(user("third", "u3"))
    del page.messages[2:]

    page.send(user("better", "another"))

    assert page.shown() == words(page.messages)
    assert len(page.messages) == 4


def test_of_messages_sent_together_the_later_one_can_be_edited(
    model: CompletionsServer, alice: Person
):
    page = Page(alice)
    model.script(answer("Both"), answer("Better"))
    page.send(user("one", "u1"), user("two", "u2"))
    del page.messages[1:]

    page.send(user("zwei", "u3"))

    assert said(model.requests[1]) == [("user", "one\n\nzwei")]


def test_a_message_that_a_tool_was_called_for_is_answered_anew(
    model: CompletionsServer, alice: Person
):
    page = Page(alice)
    model.script(tool_answer("pick", "{}", "p1"), answer("Red it is"), answer("No colour"))
    page.send(user("a colour?", "u1"), tools=[PICK])
    page.send(result("red"), tools=[PICK])
    page.cut("u1")

    page.send(tools=[PICK])

    assert said(model.requests[2]) == [("user", "a colour?")]
    assert page.shown() == [("user", "a colour?"), ("assistant", "No colour")]


def test_a_result_that_came_with_a_message_comes_again_with_it(
    model: CompletionsServer, alice: Person
):
    page = Page(alice)
    model.script(tool_answer("pick", "{}", "p1"), answer("Red"), answer("Still red"))
    page.send(user("a colour?", "u1"), tools=[PICK])
    called = {"id": "a1", "role": "assistant", "toolCalls": []}
    page.send(called, result("red"), user("Now?", "u2"), tools=[PICK])
    page.cut("u2")

    page.send(tools=[PICK])

    before, again = (model.requests[number].body["messages"] for number in (1, 2))
    assert again == before
    assert "red" in [each["content"] for each in again]


def test_a_message_from_another_client_can_be_answered_anew(
    model: CompletionsServer, alice: Person, chat: str
):
    model.script(answer("Two, really"))

    heard(post(alice, *_held(alice, chat)[:-1], thread=chat, run="r9"))

    assert conversation(alice, chat)[2:] == [("user", "second"), ("assistant", "Two, really")]


def _held(person: Person, chat: str) -> list[dict]:
    """What a page holds that has read the chat elsewhere."""
    return [
        {name: each[name] for name in ("id", "role", "content")} for each in messages(person, chat)
    ]


# What cuts nothing off


@pytest.mark.parametrize("held", [0, 2, 4], ids=["nothing", "an older copy", "all"])
def test_who_comes_back_cuts_nothing_off(
    model: CompletionsServer, alice: Person, page: Page, held: int
):
    before = page.shown()

    post(alice, *page.messages[:held], run="r9")

    assert page.shown() == before
    assert not model.requests


def test_a_message_that_was_emptied_is_none(model: CompletionsServer, alice: Person):
    model.script(stream("data: {]\n\n"), stream("data: {]\n\n"))
    heard(post(alice, user("first", "u1")))
    heard(post(alice, user("first", "u1"), user("second", "u2"), run="r2"))

    messages = [user("first", "u1"), user("", "u2")]
    events = heard(post(alice, *messages, run="r3", forwardedProps={"continue": True}))

    assert [each["content"] for each in snapshot(events)] == ["first", "second"]
    assert Run.select().count() == 2


def test_a_page_that_was_just_loaded_goes_on_with_the_chat(
    model: CompletionsServer, alice: Person, page: Page
):
    """It holds no message, and sends the new one alone."""
    before = page.shown()
    model.script(answer("Three"))

    heard(post(alice, user("third", "u3"), run="r9"))

    assert page.shown() == [*before, ("user", "third"), ("assistant", "Three")]


def test_what_follows_a_message_that_was_cut_off_goes_to_the_end(
    model: CompletionsServer, alice: Person, page: Page
):
    """Another page edited that message meanwhile; what was said there stays."""
    other = Page(alice)
    other.messages = page.messages[:2]
    model.script(answer("Better"), answer("Three"))
    other.send(user("better", "another"))

    page.send(user("third", "u3"))

    assert page.shown() == [*words(other.messages), ("user", "third"), ("assistant", "Three")]


def test_while_a_run_goes_on_nothing_is_answered_anew(
    model: CompletionsServer, alice: Person, page: Page
):
    model.script(stream(text("Slow"), HANG))
    slow = Hearing(alice, *page.messages, user("third", "u3"), run="slow")
    written("Slow")
    page.cut("u1")

    refused = post(alice, *page.messages, run="r9")

    assert (refused.status_code, refused.json["code"]) == (409, "chat_busy")
    model.stopping.set()
    assert kinds(slow.events)[-1] == "RUN_ERROR"
    assert len(page.shown()) == 6


def test_many_front_ends_at_once_have_a_message_answered_once(
    model: CompletionsServer, alice: Person, page: Page
):
    page.cut("u2")
    model.script(*[answer("Anew")] * 6)

    runs = [partial(post, alice, *page.messages, run=f"again {number}") for number in range(6)]
    answers = at_once(*runs)

    told = {each.status_code for each in answers}
    assert told <= {200, 409}
    wait_until(lambda: not Run.select().where(Run.finished_at.is_null()).exists())
    assert page.shown()[2:] == [("user", "second"), ("assistant", "Anew")]
    live = Run.select().where(Run.replaced_by.is_null()).count()
    assert live == 2
