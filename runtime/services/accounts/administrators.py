"""Who may do what administrators do: the command made them one, and they have just signed in."""

from datetime import timedelta

from runtime.errors import Forbidden, RecentSignInNeeded
from runtime.limits.rates import REQUESTS_PER_ADMINISTRATOR, limiter
from runtime.models.sessions import Session, database_now

# A session is refreshed for months, and its tokens may be copied; a password was entered just now.
RECENT_SECONDS = 15 * 60


def demand_administrator(session: Session) -> None:
    """Return if an administrator asks who has signed in lately, and not too often.

    Raises Forbidden, RecentSignInNeeded, TooManyRequests.
    """
    if not session.user.is_admin:
        raise Forbidden
    demand_recent_sign_in(session)
    limiter.spend(REQUESTS_PER_ADMINISTRATOR, str(session.user_id))


def demand_recent_sign_in(session: Session) -> None:
    """Return if the session began within the last RECENT_SECONDS; no refresh makes it younger.

    By the database's clock, which began it. Raises RecentSignInNeeded.
    """
    if database_now() - session.created_at > timedelta(seconds=RECENT_SECONDS):
        raise RecentSignInNeeded
