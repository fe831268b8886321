import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from runtime.letters import (
    _WORDS,
    MailedCode,
    already_registered_letter,
    new_device_letter,
    verification_letter,
)

LINK = "https://app.example.org/welcome?email=ada%40example.org&token=123456"
ADA = MailedCode("ada", "123456", LINK)
EVE = MailedCode("eve", "654321", None)
AT = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)


def test_a_verification_letter_has_the_username_the_code_and_the_link():
    letter = verification_letter("en", [ADA], 10)

    assert "Username: ada\nCode: 123456\n" in letter.text
    assert LINK in letter.text.splitlines()
    assert "good for 10 min" in letter.text


@pytest.mark.parametrize(
    ("language", "subject", "warnings"),
    [
        ("zh", "注册验证码", ["不要把它告诉任何人", "请忽略这封邮件"]),
        ("en", "verification code", ["Do not give it to anybody", "ignore this email"]),
    ],
)
def test_a_verification_letter_says_to_keep_the_code_or_ignore_the_mail(
    language, subject, warnings
):
    letter = verification_letter(language, [ADA], 10)

    assert subject in letter.subject
    assert all(warning in letter.text and warning in letter.html for warning in warnings)


@pytest.mark.parametrize(
    ("language", "warning"), [("zh", "请只使用您自己发起的"), ("en", "Use only the code")]
)
def test_several_sign_ups_are_told_apart_by_username(language, warning):
    letter = verification_letter(language, [ADA, EVE], 10)

    assert warning in letter.text
    assert warning not in verification_letter(language, [ADA], 10).text
    places = [letter.text.index(word) for word in ("ada", "123456", "eve", "654321")]
    assert places == sorted(places)


def test_a_code_without_a_link_has_no_word_about_one():
    letter = verification_letter("en", [EVE], 10)

    assert "link" not in letter.text
    assert "<a " not in letter.html


@pytest.mark.parametrize(("language", "sign_in"), [("zh", "请直接登录"), ("en", "just sign in")])
def test_the_owner_of_an_account_is_told_to_sign_in_and_gets_no_code(language, sign_in):
    letter = already_registered_letter(language)

    assert sign_in in letter.text
    assert not re.search(r"\d{6}", letter.text)


@pytest.mark.parametrize(
    ("language", "device", "words"),
    [
        ("zh", "Chrome · Windows", ["设备：Chrome · Windows", "时间：2026-11-22 10:15 UTC"]),
        ("zh", None, ["设备：未知", "网络：192.0.2.7", "请忽略", "请立即修改密码"]),
        ("en", None, ["Device: unknown", "Network: 192.0.2.7", "change your password now"]),
    ],
)
def test_a_new_device_letter_says_which_where_when_and_what_to_do(language, device, words):
    letter = new_device_letter(language, device, "192.0.2.7", AT)

    assert all(word in letter.text and word in letter.html for word in words)


def test_the_html_and_the_text_say_the_same():
    for letter in (
        verification_letter("zh", [ADA, EVE], 10),
        already_registered_letter("en"),
        new_device_letter("zh", "curl", "192.0.2.7", AT),
    ):
        html = _Words(letter.html)
        assert "".join(html.body.split()) == "".join(letter.text.split())


def test_the_html_names_its_language_and_loads_nothing():
    for language, lang in (("zh", "zh-CN"), ("en", "en")):
        letter = verification_letter(language, [ADA], 10)
        assert f'<html lang="{lang}">' in letter.html
        assert not re.search(r"<(img|link|script|style|iframe)|src=|url\(", letter.html)


def test_what_people_typed_is_text_in_html_and_never_in_a_subject():
    nasty = MailedCode('<b>"x"</b>', "<i>1", 'https://a.example/?"><script>&x=1')

    letter = verification_letter("en", [nasty], 10)

    assert not re.search(r"<b>|<i>|<script", letter.html)
    assert _Words(letter.html).links == [nasty.link]
    assert letter.subject == verification_letter("en", [ADA], 10).subject


def test_another_language_is_chinese():
    assert verification_letter("fr", [ADA], 10) == verification_letter("zh", [ADA], 10)


def test_no_sentence_is_without_both_languages():
    assert _WORDS["zh"].keys() == _WORDS["en"].keys()


class _Words(HTMLParser):
    """What a reader of the page sees: its body's text and its links."""

    def __init__(self, html: str):
        super().__init__()
        self.body = ""
        self.links: list[str] = []
        self._is_in_body = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._is_in_body = self._is_in_body or tag == "body"
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_data(self, data):
        if self._is_in_body:
            self.body += data
