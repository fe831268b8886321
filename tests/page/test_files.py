"""The page's files: few bytes, nothing from elsewhere, and every word in both languages."""

import re

from runtime.config.settings import ROOT

FOLDER = ROOT / "runtime" / "static" / "page"
FILES = [*FOLDER.iterdir(), FOLDER.parent / "client.mjs"]
MOST_BYTES = 60_000
CJK = re.compile(r"[\u3400-\u9fff]")


def texts() -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in FILES}


def test_the_page_is_small():
    assert sum(file.stat().st_size for file in FILES) <= MOST_BYTES


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    html = texts()["index.html"]
    assert '<script type="module" src="/page/' in html
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! type=\"module\" src=)", html)
    for name, text in texts().items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text
        ), name
        assert not re.search(r"""(?:src|href|from|url\(|import\()\s*=?\s*["']?https?:""", text), (
            name
        )


def test_every_word_stands_in_both_languages():
    words = texts()["words.mjs"].partition("Map(`\n")[2].partition("`")[0].splitlines()
    assert len(words) > 100
    keys = [line.split("|")[0] for line in words]
    assert len(keys) == len(set(keys))
    for line in words:
        key, chinese, *english = line.split("|")
        assert CJK.search(chinese) or key == "Agent", line
        assert not CJK.search("".join(english) or key), line
        places = [set(re.findall(r"\{\d\}", each)) for each in (chinese, *(english or [key]))]
        assert places[0] == places[1], line


def test_every_word_that_is_shown_is_known():
    known = {line.split("|")[0] for line in texts()["words.mjs"].splitlines() if "|" in line}
    used = set(re.findall(r'data-(?:t|label|hint)="([^"]+)"', texts()["index.html"]))
    calls = (
        r'\b(?:say|whisper|note|button|word)\("([^"]+)"|\b(?:t|label|note|action|text): "([^"]+)"'
    )
    for name, text in texts().items():
        if name.endswith(".mjs") and name != "client.mjs":
            used.update(filter(None, sum(re.findall(calls, text), ())))
            used.update(re.findall(r'\bel\("[^"]+", "([^"]+)"', text))
    assert len(used) > 60
    assert used - known == {"{0}"}  # is what is given, alone
