import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.security import generate_password_hash

from runtime.errors import Overloaded
from runtime.security import passwords as passwords_module
from runtime.security.passwords import METHOD, Passwords
from tests.conftest import PASSWORD, password_hash
from tests.quick import quick_hash


class SlowPasswords(Passwords):
    """Instead of hashing, each waits until it is told to go on."""

    def __init__(self, workers: int, queue: int):
        super().__init__(workers, queue)
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self.running = self.most_running = 0

    def _run(self, network: str, function, *arguments):
        return super()._run(network, self._wait)

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
    assert not Passwords(1).needs_rehash(password_hash())


@pytest.mark.parametrize("method", ["scrypt:32768:8:1", "scrypt:16384:8:3", "pbkdf2:sha256:1"])
def test_a_hash_with_other_parameters_is_to_be_renewed(method: str):
    assert Passwords(1).needs_rehash(generate_password_hash(PASSWORD, method))


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
        with pytest.raises(UnicodeEncodeError):
            passwords.verify("no \ud800 text", None)

    assert passwords.verify(PASSWORD, generate_password_hash(PASSWORD, "pbkdf2:sha256:1"))


FOREIGN = [
    "",
    "-",
    "x" * 255,
    "rot13$salt$00",
    "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
    "pbkdf2_sha256$600000$salt$5TTcjPRVJYxq6wcKNKOhbDCI5RHIwkGFYsTtLfTSnXg=",
    "bcrypt_sha256$$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWA",
    "{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "sha256$salt$00",
    "plain$$correct horse battery",
    "scrypt:3:8:1$salt$00",
    "scrypt:a:b:c$salt$00",
    "scrypt:0:0:0$salt$00",
    "scrypt:32768:8$salt$00",
    "scrypt:524288:8:1$salt$00",
    "scrypt:2:1:3000000$salt$00",
    "scrypt:999999999:999999999:999999999$salt$00",
    "scrypt:32768:8:3$salt$\u00e9",
    "scrypt:32768:8:3$s\u00e4lt$00",
    "scrypt:32768:8:3$$00",
    "scrypt:32768:8:3$salt$",
    "pbkdf2:rot13:1$salt$00",
    "pbkdf2:sha256:0$salt$00",
    "pbkdf2:sha256:999999999$salt$00",
    "\u0663$\u0663$\u0663",
]


@pytest.mark.parametrize("method", ["scrypt:131072:8:1", "scrypt:8192:8:10"])
def test_a_hash_of_any_strength_that_owasp_names_is_verified(method: str):
    assert Passwords(1).verify(PASSWORD, generate_password_hash(PASSWORD, method))


@pytest.mark.parametrize("kept", FOREIGN)
def test_a_hash_that_cannot_be_verified_matches_no_password_and_costs_as_much(kept: str):
    passwords = Passwords(1)
    seconds = {kept: 0.0, None: 0.0}
    for each in seconds:
        began = time.process_time()
        assert not passwords.verify(PASSWORD, each)
        seconds[each] = time.process_time() - began

    assert 0.3 < seconds[kept] / seconds[None] < 3


class CountedHashes:
    """Counts the passwords that are hashed to be compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.count = 0
        self._check = passwords_module.check_password_hash
        monkeypatch.setattr(passwords_module, "check_password_hash", self.check)

    def check(self, *arguments) -> bool:
        self.count += 1
        return self._check(*arguments)


@pytest.mark.parametrize(
    ("password", "most"),
    [("not the password", 1), ("p\u00e4ssw\u00f6rd", 2), ("m\u00e2\u0301t kh\u00e2\u0309u", 2)],
)
def test_accents_cost_one_hash_more_for_everybody_alike(monkeypatch, password: str, most: int):
    """Less for a hash that has no other forms would tell that there is one."""
    passwords, counted = Passwords(1), CountedHashes(monkeypatch)
    kept = [
        None,
        quick_hash("another"),
        "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
    ]
    spent = set()
    for each in kept:
        counted.count = 0
        assert not passwords.verify(password, each)
        spent.add(counted.count)

    assert spent == {most}
