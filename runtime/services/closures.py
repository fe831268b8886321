"""An account is erased or disabled while runs go on in it."""

import time

from runtime.caller import Caller
from runtime.models.sessions import Session
from runtime.models.users import User
from runtime.services.accounts import erasures, notices, users
from runtime.services.accounts.credentials import demand_password
from runtime.services.chats import runs

# A run that has not ended by then ends when it finds that it is in no table any more.
STOP_SECONDS = 2
POLL_SECONDS = 0.05


def erase_own(session: Session, password: str, caller: Caller) -> None:
    """Erase the account of who asks, and gives its password once more; its owner is mailed.

    A recovery, another password or a sign-out that comes meanwhile wins. Raises WrongPassword;
    InvalidAccessToken when the session is over by now; TooManyRequests after too many tries, and
    when too many passwords are being hashed.
    """
    demand_password(session, password, caller)
    _stop_runs(session.user)
    erasures.erase(session.user, asked_in=session)
    _tell(session.user, caller)


def erase(user: User) -> None:
    """Stop the runs of an account, in whichever process, and delete all that is its.

    Its owner is told by mail.
    """
    _stop_runs(user)
    erasures.erase(user)
    _tell(user)


def _tell(user: User, asker: Caller | None = None) -> None:
    """Mail the last that there is to say to the address, in the language, of who is gone."""
    name = "erased" if asker else "erased_by_operator"
    notices.send(user, name, asker=asker, username=user.username)


def disable(user: User, *, by_administrator: bool = False) -> int:
    """Shut an account, see `users.disable`, and stop its runs, in whichever process.

    Returns how many of its sessions were live. Raises UserNotFound.
    """
    ended = users.disable(user, by_administrator=by_administrator)
    # No run begins in a disabled account. A run that began just before is in the table by then.
    time.sleep(POLL_SECONDS)
    _stop_runs(user)
    return ended


def _stop_runs(user: User) -> None:
    """Back when the models were told to stop, or after STOP_SECONDS at the most."""
    deadline = time.monotonic() + STOP_SECONDS
    while runs.stop_all(user) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
