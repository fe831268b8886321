"""The manual's recipe for CopilotKit's Node runtime, run as it is printed.

npm needs minutes to install the runtime where it is not yet.
"""

import os
import subprocess
from collections.abc import Iterator

import pytest
import urllib3

from tests import npm
from tests.documented_commands import blocks_of
from tests.front_ends import Stage
from tests.recipes.conftest import MANUAL
from tests.servers import Server, program

pytestmark = pytest.mark.slow

PACKAGE = "@copilotkit/runtime@1.75.0"
FILE = "copilot-runtime.mjs"
NOTHING = {"messages": [], "tools": [], "context": [], "state": {}, "forwardedProps": {}}


class Runtime(Server):
    """The runtime, in front of the service."""

    def command(self) -> list[str]:
        return [program("node"), str(self.folder / FILE)]

    def popen(self, **options) -> subprocess.Popen:
        ours = {"PORT": str(self.port), "COPILOTKIT_TELEMETRY_DISABLED": "true"}
        return super().popen(env=os.environ | ours, **options)

    def ask(self, what: str, body: dict, token: str | None) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        path = f"/api/copilotkit/agent/default/{what}"
        url = f"http://127.0.0.1:{self.port}{path}"
        return urllib3.request("POST", url, json=body, headers=headers)


@pytest.fixture(scope="module")
def runtime(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    modules = npm.installed(PACKAGE, npm.CACHE / "recipe-copilotkit-runtime@1.75.0", seconds=600)
    folder = tmp_path_factory.mktemp("copilot")
    (folder / "node_modules").symlink_to(modules)
    [block] = [block for block in blocks_of(MANUAL) if block.detail.endswith(FILE)]
    base = f"http://127.0.0.1:{stage.service.port}"
    (folder / FILE).write_text(block.text.replace("http://127.0.0.1:8000", base))
    with Runtime(folder).start() as runtime:
        yield runtime


def test_only_the_user_of_a_chat_is_shown_it(stage: Stage, runtime: Runtime):
    token = stage.pair["access_token"]
    thread, hello = {"threadId": "t"}, {"id": "u1", "role": "user", "content": "hello"}
    said = runtime.ask("run", {**thread, "runId": "1", **NOTHING, "messages": [hello]}, token)
    runtime.stop()
    runtime.start()
    again = {**thread, "runId": "2", **NOTHING}

    assert b'"delta":"Hello."' in said.data
    assert b'"content":"Hello."' in runtime.ask("connect", again, token).data
    assert runtime.ask("connect", again, None).data == b""
    assert runtime.ask("connect", again, "nobody's").data == b""


def test_only_the_user_of_a_chat_stops_it(stage: Stage, runtime: Runtime):
    token = stage.pair["access_token"]

    assert runtime.ask("stop/t", {}, None).status == 401
    assert runtime.ask("stop/t", {}, token).json()["stopped"] is True
