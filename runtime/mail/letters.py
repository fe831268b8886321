"""The mails themselves: what each says, in the words of `runtime/mail/texts`.

How they look is in `letter_layout`, how they travel in `mail`. A subject has nothing that anybody
typed, so that it cannot break a header; what an operator set is checked at the start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from runtime.caller import Caller
from runtime.i18n import LANGUAGES
from runtime.mail import words
from runtime.mail.layout import Button, Code, Facts, Key, Letter, Paragraph, Part, set_letter
from runtime.mail.words import Words

_LANG = {"zh": "zh-CN", "en": "en"}


@dataclass(frozen=True)
class MailedCode:
    """A code, the username of the account that it is for, and where it can be used, if anywhere.

    `asker` is who asked for it: what tells its owner from a stranger with the same username.
    """

    username: str
    code: str
    link: str | None
    asker: Caller | None = None


@dataclass(frozen=True)
class WayBack:
    """What takes a change of address back, and where it can be used, if anywhere."""

    token: str
    link: str | None


class Letters:
    """Writes letters in the words of each language; notices have a button to `app_url` if any.

    A language that has no words is the default's. No letter to an owner has a link that anybody
    else chose, but the one with a code that they asked for.
    """

    def __init__(self, all_words: Mapping[str, Words], app_url: str | None = None):
        self._words = all_words
        self._app_url = app_url

    def verification_letter(
        self, language: str, codes: Sequence[MailedCode], minutes: int
    ) -> Letter:
        """The code of every sign-up that waits for one address, each with the username it is for.

        `codes` has at least one; `minutes` is how long the one that ends first is still good. A
        link is for GET: the page that it leads to consumes nothing.
        """
        page = self._page(language, "verification")
        page.say("one" if len(codes) == 1 else "several", count=len(codes))
        for code in codes:
            page.code(code)
        page.say("common.good_for", minutes=minutes).say("ignore")
        return page.letter("entered")

    def already_registered_letter(self, language: str) -> Letter:
        """Tells an account's owner that somebody tried to sign up with their address; no code."""
        page = self._page(language, "registered").say("text").open_app()
        return page.say("forgot").say("ignore").letter("account")

    def recovery_letter(self, language: str, code: MailedCode, minutes: int) -> Letter:
        """The code that sets a new password, good for `minutes`."""
        page = self._page(language, "recovery").say("text").code(code)
        return page.say("common.good_for", minutes=minutes).say("ignore").letter("account")

    def new_password_letter(self, language: str, asker: Caller) -> Letter:
        """Tells an account's owner that it has a new password."""
        return self._told("new_password", language, asker)

    def no_password_letter(self, language: str, username: str) -> Letter:
        """Tells the owner of a new account why it has no password, and how to set one."""
        page = self._page(language, "no_password").say("text", username=username)
        return page.say("next").open_app().letter("account")

    def new_address_letter(self, language: str, code: MailedCode, minutes: int) -> Letter:
        """The code that proves an account's new address, good for `minutes`."""
        page = self._page(language, "new_address").say("text").code(code)
        return page.say("common.good_for", minutes=minutes).say("ignore").letter("entered")

    def address_in_use_letter(self, language: str) -> Letter:
        """Tells an account's owner that another account was to have their address; no code."""
        page = self._page(language, "address_in_use").say("text").open_app()
        return page.say("ignore").letter("account")

    def email_change_letter(
        self, language: str, email: str, way_back: WayBack, asker: Caller
    ) -> Letter:
        """Tells an account's address that another one is to replace it."""
        return self._to_old("email_change", language, email, way_back, asker).letter("account")

    def email_changed_letter(
        self, language: str, email: str, way_back: WayBack, asker: Caller
    ) -> Letter:
        """Tells the address that an account had that another one has replaced it."""
        return self._to_old("email_changed", language, email, way_back, asker).letter("former")

    def email_restored_letter(self, language: str, email: str) -> Letter:
        """Tells both addresses that the account has its old one back."""
        page = self._page(language, "email_restored").say("text", email=email)
        return page.say("next").open_app().letter("account")

    def new_device_letter(self, language: str, asker: Caller) -> Letter:
        """Tells an account's owner that it was signed in to, by a device not seen before."""
        return self._told("new_device", language, asker)

    def erased_letter(self, language: str, username: str, asker: Caller | None) -> Letter:
        """Tells who had an account that it is gone; there is nothing left to lead to.

        `asker` is None when an operator did it.
        """
        page = self._page(language, "erased").say("text", username=username)
        if asker:
            page.asker(asker).say("was_not_you")
        return page.letter("former")

    def _told(self, name: str, language: str, asker: Caller) -> Letter:
        """What was done, who it was and when, and what to do if it was not its reader."""
        page = self._page(language, name).say("text").asker(asker)
        return page.say("common.was_you").say("was_not_you").open_app().letter("account")

    def _to_old(
        self, name: str, language: str, email: str, way_back: WayBack, asker: Caller
    ) -> "_Page":
        page = self._page(language, name).say("text", email=email).asker(asker)
        return page.say("common.was_you").say("undo").way_back(way_back).say("keep")

    def _page(self, language: str, name: str) -> "_Page":
        known = language if language in self._words else LANGUAGES[0]
        return _Page(self._words[known], _LANG[known], name, self._app_url)


