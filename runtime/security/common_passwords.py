"""What makes a password weak: that it is one of the most common, or its owner's own name.

The list is the one that zxcvbn carries, 30,000 passwords of real leaks, the most common first. It
is read from that package's data file alone, when it is first needed, and kept as one text. What
Chinese users choose first is not on it, and has rules of its own.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

from runtime.security import chinese_passwords
from runtime.security.passwords import normalized

# Asked for at the start, so that a package which is missing stops it.
[_FOLDER] = importlib.util.find_spec("zxcvbn").submodule_search_locations

# `19a87654321` is not the name `a12`, though without their digits both are `a`.
TELLING_CHARS = 3


def is_common(password: str) -> bool:
    """Whether a password is on the list or follows one of the rules, in whatever case."""
    word = normalized(password).casefold()
    if "\n" in word:
        return False
    return f"\n{word}\n" in _common() or chinese_passwords.is_common(word)


def is_like(password: str, *names: str) -> bool:
    """Whether a password is one of these names and nothing more.

    Case, all that is neither letter nor digit, and digits at either end make no difference: for
    `ada_l` those are `ADA_L`, `adal`, `Ada.L!` and `1adal1815`. What is left
    without the digits counts if it has TELLING_CHARS.
    """
    likenesses = {likeness for name in names for likeness in _likenesses(name)}
    return not likenesses.isdisjoint(_likenesses(password))


def _likenesses(text: str) -> set[str]:
    folded = normalized(text).casefold()
    bare = "".join(character for character in folded if character.isalnum())
    stripped = re.sub(r"^\d+|\d+$", "", bare)
    return {folded, bare, stripped if len(stripped) >= TELLING_CHARS else ""} - {""}


@cache
def _common() -> str:
    """The list as one text, a line each: a set of as many words would take ten times the memory.

    Importing the package would make tables of all its lists, which take 10 MB.
    """
    data = Path(_FOLDER) / "frequency_lists.py"
    spec = importlib.util.spec_from_file_location("zxcvbn_frequency_lists", data)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return "\n".join(["", *module.FREQUENCY_LISTS["passwords"], ""])
