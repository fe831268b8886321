"""openapi-typescript and @hey-api/openapi-ts make clients that `tsc --strict` accepts."""

import json
import shutil
import subprocess
from pathlib import Path

from tests import npm
from tests.servers import Service

HERE = Path(__file__).parent
PACKAGES = (
    "@hey-api/openapi-ts@0.95.0",
    "openapi-typescript@7.13.0",
    "openapi-fetch@0.17.0",
    "typescript@5.9.3",
    "@types/node@26",
)


def run(folder: Path, *command: str) -> str:
    """What a command prints. Raises AssertionError with it when the command fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_programs_of_both_generators_compile_and_run(tmp_path: Path, service: Service):
    modules = [npm.installed(each, npm.CACHE / "openapi-typescript") for each in PACKAGES][-1]
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for name in ("program.ts", "hey.ts", "tsconfig.json", "openapi-ts.config.mjs"):
        shutil.copy(HERE / name, tmp_path)
    document = service.client.get("/openapi.json", **{"Accept-Language": "en"})
    (tmp_path / "openapi.json").write_text(json.dumps(document.json), "utf-8")

    run(tmp_path, "node_modules/.bin/openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    run(tmp_path, "node_modules/.bin/openapi-ts")
    run(tmp_path, "node_modules/.bin/tsc", "-p", ".")
    base, outbox = f"http://127.0.0.1:{service.port}", Path(service.settings["INSTANCE_PATH"])
    printed = run(tmp_path, "node", "program.js", base, str(outbox / "outbox"))

    assert printed.splitlines() == ["true", "true", "null", "204"]
    assert run(tmp_path, "node", "hey.js", base).splitlines() == ["true", "204"]
