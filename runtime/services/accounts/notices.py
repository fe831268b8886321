"""Mails that tell an account's owner what happened to it."""

from runtime import clock
from runtime.caller import Caller
from runtime.mail.letters import WayBack, letters
from runtime.mail.queue import NOTICE_LIFE, mail
from runtime.models.users import User
from runtime.services.accounts import languages


def send(
    user: User,
    name: str,
    *,
    asker: Caller | None = None,
    way_back: WayBack | None = None,
    to: str | None = None,
    language: str | None = None,
    **values: str,
) -> None:
    """Mail the notice of that name in `runtime.mail.letters.TEMPLATES`, which `values` complete.

    It goes `to` the account's address and in its owner's `language`, unless others are given.
    """
    language = language or languages.of(user)
    letter = letters.write(name, language, asker=asker, way_back=way_back, **values)
    mail.send(to or user.email, letter, clock.now() + NOTICE_LIFE)
