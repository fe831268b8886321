import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from runtime.caller import Caller
from runtime.i18n import LANGUAGES
from runtime.mail import layout, words
from runtime.mail.letters import TEMPLATES, Block, Letter, Letters, MailedCode, WayBack

APP_URL = "https://app.example.org/home"
LINK = "https://app.example.org/welcome?email=ada%40example.org&token=123456"
BACK = "https://app.example.org/home?email=ada%40example.org&restoration=key"
AT = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
ASKER = Caller("192.0.2.7", "Chrome · Windows", at=AT)
ADA = MailedCode("ada", "123456", LINK, ASKER)
EVE = MailedCode("eve", "654321", None, Caller("203.0.113.66", None, at=AT))
# As long as a key gets.
KEY = "b74c1d0e7d0e6f0a6df54f4f9a7c6f7b." + "k" * 43

WORDS = words.load(None, "Ink & Co")
letters = Letters(WORDS, APP_URL)
without_app = Letters(WORDS)


def every_letter(write: Letters, language: str, code=ADA, email="ada@example.org", key=KEY):
    """Each kind of letter once, by name."""
    one = {"codes": [code], "minutes": 10}
    several = {"codes": [code, EVE], "count": 2, "minutes": 10}
    moved = {"asker": ASKER, "way_back": WayBack(key, BACK), "email": email}
    return {
        "verification": write.write("verification", language, **one),
        "verifications": write.write("verifications", language, **several),
        "registered": write.write("registered", language),
        "recovery": write.write("recovery", language, **one),
        "new_password": write.write("new_password", language, asker=ASKER),
        "no_password": write.write("no_password", language, username=code.username),
        "new_address": write.write("new_address", language, **one),
        "address_in_use": write.write("address_in_use", language),
        "email_change": write.write("email_change", language, **moved),
        "email_changed": write.write("email_changed", language, **moved),
        "email_restored": write.write("email_restored", language, email=email),
        "new_device": write.write("new_device", language, asker=ASKER),
        "erased": write.write("erased", language, asker=ASKER, username=code.username),
    }


ALL = [
    pytest.param(letter, id=f"{name}-{language}")
    for language in LANGUAGES
    for name, letter in every_letter(letters, language).items()
]
WITH_CODES = ("verification", "verifications", "recovery", "new_address")


def test_a_verification_letter_has_the_username_the_code_and_the_link():
    letter = letters.write("verification", "en", codes=[ADA], minutes=10)

    assert "Username: ada\nCode: 123456\n" in letter.text
    assert LINK in letter.text.splitlines()
    assert "expires in 10 minutes" in letter.text


@pytest.mark.parametrize(
    ("language", "subject", "warnings"),
    [
        ("zh", "注册验证码", ["不要告诉任何人", "请忽略这封邮件"]),
        ("en", "verification code", ["Do not share it with anyone", "ignore this email"]),
    ],
)
def test_a_verification_letter_says_to_keep_the_code_or_ignore_the_mail(
    language, subject, warnings
):
    letter = letters.write("verification", language, codes=[ADA], minutes=10)

    assert subject in letter.subject
    assert all(warning in letter.text and warning in letter.html for warning in warnings)


@pytest.mark.parametrize(
    ("language", "warning"),
    [
        ("zh", "只使用您本人发起的那一个"),
        ("en", "Use only the code for the one you started yourself"),
    ],
)
def test_several_sign_ups_are_told_apart_by_who_asked(language, warning):
    letter = letters.write("verifications", language, codes=[ADA, EVE], count=2, minutes=10)

    assert warning in letter.text
    assert warning not in letters.write("verification", language, codes=[ADA], minutes=10).text
    told = ("ada", "123456", "192.0.2.7", "eve", "654321", "203.0.113.66")
    places = [letter.text.index(word) for word in told]
    assert places == sorted(places)


@pytest.mark.parametrize("name", WITH_CODES)
def test_a_letter_with_a_code_says_who_asked_and_when(name: str):
    letter = every_letter(letters, "en")[name]

    for line in ("Device: Chrome · Windows", "Network: 192.0.2.7", "Time: 2026-11-22 10:15 UTC"):
        assert line in letter.text.splitlines()


def test_a_code_without_a_link_has_no_button():
    letter = letters.write("verification", "en", codes=[EVE], minutes=10)

    assert "http" not in letter.text
    assert not Page(letter.html).links


@pytest.mark.parametrize(("language", "sign_in"), [("zh", "请直接登录"), ("en", "just sign in")])
def test_the_owner_of_an_account_is_told_to_sign_in_and_gets_no_code(language, sign_in):
    letter = letters.write("registered", language)

    assert sign_in in letter.text
    assert not re.search(r"\d{6}", letter.text)


@pytest.mark.parametrize(
    ("language", "device", "said"),
    [
        ("zh", "Chrome · Windows", ["设备：Chrome · Windows", "时间：2026-11-22 10:15 UTC"]),
        ("zh", None, ["设备：未知", "网络：192.0.2.7", "请忽略", "请立即修改密码"]),
        ("en", None, ["Device: unknown", "Network: 192.0.2.7", "change your password right away"]),
    ],
)
def test_a_new_device_letter_says_which_where_when_and_what_to_do(language, device, said):
    letter = letters.write("new_device", language, asker=Caller("192.0.2.7", device, at=AT))

    assert all(word in letter.text for word in said)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["new_password", "email_change", "email_changed", "new_device"])
