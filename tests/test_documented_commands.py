"""The script that runs what the documents print: it takes every block, and finds what is wrong."""

from pathlib import Path

import pytest

from tests import documented_commands
from tests.documented_commands import KINDS, PAGES, blocks_of, matches


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_run_or_says_why_not(page: Path):
    for block in blocks_of(page):
        assert block.kind in KINDS, block.place
        assert bool(block.detail) == (block.kind in ("not-run", "file")), block.place
    shells = page.read_text().count("\n```sh")
    assert shells == sum(b.kind in ("run", "serves", "stops", "not-run") for b in blocks_of(page))


@pytest.mark.parametrize(
    ("answer", "output", "is_same"),
    [
        ("one", "one\n", True),
        ("one", "one two", False),
        ("a … z", "a b\nc z", True),
        ("a … z", "a b", False),
        (
            '{"id":"4d053037-7d5f-4d1e-85ea-783036968fbb"}',
            '{"id":"b74c1d0e-7d0e-4f0a-8df5-4f4f9a7c6f7b"}',
            True,
        ),
        ('{"id":"4d053037-7d5f-4d1e-85ea-783036968fbb"}', '{"id":"none"}', False),
        ("at 2026-11-22T10:15:00.691Z", "at 2027-01-02T03:04:05.678Z", True),
        ("(1)", "1", False),
    ],
)
def test_an_answer_is_compared_but_for_what_differs_each_time(
    answer: str, output: str, is_same: bool
):
    assert matches(answer, output) is is_same


def follow(folder: Path, text: str) -> int:
    """The exit status of a run of one page in an empty folder."""
    page = folder / "page.md"
    page.write_text(text, "utf-8")
    return documented_commands.follow(list(blocks_of(page, folder)), folder)


def test_blocks_are_run_in_one_shell_and_in_their_order(tmp_path: Path, capsys):
    page = """
```sh
NAME=Ada
```

```text file: in/a/file
hello
```

```sh
echo "$NAME: $(cat in/a/file)"
```

```text answer
Ada: hello
```

```sh not-run: it would fail
false
```
"""
    assert follow(tmp_path, page) == 0

    told = capsys.readouterr().out
    assert "2 run, 0 serves, 0 stops, 1 not-run, 1 answer, 0 shell, 1 file" in told
    assert "not run: page.md:18: it would fail" in told


@pytest.mark.parametrize(
    "block",
    [
        "```sh\nfalse\ntrue\n```",
        "```sh\nexit 0\n```",
        "```sh serves\nexit 0\n```",
        "```sh\necho one\n```\n\n```text answer\ntwo\n```",
        "```sh sevres\ntrue\n```",
    ],
)
def test_the_first_block_that_fails_ends_the_run(tmp_path: Path, capsys, block: str):
    assert follow(tmp_path, f"{block}\n\n```sh\ntouch later\n```\n") == 1

    assert "page.md:" in capsys.readouterr().err
    assert not (tmp_path / "later").exists()


def test_a_command_has_its_time(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(documented_commands, "SECONDS", 0.2)

    assert follow(tmp_path, "```sh\nsleep 60\n```\n") == 1
    assert "was not over in 0.2 s" in capsys.readouterr().err


def test_it_wants_a_fresh_clone(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(documented_commands, "ROOT", tmp_path)
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secret_key").touch()

    assert documented_commands.main() == 2
    assert "fresh clone" in capsys.readouterr().err
