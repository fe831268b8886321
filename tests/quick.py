"""Passwords that cost next to nothing: those of all tests that are not about hashing."""

from functools import cache

from werkzeug.security import generate_password_hash

from runtime.errors import Overloaded
from runtime.security.passwords import Passwords

METHOD = "scrypt:512:8:1"


@cache
def quick_hash(password: str) -> str:
    """A real hash of the kind that QuickPasswords makes, always the same."""
    return generate_password_hash(password, METHOD)


class QuickPasswords(Passwords):
    """Real scrypt, and room for all who ask at once."""

    def __init__(self, workers: int = 2, queue: int = 200):
        super().__init__(workers, queue, METHOD)


class BusyPasswords(QuickPasswords):
    """Refuses to hash as long as it is told to."""

    busy = True

    def hash(self, password: str, network: str = "") -> str:
        if self.busy:
            raise Overloaded(2)
        return super().hash(password, network)
