"""Where a model's server is, and what it is shown of us: from a base URL as people copy it."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment

COMPLETIONS, RESPONSES = "/chat/completions", "/responses"
# What http.client would refuse in its own words, which have the key.
HEADER = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Address:
    """A server: `root` is what comes before a dialect's path, `query` what goes behind it.

    `headers` say who asks. `path` is the dialect's when the URL had one, else None.
    """

    root: str
    host: str
    query: str = ""
    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def url(self, path: str) -> str:
        """Where a dialect with this path is asked."""
        return self.root + path + (f"?{self.query}" if self.query else "")

    def name(self, path: str) -> str:
        """The same for people: the host and the path, without a query, a name or a password."""
        parts = urlsplit(self.root)
        return f"{parts.netloc}{parts.path}{path}"

    @classmethod
    def read(cls, base_url: str, api_key: str | None) -> "Address":
        """The server at a base URL, which may be the whole address, and may have a user in it.

        With an `api-version` in the query it is Azure's, which takes the key in a header of its
        own. Raises ValueError, in one line that names the setting and tells no secret, when URL
        or key cannot be used.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("OPENAI_BASE_URL is no http or https URL")
        if api_key and not HEADER.fullmatch(api_key):
            raise ValueError("OPENAI_API_KEY has characters that no header can carry")
        user, _, host = parts.netloc.rpartition("@")
        if user and api_key:
            raise ValueError(
                "OPENAI_BASE_URL has a user, and OPENAI_API_KEY is set: one header carries only one"
            )
        path, dialect = parts.path.rstrip("/"), None
        for each in (COMPLETIONS, RESPONSES):
            if path.endswith(each):
                path, dialect = path.removesuffix(each), each
        headers = _headers(user, api_key, "api-version=" in parts.query)
        root = f"{parts.scheme}://{host}{path}"
        return cls(root, parts.hostname, parts.query, dialect, headers)


def _headers(user: str, api_key: str | None, is_azure: bool) -> dict[str, str]:
    if user:
        return {"Authorization": f"Basic {_basic(user)}"}
    if not api_key:
        return {}
    return {"api-key": api_key} if is_azure else {"Authorization": f"Bearer {api_key}"}


def _basic(user: str) -> str:
    name, _, password = user.partition(":")
    return base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()


@dataclass(frozen=True)
class Proxies:
    """The proxies between us and servers, as `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` name them."""

    http: str | None = None
    https: str | None = None
    no: str = ""

    def between(self, url: str) -> str | None:
        """The proxy for a URL; None when its server is asked directly."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        is_direct = self.no and proxy_bypass_environment(parts.netloc, {"no": self.no})
        return None if is_direct else proxy
