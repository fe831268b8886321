"""What administrators see and do on the page, and nobody else."""

import subprocess
import sys

from runtime.config.settings import ROOT
from tests.page.conftest import PASSWORD, Visitor
from tests.servers import Service

PANEL = ".panel:nth-of-type(3)"


def promote(service: Service, email: str) -> None:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "promote", email]
    subprocess.run(command, cwd=ROOT, env=service.environ(), check=True, capture_output=True)


def press(visitor: Visitor, name: str) -> None:
    """Press the first button of the panel that has this name, and confirm."""
    buttons = f"[...document.querySelectorAll('{PANEL} li button')]"
    visitor.page.wait(f"{buttons}.some((each) => each.innerText === '{name}')")
    visitor.page.read(f"{buttons}.find((each) => each.innerText === '{name}').click()")
    visitor.page.wait("document.querySelector('dialog').open")
    visitor.click("dialog .danger")
    visitor.page.wait("!document.querySelector('dialog').open")


def test_an_administrator_looks_after_accounts(visitor: Visitor, service: Service):
    visitor.arrive()
    visitor.sign_up("mallory")
    visitor.click("#sign-out")
    visitor.page.wait("document.body.dataset.state === 'out'")
    visitor.sign_up("the_admin")
    promote(service, visitor.email)

    visitor.click(f"{PANEL} summary")
    visitor.page.wait(f"document.querySelectorAll('{PANEL} li').length >= 2")
    visitor.focus(f"{PANEL} input")
    visitor.page.type("mallory@")
    visitor.page.press("Enter")
    visitor.page.wait(f"document.querySelectorAll('{PANEL} li').length === 1")
    press(visitor, "End sessions")
    press(visitor, "Disable")
    press(visitor, "Enable")
    press(visitor, "Erase account")
    visitor.page.wait(f"!document.querySelector('{PANEL} li')")

    told = "document.querySelector('.panel pre').innerText"
    for number, word in enumerate(("runs", "queued", "limits", "status"), 1):
        visitor.click(f"{PANEL} > .quiet:nth-last-child({6 - number})")
        visitor.page.wait(f"{told}.includes('\"{word}\"')")
    assert '"database"' in str(visitor.page.read(told))


def test_nobody_else_sees_accounts(visitor: Visitor):
    visitor.arrive()
    visitor.sign_up("nosy")
    visitor.click(f"{PANEL} summary")

    visitor.page.wait(f"document.querySelector('{PANEL} li')")
    assert visitor.page.read(f"document.querySelector('{PANEL} ul').innerText") == (
        "You have no access to this."
    )
    assert PASSWORD not in visitor.text
