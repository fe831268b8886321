"""The manual's recipe for useChat, bundled as it is printed, in a browser."""

from collections.abc import Callable

import pytest

from tests.front_ends import WHOLE, Stage
from tests.recipes.conftest import Page, Site

PACKAGES = ("@ai-sdk/react@4.0.177", "react-dom@19.3.1")


@pytest.fixture(scope="module", autouse=True)
def built(site: Site, stage: Stage) -> None:
    site.build("use_chat", f"http://127.0.0.1:{stage.service.port}/api/v1", *PACKAGES)


@pytest.fixture
def page(page_of: Callable[[str], Page]) -> Page:
    return page_of("use_chat")


def test_a_chat_is_there_after_a_reload(page: Page):
    page.send("hello")
    page.shows("hello", "Hello.")
    page.send("add")
    page.shows("hello", "Hello.", "add", "See: 2It is 2.")
    page.open()

    page.shows("hello", "Hello.", "add", "See: 2It is 2.")


def test_an_answer_goes_on_after_a_reload(page: Page):
    page.send("count")
    page.shows("count", "One and ")
    page.open()
    page.shows("count", "One and ")
    page.stage.model.go_on.set()

    page.shows("count", WHOLE)
    page.waits_for("document.querySelector('main').dataset.status === 'ready'")


def test_the_next_message_follows_a_stop_at_once(page: Page):
    page.send("count")
    page.shows("count", "One and ")
    page.do("void chat.stop()")
    page.send("hello")

    page.shows("count", "One and ", "hello", "Hello.")
    page.open()
    page.shows("count", "One and ", "hello", "Hello.")


def test_what_was_stopped_is_answered_anew(page: Page):
    page.send("count")
    page.shows("count", "One and ")
    page.do("void chat.stop()")
    page.stage.model.go_on.set()
    page.do("void chat.regenerate()")

    page.shows("count", WHOLE)
    page.open()
    page.shows("count", WHOLE)


def test_an_access_token_that_is_over_is_renewed(page: Page):
    page.keep(**{**page.stage.pair, "access_token": "over"})
    page.send("hello")

    page.shows("hello", "Hello.")
    # The old refresh token is over with it.
    page.stage.pair = page.kept
    assert page.kept["access_token"] != "over"
