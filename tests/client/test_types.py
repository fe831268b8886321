"""client.d.ts: what a strict compiler takes runs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import npm
from tests.client.scripted import CLIENT
from tests.servers import Service, program

TYPESCRIPT, NODE_TYPES = "typescript@7.0.2", "@types/node@20.19.21"
OPTIONS = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom", "dom.iterable", "dom.asynciterable"],
    "types": ["node"],
}


def compiled(folder: Path, source: str) -> subprocess.CompletedProcess:
    """What the compiler makes of a program beside the client and its types."""
    shutil.copy(CLIENT, folder)
    shutil.copy(CLIENT.with_name("client.d.ts"), folder / "client.d.mts")
    (folder / "program.mts").write_text(source)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS}))
    cache = npm.CACHE / "client-types"
    for package in (TYPESCRIPT, NODE_TYPES):
        modules = npm.installed(package, cache)
    (folder / "node_modules").symlink_to(modules)
    compiler = modules / ".bin" / "tsc"
    return subprocess.run([compiler], cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_strict_program_compiles_and_runs(tmp_path: Path):
    source = Path(__file__).with_name("program.ts").read_text()

    done = compiled(tmp_path, source)
    assert (done.returncode, done.stdout) == (0, "")

    settings = {"SECRET_KEY": "a-key-for-tests-" * 3}
    with Service(tmp_path / "service", settings) as service:
        ran = subprocess.run(
            [program("node"), tmp_path / "program.mjs"],
            env={"BASE": f"http://127.0.0.1:{service.port}", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["output"] == "[embedded model] 6 * 7 = 42."
    assert (said["status"], said["fault"]["pointer"]) == (422, "#/password")
    assert said["again"] == said["last"]
    assert (said["me"]["username"], said["gone"], said["back"]) == ("ada", None, said["user"])
    assert said["told"] == ["signedin", "signedout", "signedin"]


@pytest.mark.parametrize(
    "wrong",
    [
        "client.user.email;",
        "client.signUp({ username: 'a', email: 'b' });",
        "for await (const event of client.chat('a')) event.id.length;",
        "const id: string = (await client.signIn('a', 'b')).name;",
        "new Client({ bace: '' });",
    ],
)
def test_what_the_client_has_not_does_not_compile(tmp_path: Path, wrong: str):
    source = f'import {{ Client }} from "./client.mjs";\nconst client = new Client();\n{wrong}\n'

    done = compiled(tmp_path, source)

    assert done.returncode != 0
    assert "program.mts(3," in done.stdout
