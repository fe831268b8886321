"""What happens in the middle of a change of address."""

from collections.abc import Callable

import pytest
from flask import Flask

from runtime.caller import Caller
from runtime.database.base import release
from runtime.errors import InvalidAccessToken, WrongPassword
from runtime.models.codes import EmailChange
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.security.tokens import Tokens
from runtime.services.accounts import credentials, email_changes, erasures, sessions, users
from tests.conftest import PASSWORD, Outbox, Person
from tests.quick import QuickPasswords


class InterruptedPasswords(QuickPasswords):
    """Right ones, that call `meanwhile` once they were looked at."""

    def __init__(self, meanwhile: Callable):
        super().__init__()
        self.meanwhile = meanwhile

    def verify(self, password: str, password_hash: str | None, network: str = "", **how) -> bool:
        self.meanwhile()
        release()
        return True


class InterruptedTokens(Tokens):
    """Call `meanwhile` once a code was found to be right."""

    def __init__(self, keys: list[str], meanwhile: Callable):
        super().__init__(keys)
        self.meanwhile = meanwhile

    def matches_code(self, *arguments) -> bool:
        is_right = super().matches_code(*arguments)
        self.meanwhile()
        return is_right


@pytest.mark.parametrize(
    ("meanwhile", "failure"),
    [
        (lambda: credentials.replace_password(User.get(), "of another"), InvalidAccessToken),
        (lambda: users.disable(User.get()), InvalidAccessToken),
        (lambda: erasures.erase(User.get()), InvalidAccessToken),
        (lambda: sessions.end_all(User.get()), InvalidAccessToken),
        (lambda: credentials.change_account(User.get(), email="f@example.org"), WrongPassword),
        (lambda: credentials.change_account(User.get(), password_hash="-"), WrongPassword),
    ],
    ids=["replaced", "disabled", "erased", "signed out", "moved", "rehashed"],
)
def test_no_code_is_good_that_was_asked_for_with_an_earlier_password_or_address(
    app: Flask, alice: Person, meanwhile: Callable, failure: type
):
    """It would outlive what made all codes worthless, or its notice miss the owner's mailbox."""
    with app.app_context():
        session = Session.find_live(Session.get().id)
        app.extensions["passwords"] = InterruptedPasswords(meanwhile)

        with pytest.raises(failure):
            email_changes.begin(
                session,
                email="new@example.org",
                current_password=PASSWORD,
                redirect_to=None,
                caller=Caller(alice.network),
            )

        assert EmailChange.select().count() == 0


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda: sessions.end_all(User.get()),
        lambda: users.disable(User.get()),
        lambda: erasures.erase(User.get()),
    ],
    ids=["signed out", "disabled", "erased"],
)
def test_no_fresh_tokens_are_had_with_a_session_that_ended_meanwhile(
    app: Flask, alice: Person, outbox: Outbox, meanwhile: Callable
):
    """Its owner ended it while a thief verified the code to their own address."""
    body = {"email": "new@example.org", "current_password": PASSWORD}
    assert alice.post("/users/me/email", body).status_code == 202
    code = outbox.code("new@example.org")
    with app.app_context():
        session = Session.find_live(Session.get().id)
        app.extensions["tokens"] = InterruptedTokens([app.config["SECRET_KEY"]], meanwhile)
        with pytest.raises(InvalidAccessToken):
            email_changes.verify(
                session, email="new@example.org", code=code, caller=Caller(alice.network)
            )
        assert User.find_by_email("new@example.org") is None
