"""The account's column: profile, sessions, events, export and erasure."""

from pathlib import Path

import pytest

from tests.browser import Browser
from tests.page.conftest import PASSWORD, Visitor
from tests.servers import wait_until


@pytest.fixture
def ada(visitor: Visitor, request: pytest.FixtureRequest) -> Visitor:
    visitor.arrive()
    visitor.sign_up(request.node.name.replace("test_", "")[:30].strip("_"))
    return visitor


def test_the_profile_is_edited(ada: Visitor):
    ada.click("#me button")
    ada.focus("dialog [name=bio]")
    ada.page.type("<img src=x onerror=alert(1)>")
    ada.click("dialog .main")
    ada.page.wait("!document.querySelector('dialog').open")

    assert "<img src=x onerror=alert(1)>" in ada.text


def test_what_is_wrong_in_a_dialog_keeps_it_open(ada: Visitor):
    ada.click("#me button")
    ada.focus("dialog [name=avatar_url]")
    ada.page.type("javascript:alert(1)")
    ada.page.press("Enter")
    ada.page.wait("document.querySelector('dialog [aria-invalid]')?.name === 'avatar_url'")

    ada.page.press("Escape")
    ada.page.wait("!document.querySelector('dialog').open")


def test_another_session_is_ended(ada: Visitor):
    signed_in = "fetch('/api/v1/auth/sessions', {method: 'POST', headers: {'Content-Type': "
    signed_in += f"'application/json'}}, body: JSON.stringify({{email: '{ada.email}', "
    signed_in += f"password: '{PASSWORD}'}})}}).then((answer) => answer.status)"
    assert ada.page.read(signed_in) == 200

    ada.click(".panel summary")
    ada.page.wait("document.querySelectorAll('.panel ul:first-of-type li').length === 2")
    assert "This one" in ada.text
    ada.click(".panel li .quiet")
    ada.page.wait("document.querySelectorAll('.panel ul:first-of-type li').length === 1")
    ada.click(".panel:nth-of-type(2) summary")
    ada.page.wait("document.querySelector('.panel:nth-of-type(2) li')")
    assert "Session ended" in ada.text


def test_the_export_is_downloaded(ada: Visitor, browser: Browser, tmp_path: Path):
    browser.keep_downloads(tmp_path)
    ada.click(".panel:nth-of-type(4) summary")
    ada.click(".panel:nth-of-type(4) button")

    export = tmp_path / "export.json"
    wait_until(lambda: export.exists() and ada.email in export.read_text(), 30, "the export")
    assert '"is_admin": false' in export.read_text()


def test_the_account_is_erased_with_the_password(ada: Visitor):
    ada.click(".panel:nth-of-type(4) .danger")
    ada.page.type("wrong horse")
    ada.page.press("Enter")
    ada.page.wait("document.querySelector('dialog .wrong:not(:empty)')")
    ada.page.wait("document.activeElement.name === 'current_password'")
    ada.page.read("document.activeElement.select()")
    ada.page.type(PASSWORD)
    ada.page.press("Enter")

    ada.page.wait("document.body.dataset.state === 'out'")
    ada.page.wait("document.querySelector('#toast').innerText === 'Your account is erased.'")
    assert ada.page.read("document.querySelector('#profile').childElementCount") == 0
