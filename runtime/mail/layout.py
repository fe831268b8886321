"""How a mail looks: the same parts as text, and as a plain card in HTML.

Everything is inline and nothing is loaded, since mail clients drop style sheets and block what
comes from elsewhere. The card has no colours but a button's: its lines and its small print are the
reader's own text colour, seen through, so that light and dark are both right.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

# Long words (a key, a link, an address of 254 characters) break rather than widen the page. Of the
# two properties old clients know the second.
_WRAP = "overflow-wrap:anywhere;word-break:break-word"
_BREAK = "overflow-wrap:anywhere;word-break:break-all"
_SMALL = "margin:0 0 12px;font-size:13px;line-height:1.5;opacity:.7"
_SELECT = "-webkit-user-select:all;user-select:all"
_LINE = "1px solid rgba(128,128,128,.4)"
_FONT = (
    "-apple-system,'Segoe UI',Roboto,'PingFang SC','Microsoft YaHei','Noto Sans CJK SC',sans-serif"
)
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"

_PAGE = """\
<!DOCTYPE html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{subject}</title>
</head>
<body style="margin:0;padding:16px 8px;font:16px/1.6 {font};{wrap}">
<div style="box-sizing:border-box;max-width:560px;margin:0 auto;padding:24px 20px 12px;\
border:{line};border-radius:12px">
<h1 style="margin:0 0 16px;font-size:22px;line-height:1.3">{title}</h1>
{body}
<p style="{small};margin-top:24px;padding-top:12px;border-top:{line}">{footer}</p>
</div>
</body>
</html>
"""


@dataclass(frozen=True)
class Letter:
    """One mail without its envelope; the text says everything that the HTML does.

    `is_wanted` is asked before each try to send it: whether what it says still holds. None: always.
    """

    subject: str
    text: str
    html: str
    is_wanted: Callable[[], bool] | None = field(default=None, compare=False, repr=False)


class Part(ABC):
    """A paragraph or a block of a letter, in two forms."""

    @abstractmethod
    def text(self) -> str:
        """The part as plain text."""

    @abstractmethod
    def html(self) -> str:
        """The part as HTML, all that anybody typed escaped."""


@dataclass(frozen=True)
class Paragraph(Part):
    sentence: str

    def text(self) -> str:
        return self.sentence

    def html(self) -> str:
        return f'<p style="margin:0 0 16px">{escape(self.sentence)}</p>'


@dataclass(frozen=True)
class Code(Part):
    """A username and the code of few digits for it, to be typed; labels end in a colon."""

    username: tuple[str, str]
    label: str
    code: str

    def text(self) -> str:
        return f"{''.join(self.username)}\n{self.label}{self.code}"

    def html(self) -> str:
        style = f"font:bold 32px/1.3 {_MONO};letter-spacing:4px;white-space:nowrap;{_SELECT}"
        label, username = map(escape, self.username)
        return (
            f'<p style="margin:20px 0 12px">{label}<strong>{username}</strong><br>'
            f'{escape(self.label)}<br><span style="{style}">{escape(self.code)}</span></p>'
        )


@dataclass(frozen=True)
class Key(Part):
    """A long key, to be copied."""

    label: str
    key: str

    def text(self) -> str:
        return self.label + self.key

    def html(self) -> str:
        style = f"font:14px/1.5 {_MONO};{_BREAK};{_SELECT}"
        return (
            f'<p style="margin:0 0 16px">{escape(self.label)}<br>'
            f'<span style="{style}">{escape(self.key)}</span></p>'
        )


@dataclass(frozen=True)
class Facts(Part):
    """Short lines, each a label that ends in a colon and its value."""

    lines: tuple[tuple[str, str], ...]

    def text(self) -> str:
        return "\n".join(label + value for label, value in self.lines)

    def html(self) -> str:
        lines = (f"{escape(label)}<strong>{escape(value)}</strong>" for label, value in self.lines)
        return f'<p style="margin:0 0 12px">{"<br>".join(lines)}</p>'


@dataclass(frozen=True)
class Button(Part):
    """A link; its address is also there to be read and copied. `label` ends in a colon."""

    name: str
    label: str
    url: str

    def text(self) -> str:
        return f"{self.label.rstrip()}\n{self.url}"

    def html(self) -> str:
        url = escape(self.url)
        style = (
            "display:inline-block;padding:10px 20px;border-radius:8px;background:#1d5fd1;"
            "color:#ffffff;font-weight:bold;text-decoration:none"
        )
        return (
            f'<p style="margin:16px 0 8px"><a href="{url}" style="{style}">{escape(self.name)}</a>'
            f'</p>\n<p style="{_SMALL};{_BREAK}">{url}</p>'
        )


def set_letter(lang: str, subject: str, title: str, parts: Sequence[Part], footer: str) -> Letter:
    """Set the parts under a title and above a footer, once as text and once as HTML."""
    paragraphs = [title, *(part.text() for part in parts), f"--\n{footer}"]
    html = _PAGE.format(
        lang=lang,
        subject=escape(subject),
        title=escape(title),
        body="\n".join(part.html() for part in parts),
        footer=escape(footer),
        font=_FONT,
        wrap=_WRAP,
        small=_SMALL,
        line=_LINE,
    )
    return Letter(subject, "\n\n".join(paragraphs) + "\n", html)
