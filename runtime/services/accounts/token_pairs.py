"""What every sign-in answers: the two tokens of a session, and the user."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from runtime.security.tokens import ACCESS_SECONDS, Claims, tokens


@dataclass(frozen=True)
class TokenOwner:
    """The account that tokens are for."""

    id: UUID
    email: str


@dataclass(frozen=True)
class TokenPair:
    """What a client holds of its session; the access token is good for `expires_in` seconds."""

    access_token: str
    refresh_token: str
    user: TokenOwner
    expires_in: int = ACCESS_SECONDS
    token_type: str = "bearer"


def make_pair(claims: Claims, email: str, issued_at: datetime) -> TokenPair:
    """The tokens that say `claims`: the refresh token is the same whenever it is made."""
    owner = TokenOwner(claims.user_id, email)
    return TokenPair(tokens.make_access(claims, issued_at), tokens.make_refresh(claims), owner)
