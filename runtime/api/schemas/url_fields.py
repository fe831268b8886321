"""URLs: of an avatar, and where the link in a mail leads."""

import ipaddress
import re

from runtime.api.schemas import avatar_urls
from runtime.api.schemas.fields import String

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?::(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}))?"
_CHARACTER = (
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef-]|%[0-9A-Fa-f]{2})"
)
_REST = rf"(?:/{_CHARACTER}*)?(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?"


class WebURL(String):
    """An absolute http or https URL (RFC 3986, RFC 3987), without user information."""

    def __init__(self, **kwargs):
        super().__init__(
            high=2048,
            pattern=rf"[Hh][Tt][Tt][Pp][Ss]?://{_HOST}{_PORT}{_REST}",
            mismatch="not_a_url",
            metadata={"format": "iri"},
            **kwargs,
        )


class RedirectTo(WebURL):
    """Where the link in a mail leads: in ASCII, so that no text of the asker's is in the mail."""

    def __init__(self, **kwargs):
        super().__init__(
            allow_none=True,
            load_default=None,
            description="邮件中链接的去处，须在 REDIRECT_ALLOWLIST 中；只能有 ASCII 字符，"
            "查询与片段中不能有名为 `email`、`token` 或 `restoration` 的参数。",
            check=_fault_of,
            **kwargs,
        )


class AvatarURL(String):
    """An absolute http or https URL, as browsers take it, without user information."""

    def __init__(self, **kwargs):
        super().__init__(
            high=2048,
            allow_none=True,
            example="https://example.org/ada.png",
            metadata={"pattern": f"^{avatar_urls.PATTERN}$"},
            description="http 或 https 的完整网址，原样保存；服务器不会访问它。",
            check=avatar_urls.fault_of,
            **kwargs,
        )


def _fault_of(url: str) -> str | None:
    """More than a pattern can say: urlsplit() raises on a literal that is no address."""
    literal = re.match(r"(?i:https?)://\[(.*?)\]", url)
    if not url.isascii() or (literal and not _is_ipv6(literal[1])):
        return "not_a_url"
    return None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
