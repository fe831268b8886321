"""The title of a chat that its user has given none."""

import unicodedata

# A title made from a message; a title that the user sets may be longer.
TITLE_CHARS = 60
JOINER = "\u200d"


def named_after(message: str) -> str:
    """A title: the first line with anything in it, cut between two words if need be.

    Where no space is near, as in Chinese, it is cut between two characters as they are seen, an
    accent or an emoji's colour going with what it belongs to.
    """
    lines = (" ".join(line.split()) for line in message.splitlines())
    line = next(filter(None, lines), "")
    if len(line) <= TITLE_CHARS:
        return line
    end = line.rfind(" ", TITLE_CHARS // 2, TITLE_CHARS + 1)
    if end < 0:
        end = TITLE_CHARS
        while end and _belong_together(line[end - 1], line[end]):
            end -= 1
    return f"{line[: end or TITLE_CHARS]}…"


def _belong_together(character: str, following: str) -> bool:
    is_mark = unicodedata.category(following) in ("Mn", "Mc", "Me", "Sk")
    return is_mark or JOINER in (character, following)
