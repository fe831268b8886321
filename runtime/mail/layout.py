"""How a mail looks: the same parts as text, and as a plain card in HTML.

Everything is inline and nothing is loaded, since mail clients drop style sheets and block what
comes from elsewhere. The card has no colours but a button's: its lines and its small print are the
reader's own text colour, seen through, so that light and dark are both right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

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
_CODE = f"font:bold 32px/1.3 {_MONO};letter-spacing:4px;white-space:nowrap;{_SELECT}"
_KEY = f"font:14px/1.5 {_MONO};{_BREAK};{_SELECT}"
_BUTTON = (
    "display:inline-block;padding:10px 20px;border-radius:8px;background:#1d5fd1;"
    "color:#ffffff;font-weight:bold;text-decoration:none"
)

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
    `name` is what it has in `letters.TEMPLATES`.
    """

    subject: str
    text: str
    html: str
    is_wanted: Callable[[], bool] | None = field(default=None, compare=False, repr=False)
    name: str = field(default="", compare=False)


class Part(NamedTuple):
    """A paragraph or a block of a letter, as plain text and as HTML. Labels end in a colon."""

    text: str
    html: str


def paragraph(sentence: str) -> Part:
    """A sentence or several, as they are."""
    return Part(sentence, _p("0 0 16px", escape(sentence)))


def code(username_label: str, username: str, label: str, digits: str) -> Part:
    """A username and the code of few digits for it, to be typed."""
    whose = f"{escape(username_label)}<strong>{escape(username)}</strong>"
    shown = f'<span style="{_CODE}">{escape(digits)}</span>'
    html = _p("20px 0 12px", f"{whose}<br>{escape(label)}<br>{shown}")
    return Part(f"{username_label}{username}\n{label}{digits}", html)


def key(label: str, token: str) -> Part:
    """A long key, to be copied."""
    shown = f'<span style="{_KEY}">{escape(token)}</span>'
    return Part(label + token, _p("0 0 16px", f"{escape(label)}<br>{shown}"))


def facts(labelled: Sequence[tuple[str, str]]) -> Part:
    """Short lines, a label and a value each; two labels may be the same word."""
    lines = (f"{escape(label)}<strong>{escape(value)}</strong>" for label, value in labelled)
    text = "\n".join(label + value for label, value in labelled)
    return Part(text, _p("0 0 12px", "<br>".join(lines)))


def button(name: str, label: str, url: str) -> Part:
    """A link; its address is also there to be read and copied."""
    link = escape(url)
    shown = _p("16px 0 8px", f'<a href="{link}" style="{_BUTTON}">{escape(name)}</a>')
    html = f'{shown}\n<p style="{_SMALL};{_BREAK}">{link}</p>'
    return Part(f"{label.rstrip()}\n{url}", html)


def _p(margin: str, html: str) -> str:
    return f'<p style="margin:{margin}">{html}</p>'


def set_letter(lang: str, subject: str, title: str, parts: Sequence[Part], footer: str) -> Letter:
    """Set the parts under a title and above a footer, once as text and once as HTML."""
    paragraphs = [title, *(part.text for part in parts), f"--\n{footer}"]
    html = _PAGE.format(
        lang=lang,
        subject=escape(subject),
        title=escape(title),
        body="\n".join(part.html for part in parts),
        footer=escape(footer),
        font=_FONT,
        wrap=_WRAP,
        small=_SMALL,
        line=_LINE,
    )
    return Letter(subject, "\n\n".join(paragraphs) + "\n", html)
