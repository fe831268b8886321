"""Failures as the loop knows them, of what a server says, or of the connection to it.

And what an operator might have set up wrong when a server answers so.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from runtime.agent.events import ErrorCode
from runtime.agent.providers.address import Address
from runtime.agent.providers.provider import ProviderError
from runtime.agent.providers.server_error import SENTENCES, ServerError

# A server that refuses who asks, or has not what is asked for: no user can do anything about it.
MISCONFIGURED = (401, 402, 403, 404, 405, 407, 429)
# Statuses of a moment, for which others are as likely to be served.
MOMENTARY = (408, 409, 425, 429)
# Nothing is at the address, or nothing that is asked so.
MISSING = (404, 405)
# The same in words, as some say it with a 400.
WRONG_KEY = (
    r"\b(?:api|access)[ _-]?(?:key|token)\b[^.;\n]{0,30}\b(?:invalid|not valid|incorrect|missing)"
    r"|\b(?:invalid|incorrect|wrong|missing|no|valid) (?:api|access)[ _-]?(?:key|token)\b"
)
WRONG_MODEL = (
    r"\bmodel\b[^.;\n]{0,60}\b(?:not found|not exist|no longer exists?)|模型[^。；\n]{0,20}不存在"
    r"|\b(?:no such|unknown|invalid) model\b|model_not_found"
)
# A 429 that no waiting mends.
UNPAID = r"insufficient.?(?:quota|balance|funds|credit)|billing|not.?paid|arrears"
# How filters say that what was asked is not answered.
FILTERED = r"content.?(?:filter|policy|management)|moderation|flagged|responsible.?ai|inappropriate"
# As people's base URLs end: /v1, /v1beta/openai, /api/v3, /openai, a cloud's deployment.
VERSION = re.compile(r"/(?:v\d|openai|api|deployments/)")


def failure_in(event: dict[str, Any], has_begun: bool) -> ProviderError | None:
    """The failure that an object of a stream tells of, if it does; see `failed`."""
    return failed(ServerError.read(event), has_begun) if _is_error(event) else None


def _is_error(event: dict[str, Any]) -> bool:
    if event.get("error") or event.get("errors"):
        return True
    if "error" in (event.get("object"), event.get("type"), event.get("status")):
        return True
    is_answer = "choices" in event or "usage" in event or "response" in event
    return not is_answer and any(event.get(name) for name in SENTENCES)


def failed(error: ServerError, has_begun: bool) -> ProviderError:
    """The failure of a stream that ends in an error; `has_begun`: behind an answer's beginning."""
    if has_begun:
        return ProviderError(ErrorCode.PROVIDER_INTERRUPTED, error.message)
    return refused(error)


def refused(
    error: ServerError, message: str | None = None, retry_after: float | None = None
) -> ProviderError:
    """The failure that an error is before anything of an answer came."""
    status, message = error.status or 400, message or error.message
    is_transient = status >= 500 or (status in MOMENTARY and not error.says(UNPAID))
    is_misconfigured = status in MISCONFIGURED or 300 <= status < 400
    code = ErrorCode.PROVIDER_REJECTED
    if is_transient:
        is_busy = status in (429, 529)
        code = ErrorCode.PROVIDER_BUSY if is_busy else ErrorCode.PROVIDER_UNAVAILABLE
    elif error.says(FILTERED):
        code = ErrorCode.REQUEST_FILTERED
    elif is_misconfigured or _is_of_key(error) or error.says(WRONG_MODEL):
        code = ErrorCode.PROVIDER_MISCONFIGURED
    return ProviderError(code, message, retry_after, server_error=error, is_transient=is_transient)


def _is_of_key(error: ServerError) -> bool:
    return error.status == 401 or error.says(WRONG_KEY)


def connection_failure(error: HTTPError, host: str, is_accepted: bool) -> ProviderError:
    """The failure of a connection, in words without a library's names for it.

    `is_accepted` says that an answer had begun, if only with its headers.
    """
    code = ErrorCode.PROVIDER_INTERRUPTED if is_accepted else ErrorCode.PROVIDER_UNAVAILABLE
    what = f"the connection to {host} broke off"
    if isinstance(error, ReadTimeoutError):
        code, what = ErrorCode.PROVIDER_TIMEOUT, f"{host} sends no more"
    elif isinstance(error, ConnectTimeoutError | ProxyError | SSLError):
        what = f"cannot connect to {host}"
    is_transient = code != ErrorCode.PROVIDER_TIMEOUT
    return ProviderError(code, f"{what}{_reason(error)}", is_transient=is_transient)


def _reason(error: BaseException) -> str:
    """What the system said at first, behind a colon; nothing if it said nothing."""
    said = ""
    cause: BaseException | None = error
    while cause:
        said = str(cause.strerror or cause) if isinstance(cause, OSError) else said
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return f": {said}" if said else ""


def hint(failure: ProviderError, address: Address) -> str | None:
    """A question for the operator about a failure, or None when nothing is likely."""
    error = failure.server_error
    status = error.status if error else None
    if error and _is_of_key(error):
        return "is OPENAI_API_KEY this server's?"
    has_version = VERSION.search(urlsplit(address.root).path) is not None
    if (error and error.says(WRONG_MODEL)) or (status in MISSING and has_version):
        return "is AGENT_MODEL one of this server's?"
    if status == 402:
        return "has the account been paid for?"
    if status == 403:
        return "may this key use this model?"
    if status in MISSING:
        return f"should OPENAI_BASE_URL end with /v1, as in {address.root}/v1?"
    if status == 407:
        return "does the proxy take the user in HTTP_PROXY or HTTPS_PROXY?"
    if status and 300 <= status < 400:
        return "is OPENAI_BASE_URL where it leads?"
    if failure.code == ErrorCode.PROVIDER_PROTOCOL:
        return "does OPENAI_BASE_URL lead to a model's server?"
    if failure.code == ErrorCode.PROVIDER_UNAVAILABLE and status is None:
        return "does a server run at OPENAI_BASE_URL, and may it be reached from here?"
    return None
