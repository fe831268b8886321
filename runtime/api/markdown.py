"""The manual's Markdown as HTML: headings, paragraphs, lists, tables, code, links; nothing else.

Text stays text: all HTML in it is escaped. A page that needs more Markdown than this is
written with less.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

_BLOCKS = re.compile(
    r"^```[^\n]*\n(?P<code>.*?)^```$"
    r"|^(?P<marks>#{1,4}) (?P<heading>[^\n]+)$"
    r"|(?P<table>(?:^\|[^\n]*\n?)+)"
    r"|(?P<bullets>(?:^- [^\n]*\n?(?:^ {2}[^\n]*\n?)*)+)"
    r"|(?P<steps>(?:^[0-9]+\. [^\n]*\n?(?:^ {3}[^\n]*\n?)*)+)"
    r"|(?P<paragraph>(?:^(?!```|#{1,4} |\||- |[0-9]+\. )[^\n]+\n?)+)",
    re.MULTILINE | re.DOTALL,
)
_SPANS = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|\[(?P<label>[^\]]+)\]\((?P<to>[^)\s]+)\)"
    r"|<(?P<url>https?://[^>\s]+)>"
)


@dataclass(frozen=True)
class Heading:
    """One of a page's headings: `level` is 1 to 4, `id` its anchor, as GitHub makes it."""

    level: int
    text: str
    id: str


@dataclass(frozen=True)
class Page:
    """A page as HTML, and its headings in their order."""

    html: Markup
    headings: list[Heading]


def render(text: str, find_href: Callable[[str], str | None]) -> Page:
    """The page of a Markdown text.

    `find_href` maps a link's target to its address; None leaves the label without a link.
    """
    headings: list[Heading] = []
    parts = []
    for block in _BLOCKS.finditer(text):
        kind = block.lastgroup
        if kind == "heading":
            headings.append(_heading(block["marks"], block["heading"]))
        parts.append(_block(block, kind, headings, find_href))
    return Page(Markup("\n").join(parts), headings)


def _block(block: re.Match, kind: str, headings: list[Heading], find_href: Callable) -> Markup:
    text = block[kind]
    if kind == "code":
        # It scrolls, so that a keyboard must reach it.
        return Markup('<pre tabindex="0"><code>{}</code></pre>').format(text)
    if kind == "heading":
        level, anchor = headings[-1].level, headings[-1].id
        words = _inline(text, find_href)
        return Markup('<h{0} id="{1}">{2}</h{0}>').format(level, anchor, words)
    if kind == "table":
        return _table(text, find_href)
    if kind == "bullets":
        return _list("ul", re.split(r"^- ", text, flags=re.MULTILINE), find_href)
    if kind == "steps":
        return _list("ol", re.split(r"^[0-9]+\. ", text, flags=re.MULTILINE), find_href)
    return Markup("<p>{}</p>").format(_inline(text.rstrip(), find_href))


def _heading(marks: str, text: str) -> Heading:
    plain = re.sub(r"[`*]", "", text)
    anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
    return Heading(len(marks), plain, anchor)


def _list(tag: str, items: list[str], find_href: Callable) -> Markup:
    texts = (re.sub(r"\n +", "\n", item.rstrip()) for item in items[1:])
    points = (Markup("<li>{}</li>").format(_inline(text, find_href)) for text in texts)
    return Markup("<{0}>{1}</{0}>").format(tag, Markup("").join(points))


def _table(text: str, find_href: Callable) -> Markup:
    """The first line has the columns' names, the second only says so."""
    first, _line, *others = (
        [c.strip() for c in line[1:-1].split("|")] for line in text.split("\n")
    )
    rows = (_row("td", cells, find_href) for cells in others if any(cells))
    return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(
        _row("th", first, find_href), Markup("").join(rows)
    )


def _row(tag: str, cells: Iterable[str], find_href: Callable) -> Markup:
    marked = (Markup("<{0}>{1}</{0}>").format(tag, _inline(cell, find_href)) for cell in cells)
    return Markup("<tr>{}</tr>").format(Markup("").join(marked))


def _inline(text: str, find_href: Callable) -> Markup:
    parts, end = [], 0
    for span in _SPANS.finditer(text):
        parts += [text[end : span.start()], _span(span, find_href)]
        end = span.end()
    return Markup("").join([*parts, text[end:]])


def _span(span: re.Match, find_href: Callable) -> Markup:
    if span["code"]:
        return Markup("<code>{}</code>").format(span["code"])
    if span["strong"]:
        return Markup("<strong>{}</strong>").format(_inline(span["strong"], find_href))
    if span["url"]:
        return Markup('<a href="{0}">{0}</a>').format(span["url"])
    label, href = _inline(span["label"], find_href), find_href(span["to"])
    return Markup('<a href="{}">{}</a>').format(href, label) if href else label
