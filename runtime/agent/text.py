"""Text that every reader takes: no lone surrogate and no NUL, which Postgres and UTF-8 refuse."""

import codecs


class TextCleaner:
    """Clean a text that comes in pieces; a surrogate pair split over two of them survives."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    def clean(self, piece: str, *, final: bool = False) -> str:
        """The piece without what cannot be stored; half a pair at its end waits for the next one.

        `final` says that no piece follows: half a pair becomes U+FFFD.
        """
        units = piece.replace("\0", "").encode("utf-16-le", "surrogatepass")
        return self._decoder.decode(units, final)


def clean(text: str) -> str:
    """The whole text, NUL dropped and lone surrogates replaced by U+FFFD."""
    return TextCleaner().clean(text, final=True)