def test_a_notice_says_which_device_did_it_where_and_when(kind: str, language: str):
    letter = every_letter(letters, language)[kind]

    for fact in ("Chrome · Windows", "192.0.2.7", "2026-11-22 10:15 UTC"):
        assert fact in letter.text
        assert fact in letter.html


def test_who_had_an_account_is_told_that_it_is_gone_and_led_nowhere():
    letter = letters.write("erased", "en", asker=ASKER, username="ada")

    assert "The Ink & Co account ada was deleted" in letter.text
    assert "Network: 192.0.2.7" in letter.text
    assert "http" not in letter.text
    assert not Page(letter.html).links
    by_operator = letters.write("erased_by_operator", "en", username="ada").text
    assert "Network" not in by_operator
    assert "wasn't you" not in by_operator


@pytest.mark.parametrize("language", LANGUAGES)
def test_notices_lead_to_the_application_or_nowhere(language: str):
    for name, letter in every_letter(letters, language).items():
        wanted = {LINK} if name in WITH_CODES else {BACK} if "email_change" in name else {APP_URL}
        assert set(Page(letter.html).links) == (wanted if name != "erased" else set()), name
        assert all(link in letter.text.splitlines() for link in Page(letter.html).links)
    notices = every_letter(without_app, language)
    for name in ("registered", "new_password", "new_device", "address_in_use", "email_restored"):
        assert not Page(notices[name].html).links


@pytest.mark.parametrize("letter", ALL)
def test_every_letter_says_who_sent_it_and_why(letter: Letter):
    footer = letter.text.rpartition("--\n")[2]

    assert re.match(
        "Sent by Ink & Co. You received this|本邮件由 Ink & Co 发送。您收到它，", footer
    )
    assert Page(letter.html).body.rstrip().endswith(footer.strip())


@pytest.mark.parametrize("letter", ALL)
def test_the_html_and_the_text_say_the_same(letter: Letter):
    text = letter.text.replace("\n--\n", "\n")
    # A button's label is a line of its own in the text, above the link.
    text = re.sub(r"[:：]\n(?=https?://)", "", text)

    assert "".join(Page(letter.html).body.split()) == "".join(text.split())


@pytest.mark.parametrize("letter", ALL)
def test_a_letter_loads_nothing(letter: Letter):
    assert not re.search(r"<(img|link|script|style|iframe)|src=|url\(|@import", letter.html)


def test_a_letter_names_its_language():
    for language, lang in (("zh", "zh-CN"), ("en", "en")):
        every = every_letter(letters, language).values()
        assert every
        for letter in every:
            assert f'<html lang="{lang}">' in letter.html


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_people_typed_is_text_in_html_and_never_in_a_subject(language: str):
    nasty = MailedCode(
        '<b>"x"</b>{app}',
        "<i>1",
        'https://a.example/?"><script>&x=1',
        Caller("<u>{app}", "<s>{0}", at=AT),
    )
    plain = every_letter(letters, language)
    assert plain
    for name, letter in every_letter(letters, language, nasty, "<q>@x", "<em>").items():
        assert not re.search(r"<b>|<i>|<u>|<s>|<q>|<em>|<script", letter.html), name
        assert letter.subject == plain[name].subject
        if name in WITH_CODES:
            assert Page(letter.html).links == [nasty.link]
            assert nasty.username in letter.text


def test_the_operators_name_is_in_every_subject_or_text():
    for language in LANGUAGES:
        every = every_letter(letters, language).items()
        assert every
        for name, letter in every:
            assert "Ink & Co" in letter.subject, name
            assert "Runtime" not in letter.text + letter.html, name


def test_every_sentence_is_of_a_mail_and_every_mail_has_its_sentences():
    said = {f"common.{name}" for name in ("label", "sent_by", "unknown_device", "open")}
    said |= {f"common.{name}" for name in ("username", "code", "key", "device", "network", "time")}
    for name, template in TEMPLATES.items():
        its = ["subject", "title", *(part for part in template.parts if isinstance(part, str))]
        its += ["button"] if {Block.CODES, Block.WAY_BACK} & {*template.parts} else []
        section = template.section or name
        said |= {each if "." in each else f"{section}.{each}" for each in its}
        said.add(f"common.because_{template.because}")
    for language in LANGUAGES:
        assert words.shipped(language).keys() == said, language


def test_another_language_is_chinese():
    ours = letters.write("verification", "zh", codes=[ADA], minutes=10)
    assert letters.write("verification", "fr", codes=[ADA], minutes=10) == ours


class Page(HTMLParser):
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


def test_an_address_that_may_be_a_thiefs_is_told_no_device():
    """A change that is undone is told to the address that it had put in, too."""
    letter = every_letter(letters, "en")["email_restored"]

    assert ASKER.device not in letter.text + letter.html
    assert ASKER.network not in letter.text + letter.html


def test_labels_that_an_operator_made_the_same_keep_their_lines():
    part = layout.facts([("Where: ", "Firefox"), ("Where: ", "192.0.2.7")])

    assert part.text == "Where: Firefox\nWhere: 192.0.2.7"
    assert "Firefox" in part.html and "192.0.2.7" in part.html
