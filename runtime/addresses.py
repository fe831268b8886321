"""Addresses as people type them, made into addresses as mail servers take them."""

# A Chinese keyboard types U+FF01 to U+FF5E for ASCII's characters, among them ＠ and ．; U+3000 for
# a space; and 。 or ｡ for a dot, which IDNA takes for one too (RFC 3490 §3.1).
_HALF_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {
    0x3000: " ",
    0x3002: ".",
    0xFF61: ".",
}


def tidy(text: str) -> str:
    """`text` with full-width characters as ASCII, and without ASCII spaces around it.

    It need not be an address, and what is wrong with it otherwise stays.
    """
    return text.translate(_HALF_WIDTH).strip(" \t\r\n\v\f")
