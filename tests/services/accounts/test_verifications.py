"""What HTTP cannot reach: real races, a held clock, and the strongest guesser we can think of."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Lock

import pytest
from flask import Flask

from runtime import clock as runtime_clock
from runtime.caller import Caller
from runtime.errors import CodeUsedUp, InvalidCode, NothingToResend, TooManyRequests
from runtime.models.codes import SignUp
from runtime.models.users import User
from runtime.security.tokens import Tokens
from runtime.services.accounts import verifications
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
    details = {"password": "correct horse", "redirect_to": None, **more}
    caller = Caller(network, language="en")
    verifications.begin(username=username, email=email, caller=caller, **details)


def resend(network: str, email=EMAIL) -> None:
    verifications.resend(email=email, caller=Caller(network, language="en"))


def is_compared(network: str, code="000000", email=EMAIL) -> bool:
    """Guess once; False when no further guess will be looked at."""
    try:
        verifications.verify(email=email, code=code, caller=Caller(network))
    except (CodeUsedUp, TooManyRequests):
        return False
    except InvalidCode:
        return True
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


def test_no_code_is_mailed_for_a_sign_up_that_was_made_void_meanwhile(app: Flask, outbox: Outbox):
    """It was there when a resend looked, and the code was not made yet."""
    with app.app_context():
        begin(OWNER)
        mailed = len(outbox.texts(EMAIL))
        keys = [app.config["SECRET_KEY"]]
        app.extensions["tokens"] = InterruptedTokens(keys, lambda: SignUp.void(SignUp.id == made))
        made = SignUp.get().id

        assert verifications._renew_codes(EMAIL, False, Caller(OWNER)) is None
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
        assert not is_compared(OWNER, code)
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


def test_guesses_at_once_from_a_hundred_openers_are_five_for_each_that_may_be_tried(app, counting):
    with app.app_context():
        for number in range(20):
            begin(f"203.0.113.{number}", f"eve{number}")

    guess_at_once(app, *((f"203.0.113.{number % 20}",) for number in range(200)))

    assert len(counting.compared) == 11 * 5
    assert set(Counter(owner for _, owner in counting.compared).values()) == {5}


@pytest.mark.parametrize("hoards", [False, True])
def test_guessing_without_rest_is_bounded(app: Flask, counting, clock, hoards: bool):
    """Three days of it: sign-ups from ever new networks, several each, and all tries there are.

    What was opened may be kept, to be tried all at once at the end of a day.
    """
    with app.app_context():
        opened = []
        for step in range(3 * 12):
            for number in range(4):
                opened.append(f"10.0.{step}.{number}")
                for each in range(1 + number):
                    begin(opened[-1], f"eve{step}_{number}_{each}")
            with suppress(NothingToResend):
                resend(opened[-1])
            if not hoards or step % 12 == 11:
                for network in opened:
                    renew(network)
                    while is_compared(network):
                        pass
                opened.clear()
            for elsewhere in (f"192.0.2.{step}", f"192.0.3.{step}"):
                while is_compared(elsewhere):
                    pass
            clock.advance(minutes=119)

    most = most_in_a_day([instant for instant, _ in counting.compared])
    # Of sign-ups alone: 14 more chances are at recoveries.
    assert 11 * 5 <= most <= 11 * 5 + 14


def renew(network: str) -> None:
    """Let the codes of this network be fresh, as a resend would."""
    fresh_until = runtime_clock.now() + timedelta(minutes=5)
    SignUp.update(code_expires_at=fresh_until).where(SignUp.network == network).execute()


def test_who_opened_a_sign_up_is_bounded_alone(app: Flask, counting, clock):
    """One network that opens sign-ups, has codes mailed again and guesses, two days."""
    with app.app_context():
        for number in range(32):
            begin(OWNER, f"eve{number}")
            with suppress(NothingToResend):
                resend(OWNER)
            while is_compared(OWNER):
                pass
            clock.advance(hours=1.5)

    assert most_in_a_day([instant for instant, _ in counting.compared]) <= 4 * 5 + 2 * 3


def test_no_code_is_tried_more_often_by_its_opener_than_five_times(app, counting, clock):
    with app.app_context():
        begin(OWNER)
        for _ in range(8):
            is_compared(OWNER)
            with suppress(NothingToResend):
                resend(OWNER)
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
        counting.compared.clear()
        while is_compared(OWNER):
            pass
        assert len(counting.compared) == 5


@pytest.mark.parametrize("before", [0, 5])
def test_in_the_worst_flood_the_owner_has_all_five_tries(
    app: Flask, counting, outbox: Outbox, clock, before: int
):
    """Thirty networks sign up before and after, and guess until they are refused."""
    strangers = [f"203.0.113.{number}" for number in range(30)]
    with app.app_context():
        for number, network in enumerate(strangers):
            if number == before:
                begin(OWNER, "owner")
            begin(network, f"eve{number}")
        code = _code_of(outbox, "owner")
        wrong = "000000" if code != "000000" else "000001"
        for _ in range(6):
            for network in [*strangers, "192.0.2.1", "192.0.2.2"]:
                is_compared(network, wrong)
            clock.advance(seconds=30)

        assert [is_compared(OWNER, wrong) for _ in range(4)] == [True] * 4
        pair = verifications.verify(email=EMAIL, code=code, caller=Caller(OWNER))

        assert User.get_by_id(pair.user.id).username == "owner"


def test_one_stranger_leaves_tries_to_the_owner_on_another_network(app, counting, outbox):
    with app.app_context():
        begin(OWNER)
        code = outbox.code(EMAIL)
        while is_compared("203.0.113.1", "000000" if code != "000000" else "000001"):
            pass

        pair = verifications.verify(email=EMAIL, code=code, caller=Caller("192.0.2.1"))

        assert User.get_by_id(pair.user.id).username == "ada"


def _code_of(outbox: Outbox, username: str) -> str:
    text = next(text for text in outbox.texts(EMAIL) if f": {username}\r\n" in text)
    return text.partition("Code: ")[2][:6]


def test_a_pool_is_the_same_under_a_new_key(app: Flask, counting):
    """Otherwise whoever knew of the change could guess twice as often that day."""
    with app.app_context():
        for network in ("203.0.113.1", "203.0.113.2"):
            while is_compared(network):
                pass
        old = app.config["SECRET_KEY"]
        app.extensions["tokens"] = Tokens(["a newer key", old])

        assert not is_compared("203.0.113.3")


def test_a_mail_that_fails_is_tried_again_with_the_same_code(app: Flask, counting, outbox):
    """The codes of a resend are made on the sender's thread, once."""
    with app.app_context():
        begin(OWNER)
        outbox.mails()
        folder = Path(app.config["INSTANCE_PATH"]) / "outbox"
        aside = folder.rename(folder.with_name("aside"))
        folder.touch()
        before = SignUp.get().code_hash
        resend(OWNER)
        deadline = time.monotonic() + 5
        while SignUp.get().code_hash == before and time.monotonic() < deadline:
            time.sleep(0.01)
        renewed = SignUp.get().code_hash
        folder.unlink()
        aside.rename(folder)
        app.extensions["mail"].drain(5)

        assert SignUp.get().code_hash == renewed != before
        verifications.verify(email=EMAIL, code=outbox.code(EMAIL), caller=Caller(OWNER))
