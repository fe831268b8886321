"""What HTTP cannot reach: real races, a held clock, and the strongest guesser we can think of."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Lock

import pytest
from flask import Flask

from runtime import clock as runtime_clock
from runtime.errors import InvalidCode, TooManyRequests
from runtime.models import SignUp, User
from runtime.services import verifications
from runtime.tokens import Tokens
from tests.conftest import Outbox, at_once
from tests.quick import QuickPasswords

EMAIL = "ada@example.org"
OWNER = "198.51.100.10"
DAY = timedelta(hours=24)


class CountingTokens(Tokens):
    """Notes every comparison of a guess with a code, not with none: when, and whose code."""

    def __init__(self, keys):
        super().__init__(keys)
        self.compared = []
        self.lock = Lock()

    def matches_code(self, owner, code: str, code_hash: str) -> bool:
        if code_hash:
            with self.lock:
                self.compared.append((runtime_clock.now(), owner))
        return super().matches_code(owner, code, code_hash)


@pytest.fixture
def settings(settings: dict) -> dict:
    """Nothing here may rest on the limits, which can be lifted."""
    return {**settings, "RATE_LIMITS": "off"}


@pytest.fixture
def counting(app: Flask) -> CountingTokens:
    app.extensions["passwords"] = QuickPasswords()
    app.extensions["tokens"] = CountingTokens([app.config["SECRET_KEY"]])
    return app.extensions["tokens"]


def begin(network: str, username="ada", email=EMAIL, **more) -> None:
    details = {"password": "correct horse", "redirect_to": None, "language": "en", **more}
    verifications.begin(username=username, email=email, network=network, **details)


def is_compared(network: str, code="000000", email=EMAIL) -> bool:
    """Guess once; False when it was refused without a look."""
    try:
        verifications.verify(email=email, code=code, network=network)
    except InvalidCode:
        return True
    except TooManyRequests:
        return False
    raise AssertionError("guessed: one in a million")


def most_in_a_day(instants: list) -> int:
    """The most that fall into any 24 hours."""
    return max(sum(start <= instant < start + DAY for instant in instants) for start in instants)


class InterruptedTokens(Tokens):
    """Calls `meanwhile` when a code is made."""

    def __init__(self, keys, meanwhile: Callable):
        super().__init__(keys)
        self.meanwhile = meanwhile

    def hash_code(self, owner, code: str) -> str:
        self.meanwhile()
        return super().hash_code(owner, code)


def test_no_code_is_mailed_for_a_sign_up_that_was_made_void_meanwhile(
    app: Flask, quick, outbox: Outbox
):
    """It was there when a resend looked, and the code was not made yet."""
    with app.app_context():
        begin(OWNER)
        mailed = len(outbox.texts(EMAIL))
        keys = [app.config["SECRET_KEY"]]
        app.extensions["tokens"] = InterruptedTokens(keys, lambda: SignUp.void(SignUp.id == made))
        made = SignUp.get().id

        assert verifications._renew_codes(EMAIL, "en") is None
        assert SignUp.get().code_hash == ""
        assert len(outbox.texts(EMAIL)) == mailed


def guess_at_once(app: Flask, *guesses: tuple) -> list[bool]:
    """`is_compared` of all these arguments, at the same moment."""

    def guess(arguments: tuple) -> bool:
        with app.app_context():
            return is_compared(*arguments)

    return at_once(*(partial(guess, arguments) for arguments in guesses))


def test_a_hundred_wrong_guesses_at_once_are_counted_as_a_hundred(app, counting, outbox: Outbox):
    with app.app_context():
        begin(OWNER)
    code = outbox.code(EMAIL)
    wrong = "000000" if code != "000000" else "000001"

    guess_at_once(app, *[(OWNER, wrong)] * 100)

    with app.app_context():
        assert SignUp.get().tries_left == 0
        assert len(counting.compared) == 5
        is_compared(OWNER, code)
        assert User.select().count() == 0


def test_guesses_at_once_from_a_hundred_networks_share_one_small_pool(app, counting):
    with app.app_context():
        begin(OWNER)
        begin("198.51.100.11", "eve")

    compared = guess_at_once(app, *((f"203.0.113.{number}",) for number in range(100)))

    assert compared.count(True) == 5
    assert len(counting.compared) <= 5 * 2
    with app.app_context():
        assert {sign_up.tries_left for sign_up in SignUp.select()} == {5}


def test_guesses_at_once_from_a_hundred_openers_are_fewer_than_their_pools(app, counting):
    """Each with two sign-ups, so that a guess is good for two comparisons."""
    with app.app_context():
        for number in range(60):
            begin(f"203.0.113.{number}", f"eve{number}")
            begin(f"203.0.113.{number}", f"eva{number}")

    guess_at_once(app, *((f"203.0.113.{number % 60}",) for number in range(100)))

    assert len(counting.compared) <= 40 + 14


def test_guessing_without_rest_is_bounded(app: Flask, counting, clock):
    """Two days of it: sign-ups from ever new networks, several each, and all tries there are."""
    with app.app_context():
        networks = 0
        for step in range(2 * 24):
            refused = 0
            while refused < 3:
                networks += 1
                network = f"10.{networks >> 16}.{networks >> 8 & 255}.{networks & 255}"
                for number in range(1 + networks % 3):
                    begin(network, f"eve{networks}_{number}")
                while is_compared(network) and not refused:
                    pass
                refused += 1
            while is_compared(f"192.0.2.{step}"):
                pass
            clock.advance(hours=1)

    instants = [instant for instant, _ in counting.compared]
    assert 80 < most_in_a_day(instants) < 100


def test_who_opened_a_sign_up_is_bounded_alone(app: Flask, counting, clock):
    """One network that opens sign-ups, has codes mailed again and guesses, a day and a half."""
    with app.app_context():
        for number in range(24):
            begin(OWNER, f"eve{number}")
            verifications.resend(email=EMAIL, network=OWNER, language="en")
            while is_compared(OWNER):
                pass
            clock.advance(hours=1.5)

    assert most_in_a_day([instant for instant, _ in counting.compared]) < 100


def test_no_code_is_tried_more_often_by_its_opener_than_five_times(app, counting, clock):
    with app.app_context():
        begin(OWNER)
        for _ in range(8):
            is_compared(OWNER)
            verifications.resend(email=EMAIL, network=OWNER, language="en")
            clock.advance(hours=2)

    assert max(Counter(owner for _, owner in counting.compared).values()) <= 5


def test_one_stranger_uses_up_no_common_pool(app: Flask, counting, clock):
    """A day of guessing from one network; then somebody else's tries are all there."""
    with app.app_context():
        for hour in range(30):
            begin("203.0.113.1", f"eve{hour}")
            while is_compared("203.0.113.1"):
                pass
            clock.advance(hours=1)
        begin(OWNER)
        assert [is_compared(OWNER) for _ in range(5)] == [True] * 5


