"""What an operator might have set up wrong, when a server answers as this one did."""

import re
from urllib.parse import urlsplit

from runtime.agent.events import ErrorCode
from runtime.agent.providers.address import Address
from runtime.agent.providers.endings import is_of_key, is_of_model
from runtime.agent.providers.provider import ProviderError

# As people's base URLs end: /v1, /v1beta/openai, /api/v3, /openai, a cloud's deployment.
VERSION = re.compile(r"/(?:v\d|openai|api|deployments/)")
# Nothing is at the address, or nothing that is asked so.
MISSING = (404, 405)


def hint(failure: ProviderError, address: Address) -> str | None:
    """A question for the operator about a failure, or None when nothing is likely."""
    refusal = failure.refusal
    status = refusal.status if refusal else None
    if refusal and is_of_key(refusal):
        return "is OPENAI_API_KEY this server's?"
    if (refusal and is_of_model(refusal)) or (status in MISSING and _has_version(address)):
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


def _has_version(address: Address) -> bool:
    return VERSION.search(urlsplit(address.root).path) is not None
