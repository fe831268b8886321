"""Variables that look like settings and are none: a name that is misspelt changes nothing."""

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher

from runtime.config.settings import SETTINGS

# What other programs call the same thing.
ELSEWHERE = {
    "DB_URL": "DATABASE_URL",
    "EMAIL_FROM": "MAIL_FROM",
    "OPENAI_API_BASE": "OPENAI_BASE_URL",
    "OPENAI_MODEL": "AGENT_MODEL",
    "POSTGRES_URL": "DATABASE_URL",
}
# One letter of seven may be wrong (SMTP_URI), and one more in a longer name.
LIKENESS = 0.85


def misspelt(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each variable that is probably meant to be a setting, and that setting, which is unset."""
    is_set = {name for name, value in environ.items() if value.strip()}
    for name in sorted(is_set - SETTINGS.keys()):
        meant = [each for each in sorted(SETTINGS.keys() - is_set) if _means(name.upper(), each)]
        if meant:
            yield name, meant[0]


def _means(name: str, setting: str) -> bool:
    if ELSEWHERE.get(name) == setting:
        return True
    words, wanted = name.split("_"), setting.split("_")
    # OPENAI_KEY for OPENAI_API_KEY.
    is_shorter = len(words) > 1 and (words[0], words[-1]) == (wanted[0], wanted[-1])
    if is_shorter and set(words) <= set(wanted):
        return True
    return SequenceMatcher(None, "".join(words), "".join(wanted)).ratio() >= LIKENESS
