"""The page at `/`, to try the service in a browser, if PAGE is on. No part of the API's document.

It is the files of `runtime/static/page`: it does all else over the API.
"""

import ipaddress
import re
from collections.abc import Mapping
from datetime import datetime

from flask import Flask, Response, current_app, request, send_from_directory
from werkzeug.exceptions import NotFound

from runtime.api import http
from runtime.config.settings import ROOT
from runtime.mail.queue import mail

FOLDER = ROOT / "runtime" / "static" / "page"
# What is served, by its suffix. Python's own table depends on files of the system.
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}
OUTBOX_MAILS = 20

_OWN_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
# What proxies add. A caller behind one is not known to be this machine.
_FORWARDING = re.compile(r"HTTP_(?:X_FORWARDED.*|FORWARDED|VIA|X_REAL_IP|.*_CONNECTING_IP)")


def init_app(app: Flask) -> None:
    """The page's paths, if it is on; without them `/` is 404 as any other path."""
    if app.config["PAGE"]:
        app.add_url_rule("/", "page", _get_file, defaults={"name": "index.html"})
        app.add_url_rule("/page/<name>", "page_file", _get_file)
        app.add_url_rule("/page/outbox", "page_outbox", _get_outbox)


def _get_file(name: str) -> Response:
    kind = next((kind for suffix, kind in TYPES.items() if name.endswith(suffix)), None)
    if kind is None:
        raise NotFound
    return send_from_directory(FOLDER, name, mimetype=kind)


def _get_outbox() -> Response:
    """The newest mails, for who tries the service on this machine and has no mail server."""
    outbox = mail.outbox
    if outbox is None or current_app.config["TRUSTED_PROXIES"] or not is_this_machine():
        raise NotFound
    mails = [{**mail._asdict(), "at": _told(mail.at)} for mail in outbox.newest(OUTBOX_MAILS)]
    return current_app.json.response({"mails": mails})


def _told(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_this_machine() -> bool:
    """Whether the caller is a program or a page of this machine, as far as can be told.

    A page of another site, which has its own name lead to this machine (DNS rebinding), still
    names its own host. nginx, if it is told no better, names ours and adds nothing, but speaks
    HTTP/1.0.
    """
    environ = http.current_request().environ
    return (
        _is_loopback(environ.get("REMOTE_ADDR", ""))
        and environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
        and not any(map(_FORWARDING.fullmatch, environ))
        and bool(_OWN_HOST.fullmatch(request.headers.get("Host", "")))
        and _is_same_origin(request.headers)
    )


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # A socket that is a file has none.
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _is_same_origin(headers: Mapping[str, str]) -> bool:
    """Of programs that are no browser too, which send neither header."""
    host = headers.get("Host", "").lower()
    return (
        headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
        and headers.get("Origin", f"http://{host}") == f"http://{host}"
    )
