"""The pages under /docs as a browser sets them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api.routes import manual
from tests.browser import Browser
from tests.conftest import PREFIX
from tests.servers import Service

PHONE, DESK = 390, 1280


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser


def test_the_header_is_as_high_as_what_is_in_it(service: Service, browser: Browser):
    height = "document.querySelector('header').offsetHeight"
    browser.resize(DESK)
    browser.open(f"http://127.0.0.1:{service.port}{PREFIX}/docs", "document.querySelector('h3')")
    at_first = browser.read(height)

    browser.resize(PHONE)
    assert browser.read(height) > at_first
    browser.resize(DESK)
    assert browser.read(height) == at_first


def test_no_page_is_wider_than_a_phone(service: Service, browser: Browser):
    browser.resize(PHONE)

    for page in ("docs", *(f"docs/{name}" for name in manual.NAMES)):
        url = f"http://127.0.0.1:{service.port}{PREFIX}/{page}"
        browser.open(url, "document.querySelector('h2')")
        assert browser.read("document.documentElement.scrollWidth") <= PHONE, page
