"""How an answer ends: what a finish_reason means, and errors of any shape in its place."""

from typing import Any

from runtime.agent.events import ErrorCode
from runtime.agent.providers.provider import ProviderError
from runtime.agent.providers.refusal import SENTENCES, Refusal

# In letters alone and small, as servers write them in all ways.
KINDS = {
    "stop": (
        *("stop", "endturn", "eos", "eostoken", "eossequence", "stopsequence", "stopword"),
        *("toolcalls", "toolcall", "tooluse", "functioncall", "complete", "completed", "done"),
        *("end", "finish", "finished", "success"),
    ),
    "length": ("length", "maxtokens", "maxoutputtokens", "maxlength", "modellength", "toolong"),
    "content_filter": (
        *("contentfilter", "contentfiltered", "filter", "filtered", "safety", "recitation"),
        *("blocklist", "prohibitedcontent", "spii", "sensitive", "guardrail", "refusal"),
    ),
    "error": ("error", "failed", "networkerror", "engineerror", "servererror"),
}
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}

# What the reader of a run is told about an answer that is not whole.
CODES = {
    "length": ErrorCode.ANSWER_TOO_LONG,
    "content_filter": ErrorCode.ANSWER_FILTERED,
    "error": ErrorCode.PROVIDER_INTERRUPTED,
}


# A server that refuses who asks, or has not what is asked for: no user can do anything about it.
MISCONFIGURED = (401, 402, 403, 404, 405, 407, 429)
# Statuses of a moment, for which others are as likely to be served.
MOMENTARY = (408, 409, 425, 429)
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


def kind_of(finish_reason: str) -> str:
    """What a server's word means: one of KINDS, or the word itself where nobody knows."""
    return _KIND_OF.get("".join(filter(str.isalnum, finish_reason)).lower(), finish_reason)


def failure_in(event: dict[str, Any], has_begun: bool) -> ProviderError | None:
    """The failure that an object of a stream tells of, if it does; `has_begun`: behind an answer's
    beginning.
    """
    if not _is_error(event):
        return None
    refusal = Refusal.read(event)
    if has_begun:
        return ProviderError(ErrorCode.PROVIDER_INTERRUPTED, refusal.message)
    return refused(refusal)


def _is_error(event: dict[str, Any]) -> bool:
    if event.get("error") or event.get("errors"):
        return True
    if "error" in (event.get("object"), event.get("type"), event.get("status")):
        return True
    is_answer = "choices" in event or "usage" in event or "response" in event
    return not is_answer and any(event.get(name) for name in SENTENCES)


def is_of_key(refusal: Refusal) -> bool:
    """Whether it is the key that the server refuses."""
    return refusal.status == 401 or refusal.says(WRONG_KEY)


def is_of_model(refusal: Refusal) -> bool:
    """Whether the server says that it has not the model."""
    return refusal.says(WRONG_MODEL)


def refused(
    refusal: Refusal, message: str | None = None, retry_after: float | None = None
) -> ProviderError:
    """The failure that a refusal is before anything of an answer came."""
    status, message = refusal.status or 400, message or refusal.message
    is_transient = status >= 500 or (status in MOMENTARY and not refusal.says(UNPAID))
    code = ErrorCode.PROVIDER_REJECTED
    if is_transient:
        is_busy = status in (429, 529)
        code = ErrorCode.PROVIDER_BUSY if is_busy else ErrorCode.PROVIDER_UNAVAILABLE
    elif refusal.says(FILTERED):
        code = ErrorCode.REQUEST_FILTERED
    elif _is_of_set_up(status, refusal):
        code = ErrorCode.PROVIDER_MISCONFIGURED
    return ProviderError(code, message, retry_after, refusal=refusal, is_transient=is_transient)


def _is_of_set_up(status: int, refusal: Refusal) -> bool:
    is_said = is_of_key(refusal) or is_of_model(refusal)
    return status in MISCONFIGURED or 300 <= status < 400 or is_said
