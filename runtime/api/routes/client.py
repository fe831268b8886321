"""The client that front ends load, and its types. No part of the API's document."""

from functools import partial

from flask import Flask, Response, send_from_directory

from runtime.config.settings import ROOT

FOLDER = ROOT / "runtime" / "static"
# TypeScript looks for the types of client.mjs beside it, in client.d.mts.
FILES = {
    "client.mjs": ("client.mjs", "text/javascript"),
    "client.d.ts": ("client.d.ts", "text/plain"),
    "client.d.mts": ("client.d.ts", "text/plain"),
}


def init_app(app: Flask) -> None:
    """A path for each file, at the root; CORS_ORIGINS says which other pages may load them."""
    for name, (file, kind) in FILES.items():
        app.add_url_rule(f"/{name}", f"client_{name.replace('.', '_')}", partial(_get, file, kind))


def _get(file: str, kind: str) -> Response:
    return send_from_directory(FOLDER, file, mimetype=kind)
