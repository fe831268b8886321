"""Letters on a phone, as a browser sets them."""

import re
import subprocess
from html import escape
from pathlib import Path

import pytest

from runtime.caller import Caller
from runtime.i18n import LANGUAGES
from runtime.mail.letters import MailedCode
from tests.browser import program
from tests.mail.test_letters import AT, every_letter, letters

PHONE = 390
# The longest that each may be, without a place to break at.
LONG_LINK = "https://app.example.org/" + "w" * 2000
LONGEST = MailedCode(
    "W" * 30, "888888", LONG_LINK, Caller("2001:db8:1234:5600::/56", "W" * 64, at=AT)
)
LONG_EMAIL = "w" * 64 + "@" + ("w" * 61 + ".") * 3 + "org"

MEASURE = """
<script>
onload = () => document.title = [...document.querySelectorAll("iframe")].map((frame) =>
  frame.name + "=" + frame.contentDocument.scrollingElement.scrollWidth).join(" ");
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    return program()


def measure(browser: str, pages: dict[str, str], folder: Path) -> dict[str, int]:
    """How wide each page is on a phone, by name."""
    frames = (
        f'<iframe name="{name}" width="{PHONE}" height="800" srcdoc="{escape(page)}"></iframe>'
        for name, page in pages.items()
    )
    file = folder / "letters.html"
    file.write_text(f"<!DOCTYPE html><meta charset=utf-8>{MEASURE}{''.join(frames)}", "utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile")
    ran = subprocess.run(
        [browser, *options, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search("<title>(.*?)</title>", ran.stdout)
    assert title, ran.stderr[-2000:]
    return {name: int(width) for name, width in re.findall(r"(\S+)=(\d+)", title[1])}


def test_no_letter_is_wider_than_a_phone(browser: str, tmp_path: Path):
    pages = {
        f"{name}-{language}": letter.html
        for language in LANGUAGES
        for name, letter in every_letter(letters, language, LONGEST, LONG_EMAIL, "k" * 76).items()
    }
    # What is too wide is seen to be.
    pages["too-wide"] = f"<p>{'w' * 100}"

    widths = measure(browser, pages, tmp_path)

    assert widths.keys() == pages.keys()
    assert widths.pop("too-wide") > PHONE
    assert {name: width for name, width in widths.items() if width > PHONE} == {}
