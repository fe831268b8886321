"""Mails as their readers get them: in whose name, where they lead."""

import re
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Outbox, Person

EMAIL = "ada@example.org"


@pytest.fixture
def operator(settings: dict, tmp_path: Path) -> None:
    """Somebody who calls the service by another name. Asked for before `app`."""
    settings["APP_NAME"] = "墨 & Co"
    settings["APP_URL"] = "https://ink.example/home?from=mail#top"
    settings["REDIRECT_ALLOWLIST"] = "https://app.example.org"
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "zh.toml").write_text('[verification]\ntitle = "来自{app}的问候"', "utf-8")
    settings["MAIL_WORDS"] = str(folder)


def test_mails_and_pages_carry_the_operators_name_and_words(
    operator, stranger: Person, outbox: Outbox
):
    sign_up = {"username": "ada", "email": EMAIL, "password": PASSWORD}
    stranger.post("/auth/verifications", sign_up)

    [mail] = outbox.mails()
    [sender] = mail["From"].addresses
    assert sender.display_name == "墨 & Co"
    assert mail["Subject"] == "墨 & Co 注册验证码"
    assert outbox.texts(EMAIL)[0].startswith("来自墨 & Co的问候\r\n")
    assert "本邮件由 墨 & Co 发送" in outbox.texts(EMAIL)[0]
    assert stranger.get("/openapi.json").json["info"]["title"] == "墨 & Co"


def test_a_way_back_leads_to_the_operators_address_and_not_where_who_asked_chose(
    operator, alice: Person, outbox: Outbox
):
    change = {"email": EMAIL, "current_password": PASSWORD}
    alice.post("/users/me/email", {**change, "redirect_to": "https://app.example.org/evil"})
    proof = {"email": EMAIL, "token": outbox.code(EMAIL)}
    assert alice.post("/users/me/email/verify", proof).status_code == 200

    asked, done = outbox.texts(alice.email)
    for text in (asked, done):
        key = re.search(r"撤销码：(\S+)", text)[1]
        [link] = re.findall(r"https?://\S+", text)
        assert link == (
            f"https://ink.example/home?from=mail&email=alice%40example.org&restoration={key}#top"
        )


def test_without_an_address_of_the_application_a_way_back_has_no_link(
    settings: dict, alice: Person, outbox: Outbox
):
    change = {"email": EMAIL, "current_password": PASSWORD}
    alice.post("/users/me/email", change)

    [text] = outbox.texts(alice.email)
    assert "撤销码：" in text
    assert "http" not in text
