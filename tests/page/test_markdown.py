"""What a model wrote, as the page shows it."""

import json

import pytest

from tests.browser import Browser
from tests.page.conftest import Visitor

HTML = {
    "Some *soft*, **bold** and `code`.": "<p>Some <em>soft</em>, <strong>bold</strong> and "
    "<code>code</code>.</p>",
    "**注意：**请看 snake_case_names": "<p><strong>注意：</strong>请看 snake_case_names</p>",
    r"\*not soft\* 2 * 3 * 4 and **open": "<p>*not soft* 2 * 3 * 4 and **open</p>",
    "# Title #1\n## Second": "<h4>Title #1</h4><h5>Second</h5>",
    "- a\n- b\n  - c\n\n  more\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul><p>more</p></li>"
    "<li>d</li></ul>",
    "3. a\n\n4. b\nso": '<ol start="3"><li>a</li><li>b\nso</li></ol>',
    "> a\n> b\n\n---\nc": "<blockquote><p>a\nb</p></blockquote><hr><p>c</p>",
}
HOSTILE = (
    "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>",
    "[a](javascript:window.hit=1) [b](data:text/html,hit) [c](  JaVaScRiPt:hit) [d](vbscript:hit)",
    "[e](java\tscript:hit) ![f](javascript:hit) <javascript:hit> [g](//evil.example/x)",
    "```html\n</code></pre><script>window.hit = 1</script>\n```",
    "| <b>a</b> | b |\n|---|---|\n| <iframe src=javascript:hit></iframe> | `<svg/onload=hit>` |",
    '# <style>*{display:none}</style>\n> <a href="javascript:hit">x</a>\n- <form action=//evil>',
    "![pixel](https://evil.example/pixel.png)",
)
ENDLESS = (
    "*" * 50_000,
    "**a " * 12_000,
    "`a" * 25_000,
    "[" * 50_000,
    "[a](" * 12_000,
    "_a " * 16_000,
    ">" * 50_000,
    "- " * 25_000,
    " - a\n" * 10_000,
    "\n".join(" " * (n % 60) + "- a" for n in range(2_000)),
    "| a " * 12_000 + "\n" + "|-" * 12_000,
    "# " + "#" * 50_000 + "x",
    "-" * 50_000 + "x",
    "- " * 25_000 + "x",
    "```" + " " * 50_000 + "`",
    "https://a" * 5_000,
    "\\" * 50_000,
    "\n" * 50_000,
)


def render(visitor: Visitor, text: str, told: str) -> object:
    """What an expression over the `place` of the text's nodes comes to."""
    shown = f"place.append(...render({json.dumps(text)}))"
    return visitor.page.read(
        "import('/page/markdown.mjs').then(({ render }) => {"
        f"const place = document.createElement('div'); document.body.append(place); {shown};"
        f"const told = {told}; place.remove(); return told; }})"
    )


@pytest.fixture
def at_the_page(visitor: Visitor) -> Visitor:
    visitor.arrive()
    return visitor


def test_markdown_is_shown(at_the_page: Visitor):
    shown = {text: render(at_the_page, text, "place.innerHTML") for text in HTML}
    assert shown == HTML


def test_code_is_shown_as_it_is(at_the_page: Visitor):
    text = "```python\ndef f(x):\n\n    return **x\n```\nafter"
    assert render(at_the_page, text, "place.querySelector('pre').textContent") == (
        "def f(x):\n\n    return **x"
    )
    assert render(at_the_page, text, "place.lastChild.textContent") == "after"
    assert render(at_the_page, text[:-10], "place.querySelectorAll('pre').length") == 1


def test_links_lead_to_the_web_alone(at_the_page: Visitor):
    text = "[a](https://example.org/a_(b)) https://example.com/x. [b](mailto:a@b.co) [c](/d)"
    links = "[...place.querySelectorAll('a')].map((a) => [a.href, a.rel, a.target, a.textContent])"
    how = ["noopener noreferrer", "_blank"]
    assert render(at_the_page, text, links) == [
        ["https://example.org/a_(b)", *how, "a"],
        ["https://example.com/x.", *how, "https://example.com/x."],
    ]


def test_no_word_of_a_model_becomes_an_element(at_the_page: Visitor, browser: Browser):
    asked = len(browser.asked)
    risky = "place.querySelectorAll('script, img, iframe, svg, form, style, [onerror], [onload]')"
    links = "[...place.querySelectorAll('a')].map((a) => a.protocol)"
    found = [render(at_the_page, text, f"[{risky}.length, ...{links}]") for text in HOSTILE]

    assert found == [[0]] * (len(HOSTILE) - 1) + [[0, "https:"]]
    assert at_the_page.page.read("window.hit ?? null") is None
    assert not [url for url in browser.asked[asked:] if "evil" in url or url.endswith("/x")]


def test_nothing_takes_long(at_the_page: Visitor):
    took = "import('/page/markdown.mjs').then(({ render }) => { const began = performance.now();"
    took += "render(%s); return performance.now() - began; })"
    slow = {
        text[:20]: milliseconds
        for text in ENDLESS
        if (milliseconds := at_the_page.page.read(took % json.dumps(text))) > 2_000
    }
    assert slow == {}


def test_what_grows_comes_to_what_is_whole(at_the_page: Visitor):
    text = "\n\n".join(HTML)
    grown = at_the_page.page.read(
        "import('/page/markdown.mjs').then(({ Growing, render }) => {"
        "const [grown, whole] = [0, 1].map(() => document.createElement('div'));"
        f"const text = {json.dumps(text)};"
        "const growing = new Growing(grown);"
        "for (const letter of text) { growing.add(letter); growing.draw(); }"
        "whole.append(...render(text)); return [grown.innerHTML, whole.innerHTML]; })"
    )
    assert grown[0] == grown[1]
    assert "<h4>" in grown[0]
