"""client.mjs in a browser with two tabs of one origin."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.client.scripted import play
from tests.client.test_service import SIGN_UP
from tests.conftest import PREFIX
from tests.servers import Service

LOAD = """import('/client.mjs').then(({ Client }) => {
  window.told = [];
  window.client = new Client();
  client.addEventListener('signedin', () => told.push('signedin'));
  client.addEventListener('signedout', () => told.push('signedout'));
  return 'loaded';
})"""
KEY = "runtime-api:/api/v1"
# Both tabs begin at the same moment.
ASK = """void (window.asked = new Promise((go) => setTimeout(go, %d - Date.now())).then(() =>
  Promise.all(Array.from({ length: 5 }, () => client.request('GET', '/users/me')))
).then((all) => all.length, (error) => error.message))"""


class Tabs:
    """Two tabs, in which the same user is signed in."""

    def __init__(self, browser: Browser, service: Service, pair: dict) -> None:
        self.service, self.pair = service, pair
        self.first, self.second = self.both = [browser, browser.new_page()]
        for tab in self.both:
            url = f"http://127.0.0.1:{service.port}{PREFIX}/docs"
            tab.open(url, "document.querySelector('h2')")
            self.keep(renew_at=9e15)
            assert tab.read(LOAD) == "loaded"

    def keep(self, **members: object) -> None:
        text = json.dumps(json.dumps({**self.pair, **members}))
        self.first.read(f"localStorage.setItem('{KEY}', {text})")

    def in_each(self, expression: str) -> list:
        return [tab.read(expression) for tab in self.both]

    @property
    def refreshes(self) -> int:
        lines = [line for line in self.service.log.splitlines() if line.startswith("{")]
        routes = [json.loads(line).get("route") for line in lines]
        return routes.count(f"{PREFIX}/auth/sessions/refresh")


@pytest.fixture
def tabs(tmp_path: Path) -> Iterator[Tabs]:
    settings = {"SECRET_KEY": "a-key-for-tests-" * 3, "RATE_LIMITS": "off", "WEB_CONCURRENCY": "2"}
    with (
        Service(tmp_path / "service", settings) as service,
        Browser(tmp_path / "profile") as browser,
    ):
        origin = f"http://127.0.0.1:{service.port}"
        pair = play(tmp_path, origin, f"{SIGN_UP} say(0);").kept
        yield Tabs(browser, service, pair)


def test_two_tabs_renew_their_tokens_by_one_request(tabs: Tabs):
    for round in range(1, 6):
        tabs.pair = json.loads(tabs.first.read(f"localStorage.getItem('{KEY}')"))
        tabs.keep(renew_at=0)
        tabs.in_each(ASK % (time.time() * 1000 + 300))
        assert tabs.in_each("asked") == [5, 5]
        assert tabs.refreshes == round
    assert tabs.in_each("told.length") == [0, 0]


def test_who_signs_out_in_one_tab_is_signed_out_in_the_other(tabs: Tabs):
    tabs.first.read("client.signOut()")

    tabs.second.wait("told.length")
    assert tabs.in_each("[client.user, ...told].join()") == [",signedout", ",signedout"]
    refused = "client.request('GET', '/users/me').catch((problem) => problem.code)"
    assert tabs.second.read(refused) == "not_authenticated"


def test_who_signs_in_in_one_tab_is_signed_in_in_the_other(tabs: Tabs):
    email = tabs.pair["user"]["email"]
    tabs.first.read("client.signOut()")
    tabs.first.read(f"client.signIn('{email}', 'correct horse')")

    tabs.second.wait("told.includes('signedin')")
    assert tabs.in_each("client.user.email") == [email, email]
    assert tabs.second.read("client.request('GET', '/users/me').then((me) => !!me.id)") is True
