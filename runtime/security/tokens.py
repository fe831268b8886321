"""Access, refresh and restoration tokens, and the keyed hash of a mailed code.

Each purpose has a salt of its own, so that none passes for another. Keys are a list, the newest
first: it signs, all verify. Tokens are signed, not encrypted: they name a user, a session and a
counter, and hold nothing secret. They are plain fields and a signature, with dots between: every
request reads one, and a payload of JSON would take four times as long.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import NamedTuple, cast
from uuid import UUID

from flask import current_app
from itsdangerous import BadData, BadSignature, Signer
from itsdangerous.encoding import base64_decode, base64_encode
from itsdangerous.signer import HMACAlgorithm
from werkzeug.local import LocalProxy

ACCESS_SECONDS = 3600
# Clocks of machines may differ by so much; no fresh token is refused for it.
LEEWAY_SECONDS = 30
# So many that came last are not verified again: a client sends the same one for an hour.
ACCESS_TOKENS_KEPT = 4096


class InvalidToken(Exception):
    """Not one of ours, altered, or run out."""


class Claims(NamedTuple):
    """What a token says: whose it is, its session, and how often that had been refreshed."""

    user_id: UUID
    session_id: UUID
    generation: int


class Tokens:
    """Makes and reads tokens with `keys`, the newest first."""

    def __init__(self, keys: Sequence[str]):
        self._keys = [key.encode() for key in keys]
        self._access = self._signer("access-token")
        self._refresh = self._signer("refresh-token")
        self._restoration = self._signer("email-restoration")
        # What a token says is the same every time: only whether that still holds must be asked.
        self._read_access = lru_cache(ACCESS_TOKENS_KEPT)(partial(_read, self._access))

    def _signer(self, salt: str) -> Signer:
        # itsdangerous takes the oldest key first, and would derive each from the salt every time.
        keys = [hashlib.sha256(f"{salt}signer".encode() + key).digest() for key in self._keys]
        return Signer(keys[::-1], key_derivation="none", algorithm=HMACAlgorithm(hashlib.sha256))

    def make_access(self, claims: Claims, issued_at: datetime) -> str:
        """An access token that is good for ACCESS_SECONDS from `issued_at`."""
        expires_at = issued_at + timedelta(seconds=ACCESS_SECONDS)
        return _sign(self._access, claims, int(expires_at.timestamp()))

    def read_access(self, token: str, now: datetime) -> Claims:
        """Raises InvalidToken when the token is not ours or ran out before `now`.

        The expiry is carried instead of the age: itsdangerous refuses an age below zero, which
        is every fresh token once a clock is set back.
        """
        claims, expires_at = self._read_access(token)
        if now.timestamp() > int(expires_at) + LEEWAY_SECONDS:
            raise InvalidToken("expired")
        return claims

    def make_refresh(self, claims: Claims) -> str:
        """The refresh token of these claims: the same bytes whenever it is made."""
        return _sign(self._refresh, claims)

    def read_refresh(self, token: str) -> Claims:
        """Raises InvalidToken when the token is not ours. It runs out with its session."""
        return _read(self._refresh, token)[0]

    def make_restoration(self, change_id: UUID) -> str:
        """The token that takes a change of address back; the row says whether it still may."""
        return self._restoration.sign(change_id.hex).decode()

    def read_restoration(self, token: str) -> UUID:
        """Raises InvalidToken when the token is not ours."""
        try:
            return UUID(_unsign(self._restoration, token))
        except (BadData, ValueError) as error:
            raise InvalidToken("not one of ours") from error

    def hash_code(self, owner: UUID, code: str) -> str:
        """The keyed hash of a code mailed for `owner`, a row's id."""
        return self._digest(self._keys[0], f"code:{owner}:{code}")

    def matches_code(self, owner: UUID, code: str, code_hash: str) -> bool:
        """Whether `code_hash` is this code's, under any of the keys; takes the same time if not."""
        candidates = [self._digest(key, f"code:{owner}:{code}") for key in self._keys]
        return any([hmac.compare_digest(candidate, code_hash) for candidate in candidates])

    def keyed_hash(self, text: str) -> str:
        """What stands for an address, a network or the like where it is not kept itself.

        Case makes no difference. Without a key it can neither be made nor tried. The oldest key
        makes it, so that a new one changes no hash; when that one is dropped all change.
        """
        return self._digest(self._keys[-1], f"address:{text.lower()}")

    def name_digests(self, name: str) -> list[bytes]:
        """Digests of a name, keyed: one for each key, the newest first."""
        return [bytes.fromhex(self._digest(key, f"name:{name}")) for key in self._keys]

    def hash_asked(self, email: str, username: str, network: str, password: str) -> str:
        """The keyed hash of a request to sign up: the same when the same person asks again.

        Without a key it tells nothing of the password. As `keyed_hash`.
        """
        asked = "\0".join((email.lower(), username.lower(), network, password))
        return self._digest(self._keys[-1], f"sign-up:{asked}")

    @staticmethod
    def _digest(key: bytes, text: str) -> str:
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def make_code() -> str:
    """Six digits from the system's CSPRNG."""
    return f"{secrets.randbelow(1_000_000):06}"


def _sign(signer: Signer, claims: Claims, *more: int) -> str:
    fields = (claims.user_id.hex, claims.session_id.hex, claims.generation, *more)
    return signer.sign(".".join(map(str, fields))).decode()


def _read(signer: Signer, token: str) -> tuple:
    """The claims, and what follows them as text."""
    try:
        user_id, session_id, generation, *more = _unsign(signer, token).split(".")
        return Claims(UUID(user_id), UUID(session_id), int(generation)), *more
    except (BadData, ValueError) as error:
        raise InvalidToken("not one of ours, or of an earlier release") from error


def _unsign(signer: Signer, token: str) -> str:
    """What was signed. Raises BadData.

    Of a signature there is one way to write it: base64's decoder skips what it does not know, and
    a token would be good, and kept, in any number of forms and of any length.
    """
    value = signer.unsign(token).decode()
    signature = token.rpartition(".")[2].encode()
    if base64_encode(base64_decode(signature)) != signature:
        raise BadSignature("written otherwise than we do")
    return value


def init_app(app) -> None:
    """Sign with SECRET_KEY; verify with SECRET_KEY_FALLBACKS too."""
    app.extensions["tokens"] = Tokens(
        [app.config["SECRET_KEY"], *app.config["SECRET_KEY_FALLBACKS"]]
    )


tokens = cast(Tokens, LocalProxy(lambda: current_app.extensions["tokens"]))