class _Page:
    """A letter while it is written: its parts so far, in the words of one letter."""

    def __init__(self, its_words: Words, lang: str, name: str, app_url: str | None):
        self._words = its_words
        self._lang = lang
        self._name = name
        self._app_url = app_url
        self._parts: list[Part] = []

    def say(self, sentence: str, /, **values: object) -> "_Page":
        self._parts.append(Paragraph(self._say(sentence, **values)))
        return self

    def code(self, code: MailedCode) -> "_Page":
        """The username and the code in two lines, who asked, and the link if there is one."""
        username = self._label("username"), code.username
        self._parts.append(Code(username, self._label("code"), code.code))
        if code.asker:
            self.asker(code.asker)
        return self._button("button", code.link)

    def asker(self, asker: Caller) -> "_Page":
        device = asker.device or self._say("common.unknown_device")
        at = f"{asker.at:%Y-%m-%d %H:%M} UTC"
        values = {"device": device, "network": asker.network, "time": at}
        lines = tuple((self._label(name), value) for name, value in values.items())
        self._parts.append(Facts(lines))
        return self

    def way_back(self, way_back: WayBack) -> "_Page":
        self._parts.append(Key(self._label("key"), way_back.token))
        return self._button("button", way_back.link)

    def open_app(self) -> "_Page":
        return self._button("common.open", self._app_url)

    def letter(self, because: str) -> Letter:
        """The letter; its reader got it because of what `common.because_…` says."""
        separator = "" if self._lang == "zh-CN" else " "
        footer = separator.join(
            self._say(f"common.{sentence}") for sentence in ("sent_by", f"because_{because}")
        )
        subject, title = self._say("subject"), self._say("title")
        return set_letter(self._lang, subject, title, self._parts, footer)

    def _button(self, name: str, url: str | None) -> "_Page":
        if url:
            text = self._say(name)
            label = self._say("common.label", name=text)
            self._parts.append(Button(text, label, url))
        return self

    def _label(self, name: str) -> str:
        return self._say("common.label", name=self._say(f"common.{name}"))

    def _say(self, name: str, /, **values: object) -> str:
        return self._words.say(name if "." in name else f"{self._name}.{name}", **values)


def init_app(app: Flask) -> None:
    """Read the words of all letters. Raises ConfigError when an operator's make no sense."""
    folder = app.config["MAIL_WORDS"]
    app.extensions["letters"] = Letters(
        words.load(folder and Path(folder), app.config["APP_NAME"]), app.config["APP_URL"]
    )


letters: Letters = LocalProxy(lambda: current_app.extensions["letters"])  # type: ignore[assignment]
