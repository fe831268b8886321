"""What a finish_reason means, however a server spells it."""

from runtime.agent.events import ErrorCode

# In letters alone and small, as servers write them in all ways.
WORDS = {
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
_MEANINGS = {word: meaning for meaning, words in WORDS.items() for word in words}

# What the reader of a run is told about an answer that is not whole.
CODES = {
    "length": ErrorCode.ANSWER_TOO_LONG,
    "content_filter": ErrorCode.ANSWER_FILTERED,
    "error": ErrorCode.PROVIDER_INTERRUPTED,
}


def meaning_of(finish_reason: str) -> str:
    """What a server's word means: one of WORDS, or the word itself if it is unknown."""
    return _MEANINGS.get("".join(filter(str.isalnum, finish_reason)).lower(), finish_reason)
