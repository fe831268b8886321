"""What happens in the middle of a change of address."""

from collections.abc import Callable

import pytest
from flask import Flask

from runtime.callers import Caller
from runtime.db import release
from runtime.errors import WrongPassword
from runtime.models import EmailChange, Session, User
from runtime.services import credentials, email_changes, users
from tests.conftest import PASSWORD, Person
from tests.quick import QuickPasswords


class InterruptedPasswords(QuickPasswords):
    """Right ones, that call `meanwhile` once they were looked at."""

    def __init__(self, meanwhile: Callable):
        super().__init__()
        self.meanwhile = meanwhile

    def verify(self, password: str, password_hash: str | None) -> bool:
        self.meanwhile()
        release()
        return True


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda: credentials.replace_password(User.get(), "of another password"),
        lambda: users.disable(User.get()),
        lambda: users.erase(User.get()),
        lambda: credentials.change_account(User.get(), email="fresh@example.org"),
    ],
    ids=["replaced", "disabled", "erased", "moved"],
)
def test_no_code_is_good_that_was_asked_for_with_an_earlier_password_or_address(
    app: Flask, alice: Person, meanwhile: Callable
):
    """It would outlive what made all codes worthless, or its notice miss the owner's mailbox."""
    with app.app_context():
        session = Session.find_with_user(Session.get().id)
        app.extensions["passwords"] = InterruptedPasswords(meanwhile)

        with pytest.raises(WrongPassword):
            email_changes.begin(
                session,
                email="new@example.org",
                current_password=PASSWORD,
                redirect_to=None,
                caller=Caller(alice.network),
            )

        assert EmailChange.select().count() == 0
