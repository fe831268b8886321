"""Answers that stream: reloaded, cut, stopped, read in two tabs, and the session over."""

import pytest

from tests.agent.completions_server import CompletionsServer, answer
from tests.browser import Browser
from tests.page.conftest import IS_IDLE, Slow, Visitor, second_tab

QUESTIONS = "[...document.querySelectorAll('.question p')].map((each) => each.innerText)"
EVENTS = "[...document.querySelectorAll('#events b')].map((each) => +each.textContent)"


@pytest.fixture
def signed_in(visitor: Visitor, request: pytest.FixtureRequest) -> Visitor:
    visitor.arrive()
    visitor.sign_up(request.node.name.replace("test_", "")[:30].strip("_"))
    return visitor


def begin(visitor: Visitor, model: CompletionsServer, *words: str) -> Slow:
    """Have a question asked, and one word of its answer read."""
    slow = Slow(*words)
    model.script(slow.reply)
    visitor.say("Go on")
    slow.go_on()
    visitor.wait_for(words[0])
    return slow


def test_a_reload_in_the_middle_reads_on(signed_in: Visitor, model: CompletionsServer):
    slow = begin(signed_in, model, "One", " two", " three")

    signed_in.page.reload()
    signed_in.wait_for("One")
    slow.go_on()
    signed_in.wait_for("One two")
    slow.go_on(2)

    signed_in.page.wait(IS_IDLE)
    signed_in.wait_for("One two three")
    count = "document.querySelectorAll('.question').length"
    assert signed_in.page.read(count) == 1


def test_a_cut_connection_is_resumed_by_number(signed_in: Visitor, model: CompletionsServer):
    slow = begin(signed_in, model, "One", " two", " three")
    before = signed_in.page.read(EVENTS)

    signed_in.click("#cut")
    signed_in.page.wait("document.querySelector('.mark')")
    slow.go_on(3)
    signed_in.page.read("new Promise((go) => setTimeout(go, 300)).then(() => 0)")
    assert signed_in.page.read(EVENTS) == before
    signed_in.click("#cut")

    signed_in.page.wait(IS_IDLE)
    signed_in.wait_for("One two three")
    numbers = signed_in.page.read(EVENTS)
    assert numbers == sorted(set(numbers))
    asked = signed_in.page.read("document.querySelector('#requests').textContent")
    assert f"last-event-id: {before[-1]}" in asked.lower()


def test_stop_keeps_what_was_said(signed_in: Visitor, model: CompletionsServer):
    begin(signed_in, model, "One", " two")

    signed_in.click("#stop")
    signed_in.page.wait(IS_IDLE)
    signed_in.wait_for("One")
    assert "Stopped" in signed_in.text
    model.script(answer("Again"))
    signed_in.say("Go on")
    signed_in.wait_for("Again")


def test_a_chat_left_in_the_middle_is_found_again(signed_in: Visitor, model: CompletionsServer):
    slow = begin(signed_in, model, "One", " two")

    signed_in.page.wait("document.querySelector('#chat-list a')")
    signed_in.click("#new-chat")
    signed_in.page.wait("document.querySelector('.greeting')")
    signed_in.click("#chat-list a")
    signed_in.wait_for("One")
    slow.go_on(2)
    signed_in.wait_for("One two")
    signed_in.page.wait(IS_IDLE)


def test_two_tabs_read_one_run(signed_in: Visitor, browser: Browser, model: CompletionsServer):
    slow = begin(signed_in, model, "One", " two")

    with second_tab(browser, signed_in) as other:
        other.page.wait("document.querySelector('#chat-list a')")
        other.click("#chat-list a")
        other.wait_for("One")
        slow.go_on(2)
        other.wait_for("One two")
        signed_in.wait_for("One two")


def test_signing_out_in_one_tab_signs_out_the_other(signed_in: Visitor, browser: Browser):
    with second_tab(browser, signed_in) as other:
        other.page.wait("document.querySelector('#me h2')")
        other.click("#sign-out")

        signed_in.page.wait("document.body.dataset.state === 'out'")
        assert "You are signed out." in signed_in.text
        assert signed_in.email not in signed_in.text


def test_chats_are_renamed_and_deleted(signed_in: Visitor, model: CompletionsServer):
    model.script(answer("Hello"))
    signed_in.say("Sign out")
    signed_in.wait_for("Hello")
    signed_in.page.wait("document.querySelector('#chat-list a')?.innerText === 'Sign out'")
    signed_in.click("#language")
    # A title that is a word of the page's is no word of the page's.
    assert signed_in.page.read("document.querySelector('#chat-title').innerText") == "Sign out"

    signed_in.click("#rename")
    signed_in.page.type("<b>Second</b>")
    signed_in.page.press("Enter")
    signed_in.page.wait("document.querySelector('#chat-list a')?.innerText.includes('<b>Second')")
    signed_in.click("#delete")
    signed_in.page.press("Enter")
    signed_in.page.wait("document.querySelector('.greeting')")
    signed_in.page.wait("!document.querySelector('#chat-list a')")


def test_a_refused_message_goes_back_into_its_field(
    signed_in: Visitor, browser: Browser, model: CompletionsServer
):
    slow = begin(signed_in, model, "One")
    signed_in.page.wait("location.hash")
    with second_tab(browser, signed_in) as other:
        # As if the other tab had been opened before the answer began.
        other.page.read(f"history.pushState(null, '', '{signed_in.page.read('location.hash')}')")
        asked = "import('/page/wire.mjs').then(({client}) => client.chat('Too early', "
        asked += "{sessionId: location.hash.slice(1)}).next()).catch((problem) => problem.status)"
        assert other.page.read(asked) == 409
    slow.go_on()
    signed_in.page.wait(IS_IDLE)


def test_an_answer_is_given_again(signed_in: Visitor, model: CompletionsServer):
    model.script(answer("First"), answer("Second"))
    signed_in.say("Say it")
    signed_in.wait_for("First")
    signed_in.page.wait(IS_IDLE)

    signed_in.click(".question button + button")
    signed_in.wait_for("Second")
    assert "First" not in signed_in.text
    signed_in.page.wait(IS_IDLE)
    signed_in.page.reload()
    signed_in.wait_for("Second")
    assert signed_in.page.read(QUESTIONS) == ["Say it"]


def test_a_message_is_edited(signed_in: Visitor, model: CompletionsServer):
    model.script(answer("First"), answer("Second"), answer("Third"))
    for message, words in (("One", "First"), ("Two", "Second")):
        signed_in.say(message)
        signed_in.wait_for(words)
        signed_in.page.wait(IS_IDLE)

    signed_in.click(".question button")
    signed_in.page.read("document.activeElement.select()")
    signed_in.page.type("Another")
    signed_in.click("dialog .main")
    signed_in.wait_for("Third")

    assert signed_in.page.read(QUESTIONS) == ["Another"]
    assert "First" not in signed_in.text
    signed_in.page.wait(IS_IDLE)
    signed_in.page.reload()
    signed_in.wait_for("Third")
    assert signed_in.page.read(QUESTIONS) == ["Another"]
