"""Each request as a line for curl, without its secrets on the screen."""

import json
import shutil
import subprocess

import pytest

from tests.agent.completions_server import CompletionsServer, answer
from tests.browser import Browser
from tests.page.conftest import PASSWORD, Visitor

LAST_COPY = (
    "[...document.querySelectorAll('#requests li')].findLast((each) => each.innerText.includes"
)


def curl_of(visitor: Visitor, request: dict) -> str:
    told = f"import('/page/wire.mjs').then(({{ curl }}) => curl({json.dumps(request)}))"
    return str(visitor.page.read(told))


def test_a_copied_line_asks_again(visitor: Visitor, browser: Browser, model: CompletionsServer):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    model.script(answer("Hello"))
    visitor.arrive()
    browser.grant("clipboardReadWrite", "clipboardSanitizedWrite")
    visitor.sign_up("ada_copies")
    visitor.say("It's 'quoted' $HOME `id` \\ !")
    visitor.wait_for("Hello")
    visitor.click("#wire summary")

    visitor.page.read(f"{LAST_COPY}('POST /api/v1/agent-chats')).querySelector('button').click()")
    visitor.page.wait("document.querySelector('#toast').innerText === 'Copied.'")
    line = str(visitor.page.read("navigator.clipboard.readText()"))
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)

    # Sent under the same key, it is the same run.
    assert "Hello" in ran.stdout
    asked = visitor.page.read("document.querySelectorAll('.question').length")
    assert asked == 1
    assert sum("quoted" in str(each.body) for each in model.requests) == 1


def test_a_line_is_one_command_whatever_is_in_it(visitor: Visitor):
    visitor.arrive()
    values = ["'", "'; touch /tmp/hit; '", "$(id)", "a\nb", '"', "\\", "@/etc/passwd", "{a,b}[1-3]"]
    told = [words_of(visitor, value) for value in values]

    assert [words[:4] for words in told] == [["curl", "-sgN", "-X", "POST"]] * len(values)
    assert [words[-1] for words in told] == values


def words_of(visitor: Visitor, value: str) -> list[str]:
    """What a shell makes of the line for a request with this in it."""
    request = {"method": "POST", "url": f"/x?q={value}", "headers": {"X-It": "a'b"}}
    line = curl_of(visitor, {**request, "body": value})
    command = ["bash", "-c", f"printf '%s\\0' {line}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return told.split("\0")[:-1]


def test_no_secret_is_shown(visitor: Visitor):
    visitor.arrive()
    visitor.sign_up("ada_hides")
    visitor.click("#sign-out")
    visitor.page.wait("document.body.dataset.state === 'out'")
    visitor.click("#wire summary")

    shown = str(visitor.page.read("document.querySelector('#requests').innerText"))
    assert "/auth/verifications" in shown
    assert "Bearer " in shown
    assert PASSWORD not in shown
    assert '"token":"…"' in shown
    assert '"refresh_token":"…"' in shown
