"""/client.mjs and its types"""

from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from runtime.api.routes.client import FOLDER

TYPES = {
    "/client.mjs": "text/javascript",
    "/client.d.ts": "text/plain",
    "/client.d.mts": "text/plain",
}
MAX_LINES = 250


def get(app, path: str, **headers: str) -> TestResponse:
    return app.test_client().get(path, headers=headers, buffered=True)


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
@pytest.mark.parametrize("page", ["on", "off"])
def test_the_client_is_served_whether_or_not_the_page_is(
    serve: Callable, settings: dict, path: str, kind: str, page: str
):
    app = serve({**settings, "PAGE": page})

    answer = get(app, path)

    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert answer.headers["Content-Type"].endswith("charset=utf-8")
    assert answer.headers["Cache-Control"] == "no-cache"
    again = get(app, path, **{"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", TYPES)
def test_the_client_loads_into_pages_of_allowed_origins(serve: Callable, settings: dict, path: str):
    app = serve({**settings, "CORS_ORIGINS": "https://app.example.org"})

    allowed = get(app, path, Origin="https://app.example.org")
    other = get(app, path, Origin="https://evil.example")

    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert "Access-Control-Allow-Origin" not in other.headers
    assert allowed.headers["Vary"] == other.headers["Vary"] == "Origin"


def test_the_client_is_short_and_stands_alone():
    text = (FOLDER / "client.mjs").read_text(encoding="utf-8")
    lines = text.splitlines()

    assert 100 < len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 100
    assert "import " not in text and "require(" not in text
