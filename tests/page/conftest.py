"""The page at `/` in a browser, on a service of its own whose model answers as a test wants."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import npm
from tests.agent.completions_server import DONE, CompletionsServer, Reply, finish, text, usage
from tests.browser import Browser, Page
from tests.servers import Service

PASSWORD = "correct horse battery"
PHONE, DESK = 390, 1280
IS_IDLE = "document.querySelector('#stop').hidden && document.querySelector('.answer')"


class Slow:
    """An answer of words, each of which is sent when a test says so."""

    def __init__(self, *words: str):
        self.words = words
        self._may = threading.Semaphore(0)
        self.reply = Reply(parts=self._parts())

    def go_on(self, count: int = 1) -> None:
        """Send so many words more; after the last one comes the end."""
        self._may.release(count)

    def _parts(self) -> Iterator:
        for word in self.words:
            self._may.acquire(timeout=60)
            yield text(word)
        self._may.acquire(timeout=60)
        yield from (finish(), usage(7, 3), DONE)


class Visitor:
    """Somebody at the page, in one tab."""

    def __init__(self, page: Page, url: str):
        self.page = page
        self.url = url
        self.email = ""

    def arrive(self, language: str = "en", width: int = DESK, scheme: str = "light") -> None:
        """Open the page for the first time."""
        self.page.run_first(f"localStorage['page.language'] ??= '{language}'")
        self.page.prefer(scheme)
        self.page.resize(width, 844 if width == PHONE else 900)
        self.page.open(self.url, "document.body.dataset.state")

    def sign_up(self, name: str) -> None:
        """By keyboard alone, with the code from the mail beside the form."""
        self.email = f"{name}@example.org"
        self.focus("[name=username]")
        self.page.type(name)
        self.page.press("Tab")
        self.page.type(self.email)
        self.page.press("Tab")
        self.page.type(PASSWORD)
        self.page.press("Enter")
        self.page.wait("document.querySelector('#mails .main')")
        self.focus("#mails .main")
        self.page.press("Enter")
        self.page.wait("document.querySelector('[name=token]').value.length === 6")
        self.page.press("Enter")
        self.page.wait("document.body.dataset.state === 'in'")
        self.page.wait("document.querySelector('#me h2')")

    def say(self, message: str) -> None:
        """Send a message, without waiting for its answer."""
        self.focus("#message")
        self.page.type(message)
        self.page.press("Enter")

    def focus(self, selector: str) -> None:
        self.page.read(f"document.querySelector({selector!r}).focus()")

    def click(self, selector: str) -> None:
        self.page.read(f"document.querySelector({selector!r}).click()")

    def wait_for(self, words: str) -> None:
        """Wait until the last answer is these words."""
        self.page.wait(
            f"[...document.querySelectorAll('.answer .text')].at(-1)?.innerText === {words!r}"
        )

    @property
    def text(self) -> str:
        """What is on the page."""
        return str(self.page.read("document.body.innerText"))


@pytest.fixture(scope="module")
def model() -> Iterator[CompletionsServer]:
    with CompletionsServer() as model:
        yield model


@pytest.fixture(scope="module")
def service(model: CompletionsServer, tmp_path_factory) -> Iterator[Service]:
    settings = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "key", "AGENT_MODEL": "model"}
    limits = {"RATE_LIMITS": "off", "AGENT_DAILY_TOKENS": "1000000", "PAGE": "on"}
    service = Service(tmp_path_factory.mktemp("service"), {**settings, **limits}).start()
    yield service
    service.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def visitor(service: Service, browser: Browser) -> Iterator[Visitor]:
    """Whose browser asked no other host, and complained of nothing."""
    visitor = Visitor(browser, f"http://127.0.0.1:{service.port}/")
    yield visitor
    assert not browser.complaints
    others = [url for url in browser.asked if not url.startswith((visitor.url, "blob:", "about:"))]
    assert not others


@contextmanager
def second_tab(browser: Browser, visitor: Visitor) -> Iterator[Visitor]:
    """The same person in another tab."""
    page = browser.new_page()
    page.resize(DESK)
    page.open(visitor.url, "document.body.dataset.state")
    yield Visitor(page, visitor.url)
    assert not page.complaints


def axe_findings(page: Page) -> list[str]:
    """What axe finds on the page: a rule and an element each."""
    modules = npm.installed("axe-core@4", npm.CACHE / "axe-core-4")
    page.read((modules / "axe-core" / "axe.min.js").read_text() + ";0")
    of_a_rule = "({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`)"
    return page.read(f"axe.run().then(({{ violations }}) => violations.flatMap({of_a_rule}))")
