"""The words of mails: what ships, and what an operator may put in its place."""

from pathlib import Path

import pytest

from app import create_app
from runtime.config.settings import ConfigError
from runtime.i18n import LANGUAGES
from runtime.mail import words
from runtime.mail.letters import Letters
from runtime.mail.words import load


def write(folder: Path, text: str, name: str = "en.toml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture
def title(tmp_path: Path):
    """What the title of a notice becomes with a file of the operator's own."""

    def read(text: str, language: str = "en") -> str:
        return load(write(tmp_path, text), "Ink")[language].say("erased.title")

    return read


def test_one_sentence_is_replaced_and_all_others_stay(title, tmp_path: Path):
    assert title('[erased]\ntitle = "Farewell from {app}"') == "Farewell from Ink"
    own, shipped = load(tmp_path, "Ink"), load(None, "Ink")
    assert own["en"].say("erased.subject") == shipped["en"].say("erased.subject")
    assert own["zh"].say("erased.title") == shipped["zh"].say("erased.title")


def test_a_letter_is_in_the_operators_words(tmp_path: Path):
    write(tmp_path, '[registered]\nsubject = "Hallo"\ntext = "<Ink> & {{you}}"')

    letter = Letters(load(tmp_path, "Ink")).write("registered", "en")

    assert letter.subject == "Hallo"
    assert "<Ink> & {you}" in letter.text
    assert "&lt;Ink&gt; &amp; {you}" in letter.html


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path):
    write(tmp_path, "not words", "README.md")

    assert load(tmp_path, "Ink")["en"].say("erased.title")


def test_a_file_may_begin_with_what_windows_editors_write(title):
    assert title('\ufeff[erased]\ntitle = "Farewell"') == "Farewell"


BROKEN = [
    ('[erased]\ntitle = "{nmae}"', "erased.title has an unknown placeholder {nmae}"),
    ('[erased]\ntext = "Gone."', "erased.text lacks the placeholder {username}"),
    ('[erased]\ntext = "{username} {username!r}"', "erased.text must have no more than a name"),
    ('[erased]\ntext = "{username:>99999}"', "erased.text must have no more than a name"),
    ('[erased]\ntext = "{username.email}"', "erased.text has an unknown placeholder"),
    ('[erased]\ntitle = "{}"', "erased.title has an unknown placeholder {}"),
    ('[erased]\ntitle = "{"', "erased.title has a lone brace"),
    ('[erased]\ntitel = "x"', "erased.titel is no sentence"),
    ('[deleted]\ntitle = "x"', "deleted.title is no sentence"),
    ('title = "x"', "title is no sentence"),
    ("[erased]\ntitle = 7", "erased.title must be text"),
    ('[erased]\ntitle = " "', "erased.title must be text"),
    ('[erased.title]\nx = "y"', "erased.title must be text"),
    ('[erased]\nsubject = "a\\r\\nBcc: eve@example.org"', "erased.subject must be one line"),
    ('[erased]\nsubject = "a\u3000b"', "erased.subject must be one line"),
    ('[erased]\nsubject = "=?utf-8?q?x?="', "erased.subject must not have =?"),
    (f'[erased]\nsubject = "{"x" * 121}"', "erased.subject must have at most 120"),
    (f'[erased]\ntitle = "{"x" * 2001}"', "erased.title must have at most 2000"),
    ('[erased]\ntitle = "a\u202eb"', "erased.title must be one line"),
    ("[erased", "cannot be read: "),
    ('[erased]\ntitle = "x"\ntitle = "y"', "cannot be read: "),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN, ids=[reason for _text, reason in BROKEN])
def test_words_that_make_no_sense_stop_the_start_with_one_line(tmp_path: Path, text, reason):
    settings = {"MAIL_WORDS": str(write(tmp_path, text)), "INSTANCE_PATH": str(tmp_path / "i")}

    with pytest.raises(ConfigError) as refusal:
        create_app(settings)

    assert str(refusal.value).startswith(f"MAIL_WORDS en.toml: {reason}")
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text_are_named_too(tmp_path: Path):
    (tmp_path / "zh.toml").write_bytes(b'[erased]\ntitle = "\xff"')

    with pytest.raises(ConfigError, match=r"^MAIL_WORDS zh\.toml: cannot be read: "):
        load(tmp_path, "Ink")


def test_a_language_that_nobody_is_mailed_in_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^MAIL_WORDS fr\.toml: there are only zh\.toml and en"):
        load(write(tmp_path, "", "fr.toml"), "Ink")


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, name: str):
    write(tmp_path, "", "file")

    with pytest.raises(ConfigError, match=r"^MAIL_WORDS must be a folder"):
        load(tmp_path / name, "Ink")


def test_every_language_has_the_same_sentences_with_the_same_places():
    shipped = [words.shipped(language) for language in LANGUAGES]
    places = [
        {name: words._placeholders(sentence) - {"app"} for name, sentence in sentences.items()}
        for sentences in shipped
    ]
    assert places[0] == places[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_ships_could_be_an_operators(tmp_path: Path, language: str):
    text = (words.SHIPPED / f"{language}.toml").read_text("utf-8")

    assert load(write(tmp_path, text, f"{language}.toml"), "Ink")
