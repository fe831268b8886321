"""The limits, each named by its purpose; the `limits` library counts, in Redis or memory.

A key names whom a limit holds for: a network, an address, or both together. None of this keeps a
code from being guessed: that bound is in the database (`services/accounts/codes.py`), and so are
those on mails (`services/accounts/mailings.py`). Limits on guesses are counted before the guess;
the others after the work that they pay for.
"""

import math
import threading
import time
from collections.abc import Callable

from flask import current_app
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.local import LocalProxy

from runtime import metrics
from runtime.errors import StoreUnavailable, TooManyRequests

# A school or an office behind one address may sign up a hundred people in an hour.
SIGN_UPS_PER_NETWORK = RateLimitItemPerHour(100, namespace="sign-ups-network")
# Names that were taken: generous, and apart from the sign-ups, so that they use up none.
TAKEN_NAMES_PER_NETWORK = RateLimitItemPerHour(300, namespace="taken-names-network")
RESENDS_PER_NETWORK = RateLimitItemPerHour(100, namespace="resends-network")
RESENDS_PER_ADDRESS = RateLimitItemPerMinute(1, namespace="resends")
# A resend makes the codes mailed before worthless: who opened no sign-up gets few in a day.
RESENDS_BY_OTHERS = RateLimitItemPerDay(4, namespace="resends-others")
RECOVERIES_PER_NETWORK = RateLimitItemPerHour(100, namespace="recoveries-network")
# Each is a notice to the account's own address too.
EMAIL_CHANGES_PER_USER = RateLimitItemPerDay(6, namespace="email-changes-user")
# Wrong ones.
CODES_PER_NETWORK = RateLimitItemPerMinute(100, 10, namespace="codes-network")
# Cleared by the right password.
SIGN_INS_PER_ADDRESS_AND_NETWORK = RateLimitItemPerMinute(10, 15, namespace="sign-ins-pair")
SIGN_INS_PER_NETWORK = RateLimitItemPerMinute(300, 15, namespace="sign-ins-network")
# Holds only networks that the account has not signed in from: a flood leaves its owner a way in.
SIGN_INS_PER_ADDRESS = RateLimitItemPerHour(100, namespace="sign-ins-address")
# For devices that have signed in before, whatever the three above say: for each, and for all that
# an account has, right passwords too. Beyond these the others hold.
SIGN_INS_PER_DEVICE = RateLimitItemPerMinute(10, 15, namespace="sign-ins-device")
SIGN_INS_BY_DEVICES = RateLimitItemPerMinute(30, 15, namespace="sign-ins-devices")
# For who is signed in and gives the password once more; cleared by the right one.
PASSWORDS_PER_SESSION = RateLimitItemPerMinute(10, 15, namespace="passwords-session")
EXPORTS_PER_USER = RateLimitItemPerDay(5, namespace="exports")
RUNS_PER_USER = RateLimitItemPerMinute(60, namespace="runs")
# A message that is sent again, into a chat that is busy or beyond what may be stored, and a stream
# that is read again: what a client does without end when it mistakes an answer for a lost
# connection.
REPEATS_PER_USER = RateLimitItemPerMinute(300, namespace="repeats")

# How often a process that counts for itself forgets what is over.
FORGET_SECONDS = 60


class _Memory(MemoryStorage):
    """The library's, for one thread at a time, which forgets a key once its window is over.

    The library's `clear` takes a key from under a `hit`: KeyError. Its own clean-up keeps every key
    that there ever was, and looks at all of them, on a new thread, after every hit.
    """

    def __init__(self):
        self._one_at_a_time = threading.Lock()
        self._forgot_at = time.monotonic()
        super().__init__()
        # It starts one when this one is not alive any more.
        self.timer = threading.main_thread()

    def acquire_entry(self, *arguments, **options) -> bool:
        with self._one_at_a_time:
            if time.monotonic() >= self._forgot_at + FORGET_SECONDS:
                self._forget()
            return super().acquire_entry(*arguments, **options)

    def _forget(self) -> None:
        self._forgot_at, now = time.monotonic(), time.time()
        # The newest hit is first.
        over = [key for key, hits in self.events.items() if not hits or hits[0].expiry <= now]
        for key in over:
            del self.events[key]
            self.locks.pop(key, None)

    def clear(self, key: str) -> None:
        with self._one_at_a_time:
            self.events[key] = []


class RateLimiter:
    """Moving windows, so that a limit of N is N in any window and `retry_after` is exact.

    `hide` makes of an address or a network what Redis may know of it.
    """

    def __init__(self, store, enabled: bool, hide: Callable[[str], str] = str):
        self._store = store
        self._enabled = enabled
        self._hide = hide
        self._own = MovingWindowRateLimiter(_Memory())
        self._shared = self._own
        if store.pool is not None:
            self._shared = MovingWindowRateLimiter(
                RedisStorage(
                    "redis://",
                    connection_pool=store.pool,
                    retry=store.retry,
                    key_prefix=store.key_prefix,
                )
            )

    def hit(self, limit: RateLimitItem, *key: str) -> None:
        """Count one. Raises TooManyRequests when the limit is reached; that one is not counted."""
        if self._enabled and not self._call("hit", limit, *key):
            self._refuse(limit, *key)

    def check(self, limit: RateLimitItem, *key: str) -> None:
        """Count nothing. Raises TooManyRequests when the limit is reached."""
        if self._enabled and not self._call("test", limit, *key):
            self._refuse(limit, *key)

    def hit_all(self, *limits: tuple) -> None:
        """Count one for each of these limits with its key, unless one of them is reached.

        Raises TooManyRequests then, and none is counted.
        """
        self.check_all(*limits)
        for limit in limits:
            self.hit(*limit)

    def check_all(self, *limits: tuple) -> None:
        """Count nothing. Raises TooManyRequests when one of these limits is reached."""
        for limit in limits:
            self.check(*limit)

    def clear(self, limit: RateLimitItem, *key: str) -> None:
        """Forget what was counted."""
        if self._enabled:
            self._call("clear", limit, *key)

    def _refuse(self, limit: RateLimitItem, *key: str) -> None:
        reset_at, _remaining = self._call("get_window_stats", limit, *key)
        metrics.limits_reached.inc(limit.namespace)
        raise TooManyRequests(max(1, math.ceil(reset_at - time.time())))

    def _call(self, method: str, limit: RateLimitItem, *key: str):
        """Ask Redis, or count in this process alone while it is away."""
        hidden = [self._hide(part) for part in key]
        try:
            return self._store.call(getattr(self._shared, method), limit, *hidden)
        except StoreUnavailable:
            return getattr(self._own, method)(limit, *hidden)


def init_app(app) -> None:
    hide = app.extensions["tokens"].hash_address
    app.extensions["ratelimit"] = RateLimiter(
        app.extensions["store"], app.config["RATE_LIMITS"], hide
    )


limiter: RateLimiter = LocalProxy(lambda: current_app.extensions["ratelimit"])
