"""Access tokens, refresh tokens, and the keyed hash of a mailed code.

Each purpose has a salt of its own, so that none passes for another. Keys are a list, the newest
first: it signs, all verify. Tokens are signed, not encrypted: they name a session, a user and a
counter, and hold nothing secret.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from flask import current_app
from itsdangerous import BadData, URLSafeSerializer
from werkzeug.local import LocalProxy

ACCESS_SECONDS = 3600
# Clocks of machines differ by so much and refuse nobody's fresh token.
LEEWAY_SECONDS = 30


class InvalidToken(Exception):
    """Not one of ours, altered, or run out."""


@dataclass(frozen=True)
class Claims:
    """What a token says: its session, and how often that had been refreshed when it was made."""

    session_id: UUID
    generation: int


class Tokens:
    """Makes and reads tokens with `keys`, the newest first."""

    def __init__(self, keys: Sequence[str]):
        self._keys = [key.encode() for key in keys]
        self._access = self._serializer("access-token")
        self._refresh = self._serializer("refresh-token")

    def _serializer(self, salt: str) -> URLSafeSerializer:
        # itsdangerous takes the oldest key first and would sign with SHA-1.
        return URLSafeSerializer(
            self._keys[::-1], salt=salt, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def make_access(self, claims: Claims, issued_at: datetime) -> str:
        """An access token that is good for ACCESS_SECONDS from `issued_at`."""
        expires_at = issued_at + timedelta(seconds=ACCESS_SECONDS)
        return self._access.dumps([*_pack(claims), int(expires_at.timestamp())])

    def read_access(self, token: str, now: datetime) -> Claims:
        """Raises InvalidToken when the token is not ours or ran out before `now`.

        The expiry is carried instead of the age: itsdangerous refuses an age below zero, which
        is every fresh token once a clock is set back.
        """
        *claims, expires_at = _load(self._access, token, 3)
        if now > datetime.fromtimestamp(expires_at + LEEWAY_SECONDS, UTC):
            raise InvalidToken("expired")
        return _unpack(claims)

    def make_refresh(self, claims: Claims) -> str:
        """The refresh token of these claims: the same bytes whenever it is made."""
        return self._refresh.dumps(_pack(claims))

    def read_refresh(self, token: str) -> Claims:
        """Raises InvalidToken when the token is not ours. It runs out with its session."""
        return _unpack(_load(self._refresh, token, 2))

    def hash_code(self, owner: UUID, code: str) -> str:
        """The keyed hash of a code mailed for `owner`, a row's id."""
        return self._digest(self._keys[0], f"code:{owner}:{code}")

    def matches_code(self, owner: UUID, code: str, code_hash: str) -> bool:
        """Whether `code_hash` is this code's, under any of the keys; takes the same time if not."""
        candidates = [self._digest(key, f"code:{owner}:{code}") for key in self._keys]
        return any([hmac.compare_digest(candidate, code_hash) for candidate in candidates])

    def hash_address(self, email: str) -> str:
        """A name for an address that does not give it away: who knows no key cannot tell whose."""
        return self._digest(self._keys[-1], f"address:{email.lower()}")

    @staticmethod
    def _digest(key: bytes, text: str) -> str:
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def make_code() -> str:
    """Six digits from the system's CSPRNG."""
    return f"{secrets.randbelow(1_000_000):06}"


def _pack(claims: Claims) -> list:
    return [claims.session_id.hex, claims.generation]


def _unpack(claims: list) -> Claims:
    session_id, generation = claims
    return Claims(UUID(session_id), generation)


def _load(serializer: URLSafeSerializer, token: str, length: int) -> list:
    """What the token carries: its signature vouches that we wrote it, so its types hold."""
    try:
        claims = serializer.loads(token)
    except (BadData, ValueError) as error:
        raise InvalidToken("not one of ours") from error
    if len(claims) != length:
        raise InvalidToken("of another shape")
    return claims


def init_app(app) -> None:
    """Sign with SECRET_KEY; verify with SECRET_KEY_FALLBACKS too."""
    app.extensions["tokens"] = Tokens(
        [app.config["SECRET_KEY"], *app.config["SECRET_KEY_FALLBACKS"]]
    )


tokens: Tokens = LocalProxy(lambda: current_app.extensions["tokens"])
