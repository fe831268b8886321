import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.security import generate_password_hash

from runtime.errors import Overloaded
from runtime.passwords import METHOD, Passwords, needs_rehash
from tests.conftest import PASSWORD, password_hash


class SlowPasswords(Passwords):
    """Instead of hashing, each waits until it is told to go on."""

    def __init__(self, workers: int, queue: int):
        super().__init__(workers, queue)
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self.running = self.most_running = 0

    def _run(self, function, *arguments):
        return super()._run(self._wait)

    def _wait(self) -> bool:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.go_on.wait(10)
        with self.lock:
            self.running -= 1
        return True


def test_a_password_matches_its_own_hash_and_no_other():
    passwords = Passwords(1)

    assert passwords.verify(PASSWORD, password_hash())
    assert not passwords.verify(PASSWORD + " ", password_hash())
    assert not passwords.verify(PASSWORD, None)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_password_is_the_same_however_its_accents_are_typed(form: str):
    passwords = Passwords(1)
    kept = passwords.hash(unicodedata.normalize(form, "pass wörd é"))

    assert passwords.verify("pass w\u00f6rd \u00e9", kept)
    assert passwords.verify("pass wo\u0308rd e\u0301", kept)
    assert not passwords.verify("pass word e", kept)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_hash_of_an_earlier_release_goes_on_verifying(form: str):
    """That one hashed what was typed."""
    kept = generate_password_hash(unicodedata.normalize(form, "pass wörd"), METHOD)

    assert Passwords(1).verify(unicodedata.normalize(form, "pass wörd"), kept)
    assert Passwords(1).verify(unicodedata.normalize("NFC", "pass wörd"), kept)


def test_a_hash_of_an_earlier_release_verifies_what_some_keyboards_type():
    """Vietnamese ones put a tone behind a letter that has its circumflex: neither NFC nor NFD."""
    typed = "m\u00e2\u0301t kh\u00e2\u0309u"
    kept = generate_password_hash(typed, METHOD)

    assert Passwords(1).verify(typed, kept)


def test_hashes_have_the_strength_that_owasp_asks_for():
    assert METHOD == "scrypt:32768:8:3"
    assert password_hash().startswith("scrypt:32768:8:3$")
    assert not needs_rehash(password_hash())


@pytest.mark.parametrize("method", ["scrypt:32768:8:1", "scrypt:16384:8:3", "pbkdf2:sha256:1"])
def test_a_hash_with_other_parameters_is_to_be_renewed(method: str):
    assert needs_rehash(generate_password_hash(PASSWORD, method))


def test_nobodys_password_takes_as_long_as_somebodys():
    """Taken in turns, so that whatever else the machine does falls on both."""
    passwords = Passwords(1)
    seconds = {password_hash(): 0.0, None: 0.0}
    for _ in range(4):
        for kept in seconds:
            began = time.process_time()
            passwords.verify("not the password", kept)
            seconds[kept] += time.process_time() - began

    somebody, nobody = seconds.values()
    assert 0.5 < somebody / nobody < 2


def test_only_so_many_run_at_once_a_few_wait_and_the_rest_are_told_at_once():
    passwords = SlowPasswords(2, queue=3)
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(passwords.hash, PASSWORD) for _ in range(20)]
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (
            sum(answer.done() for answer in answers) < 15 or passwords.running < 2
        ):
            time.sleep(0.01)
        refused = [answer.exception() for answer in answers if answer.done()]
        passwords.go_on.set()

    assert len(refused) == 15
    assert all(isinstance(error, Overloaded) and error.retry_after == 2 for error in refused)
    assert passwords.most_running == 2
    assert sum(answer.exception() is None for answer in answers) == 5


def test_a_place_is_free_again_whatever_came_of_it():
    passwords = Passwords(1, queue=0)
    for _ in range(3):
        with pytest.raises(ValueError, match="Invalid hash method"):
            passwords.verify(PASSWORD, "rot13$salt$hash")

    assert passwords.verify(PASSWORD, generate_password_hash(PASSWORD, "pbkdf2:sha256:1"))
