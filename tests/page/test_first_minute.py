"""From the sign-up to a streamed answer: both languages, a phone and a desk, dark and light."""

import itertools

import pytest

from tests.agent.completions_server import CompletionsServer, Reply, answer, chunk, tool_answer
from tests.page.conftest import DESK, IS_IDLE, PHONE, Visitor, axe_findings

WAYS = list(itertools.product(["zh", "en"], [PHONE, DESK], ["light", "dark"]))
WORDS = {
    "zh": ("注册", "新对话", "思考过程", "退出登录"),
    "en": ("Sign up", "New chat", "Reasoning", "Sign out"),
}
MORE = "1. a\n\n```\ncode\n```\n\n> said\n\n"


def thought(words: str) -> dict:
    return chunk({"reasoning_content": words})


def with_reasoning(reply: Reply) -> Reply:
    return Reply((thought("I will sum it up."), *reply.parts))


@pytest.mark.parametrize(("language", "width", "scheme"), WAYS)
def test_a_visitor_signs_up_and_chats(
    visitor: Visitor, model: CompletionsServer, language: str, width: int, scheme: str
):
    model.script(
        tool_answer("calculate", '{"expression": "6 * 7"}'),
        with_reasoning(answer("It is ", "**42**.\n\n", MORE, "[more](https://example.org)")),
    )
    page = visitor.page
    name = f"ada_{language}_{width}_{scheme}"
    sign_up, new_chat, reasoning, sign_out = WORDS[language]

    visitor.arrive(language, width, scheme)
    assert sign_up in visitor.text
    found = {"at first": axe_findings(page)}
    visitor.sign_up(name)
    assert sign_out in visitor.text
    assert page.read("document.querySelector('#chat-title').innerText") == new_chat
    found["signed in"] = axe_findings(page)
    visitor.say("What is 6 * 7?")
    page.wait(IS_IDLE)
    page.wait("document.querySelector('#chat-list a')")
    assert "It is 42." in visitor.text
    assert reasoning in visitor.text
    assert "calculate" in visitor.text
    assert page.read("document.querySelector('.answer strong').innerText") == "42"
    page.read("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    page.wait("document.querySelector('.badge')")
    found["with an answer"] = axe_findings(page)
    for view in ("account", "wire"):
        visitor.click(f"[data-shows={view}]")
        found[view] = axe_findings(page)
        assert page.read("document.documentElement.scrollWidth") <= width
    visitor.click("[data-shows=account]")
    visitor.click("#me button")
    found["a dialog"] = axe_findings(page)

    assert not {where: what for where, what in found.items() if what}


def test_the_browsers_language_comes_first(visitor: Visitor):
    visitor.page.run_first("Object.defineProperty(navigator, 'language', { value: 'zh-TW' })")
    visitor.page.open(visitor.url, "document.body.dataset.state")

    assert "注册" in visitor.text
    visitor.click("#language")
    assert "Sign up" in visitor.text
    visitor.page.open("about:blank", "true")
    visitor.page.open(visitor.url, "document.body.dataset.state")
    assert "Sign up" in visitor.text
    assert visitor.page.read("document.documentElement.lang") == "en"


def test_what_is_wrong_stands_at_its_field(visitor: Visitor):
    visitor.arrive()
    visitor.focus("[name=username]")
    visitor.page.type("a")
    visitor.page.press("Enter")
    visitor.page.wait("document.querySelector('[aria-invalid]')")

    field = "document.activeElement"
    assert visitor.page.read(f"{field}.name") == "username"
    told = f"document.getElementById({field}.getAttribute('aria-describedby').split(' ')[0])"
    assert visitor.page.read(f"{told}.innerText") == "This needs at least 3 characters."
    alert = "document.querySelector('#entry [role=alert]').innerText"
    assert visitor.page.read(alert) == "The request's parameters are invalid."
