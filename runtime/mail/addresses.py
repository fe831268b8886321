"""Addresses as people type them, made into addresses as mail servers take them."""

# What a Chinese keyboard types for `@` and for a dot, whichever of its widths is on; IDNA takes
# these dots too (RFC 3490 §3.1). Letters and digits stay as they are: those that only look like
# ASCII's are refused, whatever script they are of.
_MARKS = {ord("＠"): "@", ord("．"): ".", ord("。"): ".", ord("｡"): "."}


def tidy(text: str) -> str:
    """`text` without ASCII spaces around it, and with a Chinese keyboard's `@` and dots as ASCII.

    It need not be an address, and what is wrong with it otherwise stays.
    """
    return text.translate(_MARKS).strip(" ")
