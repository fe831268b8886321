"""The limits, each named by its purpose; the `limits` library counts, in Redis or memory.

A key names whom a limit holds for: a user, a session, a device, an email address, a network (an
IPv4 address or the /56 of an IPv6 one), or two of them. runtime/docs/limits.md tells users the same
numbers. `check` counts nothing
and `spend` counts one; both raise TooManyRequests when nothing is left. So do the functions of
`runtime.limits.allowances` and `runtime.services.accounts.mail_limits`, whose bounds are in the
database: those on guesses of codes, and those on mails.

Spend a limit on guesses before the guess; the others after the work that they pay for.
"""

import math
import time
from collections.abc import Callable
from typing import cast

from flask import Flask, current_app
from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.local import LocalProxy

from runtime import metrics
from runtime.errors import StoreUnavailable, TooManyRequests
from runtime.limits.memory import Memory


def _limit(name: str, rate: str) -> RateLimitItem:
    """A limit by its name in Redis and in metrics, and so many in any such span."""
    limit = parse(rate)
    limit.namespace = name
    return limit


# A school or an office behind one address may sign up a hundred people in an hour.
SIGN_UPS_PER_NETWORK = _limit("sign-ups-network", "100 per hour")
# Names that were taken: generous, and apart from the sign-ups, so that they use up none.
TAKEN_NAMES_PER_NETWORK = _limit("taken-names-network", "300 per hour")

RESENDS_PER_NETWORK = _limit("resends-network", "100 per hour")
RESENDS_PER_ADDRESS = _limit("resends", "1 per minute")
# A resend makes the codes mailed before worthless: few for a network that opened no sign-up.
RESENDS_BY_OTHERS = _limit("resends-others", "4 per day")

RECOVERIES_PER_NETWORK = _limit("recoveries-network", "100 per hour")
# Each is a notice to the account's own address too.
EMAIL_CHANGES_PER_USER = _limit("email-changes-user", "6 per day")
WRONG_CODES_PER_NETWORK = _limit("codes-network", "100 per 10 minutes")

# The right password clears it.
SIGN_INS_PER_ADDRESS_AND_NETWORK = _limit("sign-ins-pair", "10 per 15 minutes")
# A signed-in user who gives the password once more counts too.
SIGN_INS_PER_NETWORK = _limit("sign-ins-network", "300 per 15 minutes")
# Only networks that the account has not signed in from: a flood leaves its owner a way in.
SIGN_INS_PER_ADDRESS = _limit("sign-ins-address", "100 per hour")
# A device that has signed in before has its own tries, and all devices of an account together.
# When these are used up, the three above hold for it. In all five right passwords count too.
SIGN_INS_PER_DEVICE = _limit("sign-ins-device", "10 per 15 minutes")
SIGN_INS_BY_DEVICES = _limit("sign-ins-devices", "30 per 15 minutes")
# A user who is signed in and gives the password once more. The right one clears it.
PASSWORDS_PER_SESSION = _limit("passwords-session", "10 per 15 minutes")

EXPORTS_PER_USER = _limit("exports", "5 per day")
RUNS_PER_USER = _limit("runs", "60 per minute")
# A message sent again, sent into a chat that is busy or beyond what may be stored; a stream read
# again. A client that mistakes an answer for a lost connection does these without end.
REPEATS_PER_USER = _limit("repeats", "300 per minute")
# What an administrator, or who has their token, may read and do.
REQUESTS_PER_ADMINISTRATOR = _limit("administrator", "300 per minute")


class RateLimiter:
    """Moving windows: a limit of N is N in any window, and `retry_after` is exact.

    `hide` turns each part of a key into what Redis may know of it.
    """

    def __init__(self, store, enabled: bool, hide: Callable[[str], str] = str):
        self._store = store
        self._enabled = enabled
        self._hide = hide
        self._own = MovingWindowRateLimiter(Memory())
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

    def check(self, limit: RateLimitItem, *key: str) -> None:
        """Count nothing. Raises TooManyRequests when nothing is left."""
        if self._enabled and not self._call("test", limit, *key):
            self._refuse(limit, *key)

    def spend(self, limit: RateLimitItem, *key: str) -> None:
        """Count one. Raises TooManyRequests when nothing is left, and then counts nothing."""
        if self._enabled and not self._call("hit", limit, *key):
            self._refuse(limit, *key)

    def check_all(self, *limits: tuple) -> None:
        """`check` each of these limits, given as a tuple of the limit and its key."""
        for limit in limits:
            self.check(*limit)

    def spend_all(self, *limits: tuple) -> None:
        """`spend` each of these limits, but none when one of them has nothing left."""
        self.check_all(*limits)
        for limit in limits:
            self.spend(*limit)

    def clear(self, limit: RateLimitItem, *key: str) -> None:
        """Forget what was spent."""
        if self._enabled:
            self._call("clear", limit, *key)

    def _refuse(self, limit: RateLimitItem, *key: str) -> None:
        reset_at, _remaining = self._call("get_window_stats", limit, *key)
        metrics.limits_reached.labels(limit.namespace).inc()
        raise TooManyRequests(max(1, math.ceil(reset_at - time.time())))

    def _call(self, method: str, limit: RateLimitItem, *key: str):
        """Ask Redis, or count in this process alone while it is away."""
        hidden = [self._hide(part) for part in key]
        try:
            return self._store.call(getattr(self._shared, method), limit, *hidden)
        except StoreUnavailable:
            return getattr(self._own, method)(limit, *hidden)


def init_app(app: Flask) -> None:
    """Count in the app's store, unless RATE_LIMITS is off."""
    hide = app.extensions["tokens"].keyed_hash
    app.extensions["ratelimit"] = RateLimiter(
        app.extensions["store"], app.config["RATE_LIMITS"], hide
    )


limiter = cast(RateLimiter, LocalProxy(lambda: current_app.extensions["ratelimit"]))
