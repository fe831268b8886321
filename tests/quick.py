"""Passwords that cost next to nothing, for tests that sign up or in dozens of times."""

from werkzeug.security import generate_password_hash

from runtime.errors import Overloaded
from runtime.security.passwords import Passwords

METHOD = "scrypt:512:8:1"


def quick_hash(password: str) -> str:
    """A real hash of the kind that QuickPasswords makes."""
    return generate_password_hash(password, METHOD)


NOBODY = quick_hash("nobody's")


class QuickPasswords(Passwords):
    """Real scrypt, and room for all who ask at once."""

    def __init__(self, workers: int = 2, queue: int = 200):
        super().__init__(workers, queue)
        self._nobody = NOBODY

    def hash(self, password: str, network: str = "") -> str:
        return self._run(network, quick_hash, password)


class BusyPasswords(QuickPasswords):
    """Refuses to hash as long as it is told to."""

    busy = True

    def hash(self, password: str, network: str = "") -> str:
        if self.busy:
            raise Overloaded(2)
        return super().hash(password, network)
