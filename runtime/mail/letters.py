"""Every mail, a row each: what it is made of, in order.

What a mail says is in `texts/`, in the section of its name, one file a language: to change it,
change it there. To add a mail, add a row here and a section to each of the files. How it looks is
in `layout`, how it travels in `queue`.

A subject has nothing that anybody typed, so that it cannot break a header; what an operator set is
checked at the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from flask import Flask, current_app
from werkzeug.local import LocalProxy

from runtime.caller import Caller
from runtime.i18n import LANGUAGES
from runtime.mail import layout, words
from runtime.mail.layout import Letter, Part
from runtime.mail.words import Words


class Block(Enum):
    """What a mail has beside its sentences."""

    CODES = auto()  # each with its username, who asked for it, and a link if there is one
    ASKER = auto()  # the device, the network and the time
    WAY_BACK = auto()  # a key, and a link if there is one
    APP = auto()  # a button to APP_URL, if that is set


@dataclass(frozen=True)
class Template:
    """Why its reader gets it (`common.because_…`), and its sentences and blocks in order.

    Its sentences are in the section of its name, or in `section`; those with a dot in another.
    """

    because: str
    parts: Sequence[str | Block]
    section: str | None = None


_CODE = (Block.CODES, "common.good_for", "ignore")
_DONE = ("text", Block.ASKER, "common.was_you", "was_not_you", Block.APP)
_MOVED = ("text", Block.ASKER, "common.was_you", "undo", Block.WAY_BACK, "keep")

# A notice to an owner has no link that anybody else chose.
TEMPLATES: Mapping[str, Template] = {
    # A code completes a sign-up, or several wait for one address.
    "verification": Template("entered", ("one", *_CODE)),
    "verifications": Template("entered", ("several", *_CODE), section="verification"),
    # To an owner: someone tried to sign up with the address, or to move an account to it.
    "registered": Template("account", ("text", Block.APP, "forgot", "ignore")),
    "address_in_use": Template("account", ("text", Block.APP, "ignore")),
    # A code sets a new password; there is a new one; a new account has none.
    "recovery": Template("account", ("text", *_CODE)),
    "new_password": Template("account", _DONE),
    "no_password": Template("account", ("text", "next", Block.APP)),
    # A code proves a new address. To the old one: it is to be replaced, it was, it is back.
    "new_address": Template("entered", ("text", *_CODE)),
    "email_change": Template("account", _MOVED),
    "email_changed": Template("former", _MOVED),
    # It goes to the address that was put in too, a thief's perhaps: so it names no device.
    "email_restored": Template("account", ("text", "next", Block.APP)),
    # A sign-in from where there was none.
    "new_device": Template("account", _DONE),
    # The account is gone; there is nothing left to lead to.
    "erased": Template("former", ("text", Block.ASKER, "was_not_you")),
    "erased_by_operator": Template("former", ("text",), section="erased"),
}

_LANG = {"zh": "zh-CN", "en": "en"}


@dataclass(frozen=True)
class MailedCode:
    """A code, the username of the account that it is for, and where it can be used, if anywhere.

    `asker` is who asked for it: what tells its owner from a stranger with the same username. The
    link is for GET: the page that it leads to consumes nothing.
    """

    username: str
    code: str
    link: str | None
    asker: Caller


@dataclass(frozen=True)
class WayBack:
    """What takes a change of address back, and where it can be used, if anywhere."""

    token: str
    link: str | None


class Letters:
    """Writes letters in the words of each language; their buttons lead to `app_url`, if any.

    A language that has no words is the default's.
    """

    def __init__(self, all_words: Mapping[str, Words], app_url: str | None = None):
        self._words = all_words
        self._app_url = app_url

    def write(
        self,
        name: str,
        language: str,
        *,
        codes: Sequence[MailedCode] = (),
        asker: Caller | None = None,
        way_back: WayBack | None = None,
        **values: str | int,
    ) -> Letter:
        """The mail of that name in TEMPLATES. `values` fill the placeholders of its sentences.

        `codes`, `asker` and `way_back` are for the blocks of those names, if it has them.
        """
        template = TEMPLATES[name]
        language = language if language in self._words else LANGUAGES[0]
        its_words, section = self._words[language], template.section or name

        def say(sentence: str, **values: str | int) -> str:
            return its_words.say(sentence if "." in sentence else f"{section}.{sentence}", **values)

        def parts_of(part: str | Block) -> list[Part]:
            if part is Block.CODES:
                return [each for code in codes for each in _code(say, code)]
            if part is Block.ASKER:
                return [_facts(say, asker)]
            if part is Block.WAY_BACK:
                key = layout.key(_label(say, "key"), way_back.token)
                return [key, *_button(say, "button", way_back.link)]
            if part is Block.APP:
                return _button(say, "common.open", self._app_url)
            return [layout.paragraph(say(part, **values))]

        parts = [each for part in template.parts for each in parts_of(part)]
        because = say("common.sent_by"), say(f"common.because_{template.because}")
        footer = ("" if language == "zh" else " ").join(because)
        letter = layout.set_letter(_LANG[language], say("subject"), say("title"), parts, footer)
        return replace(letter, name=name)


def _code(say: Callable[..., str], code: MailedCode) -> list[Part]:
    whose = _label(say, "username"), code.username
    told = layout.code(*whose, _label(say, "code"), code.code)
    return [told, _facts(say, code.asker), *_button(say, "button", code.link)]


def _facts(say: Callable[..., str], asker: Caller) -> Part:
    facts = (
        ("device", asker.device or say("common.unknown_device")),
        ("network", asker.network),
        ("time", f"{asker.at:%Y-%m-%d %H:%M} UTC"),
    )
    return layout.facts([(_label(say, name), value) for name, value in facts])


def _button(say: Callable[..., str], name: str, url: str | None) -> list[Part]:
    if not url:
        return []
    text = say(name)
    return [layout.button(text, say("common.label", name=text), url)]


def _label(say: Callable[..., str], name: str) -> str:
    return say("common.label", name=say(f"common.{name}"))


def init_app(app: Flask) -> None:
    """Read the words of all letters. Raises ConfigError when an operator's make no sense."""
    folder = app.config["MAIL_WORDS"]
    app.extensions["letters"] = Letters(
        words.load(folder and Path(folder), app.config["APP_NAME"]), app.config["APP_URL"]
    )


letters: Letters = LocalProxy(lambda: current_app.extensions["letters"])  # type: ignore[assignment]
