"""Ids that are not a plain UUIDv4: UUIDv8 (RFC 9562 §5.8), made by us."""

from hashlib import blake2b
from secrets import token_bytes
from uuid import UUID


def made_of(owner: UUID, name: str) -> UUID:
    """The id of what `owner` calls `name`: the same each time.

    Anybody who knows the two can make it too: only for what clients cannot choose the id of.
    """
    return from_digest(blake2b(name.encode(), key=owner.bytes, digest_size=16).digest())


def run_called(chat_id: UUID, name: str) -> UUID:
    """The id of the run that the chat's client calls `name`."""
    return made_of(chat_id, f"run {name}")


def run_of_key(user_id: UUID, key: str) -> UUID:
    """The id of the run that this user's key has started, or will."""
    return made_of(user_id, f"key {key}")


def from_digest(digest: bytes) -> UUID:
    """The id that stands for a digest of 16 bytes or more."""
    number = int.from_bytes(digest[:16]) & ~(0xF << 76 | 0b11 << 62)
    return UUID(int=number | 8 << 76 | 0b10 << 62)


def new_id() -> UUID:
    """A random id for a chat that was begun without one; `is_made` tells it from a client's."""
    return from_digest(token_bytes(16))


def is_made(its_id: UUID) -> bool:
    """Whether an id has the form of ours."""
    return its_id.version == 8