def test_in_the_worst_flood_the_owner_has_a_try(app: Flask, counting, outbox: Outbox, clock):
    """Thirty networks sign up before and after, and guess until they are refused."""
    strangers = [f"203.0.113.{number}" for number in range(30)]
    with app.app_context():
        for number, network in enumerate(strangers):
            if number == 15:
                begin(OWNER, "owner")
            begin(network, f"eve{number}")
        code = _code_of(outbox, "owner")
        for _ in range(6):
            for network in [*strangers, "192.0.2.1"]:
                is_compared(network, "000000" if code != "000000" else "000001")
            clock.advance(seconds=30)

        pair = verifications.verify(email=EMAIL, code=code, network=OWNER)

    assert pair.user.username == "owner"


def _code_of(outbox: Outbox, username: str) -> str:
    text = next(text for text in outbox.texts(EMAIL) if f": {username}\r\n" in text)
    return text.partition("Code: ")[2][:6]


def test_a_pool_is_the_same_under_a_new_key(app: Flask, counting):
    """Otherwise whoever knew of the change could guess twice as often that day."""
    with app.app_context():
        while is_compared("203.0.113.1"):
            pass
        old = app.config["SECRET_KEY"]
        app.extensions["tokens"] = Tokens(["a newer key", old])

        assert not is_compared("203.0.113.2")


def test_a_mail_that_fails_is_tried_again_with_the_same_code(app: Flask, counting, outbox):
    """The codes of a resend are made on the sender's thread, once."""
    with app.app_context():
        begin(OWNER)
        outbox.mails()
        folder = Path(app.config["INSTANCE_PATH"]) / "outbox"
        aside = folder.rename(folder.with_name("aside"))
        folder.touch()
        before = SignUp.get().code_hash
        verifications.resend(email=EMAIL, network=OWNER, language="en")
        deadline = time.monotonic() + 5
        while SignUp.get().code_hash == before and time.monotonic() < deadline:
            time.sleep(0.01)
        renewed = SignUp.get().code_hash
        folder.unlink()
        aside.rename(folder)
        app.extensions["mail"].drain(5)

        assert SignUp.get().code_hash == renewed != before
        verifications.verify(email=EMAIL, code=outbox.code(EMAIL), network=OWNER)
