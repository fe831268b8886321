"""What an operator might have set up wrong, when a server answers as this one did."""

import re
from urllib.parse import urlsplit

from runtime.agent.events import ErrorCode
from runtime.agent.providers import ProviderError
from runtime.agent.providers.address import Address

# As people's base URLs end: /v1, /v1beta/openai, /api/v3, /openai, a cloud's deployment.
VERSION = re.compile(r"/(?:v\d|openai|api|deployments/)")


def hint(failure: ProviderError, address: Address) -> str | None:
    """A question for the operator about a failure, or None when nothing is likely."""
    status = failure.refusal.status if failure.refusal else None
    if status == 401:
        return "is OPENAI_API_KEY this server's?"
    if status == 402:
        return "has the account been paid for?"
    if status == 403:
        return "may this key use this model?"
    if status in (404, 405):
        return "is the model there?" if _has_version(address) else _version_missing(address)
    if status and 300 <= status < 400:
        return "is OPENAI_BASE_URL where it leads?"
    if failure.code == ErrorCode.PROVIDER_PROTOCOL:
        return "does OPENAI_BASE_URL lead to a model's server?"
    if failure.code == ErrorCode.PROVIDER_UNAVAILABLE and status is None:
        return "does a server run at OPENAI_BASE_URL, and may it be reached from here?"
    return None


def _has_version(address: Address) -> bool:
    return VERSION.search(urlsplit(address.root).path) is not None


def _version_missing(address: Address) -> str:
    return f"should OPENAI_BASE_URL end with /v1, as in {address.root}/v1?"
